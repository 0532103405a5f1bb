"""Worker of gymnax's side: steps with random actions, by its own `step`, which resets what has ended."""

from __future__ import annotations

from typing import Any

import gymnax
import jax
import pieces
from compiling import compiled
from serving import Built, serve


def rollout(workload: dict[str, Any]) -> Built:
    """`vmap` of `env.step` under `lax.scan`, as its documentation has it; the sum of all that comes out is kept."""
    env, params = gymnax.make(workload["env"])
    num_envs, length = workload["num_envs"], workload["length"]

    def step(carry: Any, key: jax.Array) -> Any:
        action_key, step_key = jax.random.split(key)
        actions = jax.vmap(env.action_space(params).sample)(jax.random.split(action_key, num_envs))
        keys = jax.random.split(step_key, num_envs)
        obs, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, carry[1], actions, params)
        return (obs, state), (carry[0], reward)

    def run(key: jax.Array) -> jax.Array:
        reset_key, key = jax.random.split(key)
        carry = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, num_envs), params)
        return pieces.checksum(jax.lax.scan(step, carry, jax.random.split(key, length))[1])

    program, facts = compiled(run, lambda seed: (jax.random.key(seed),))
    return Built(program, num_envs * length, None, facts)


if __name__ == "__main__":
    serve({"rollout": rollout})
