"""`purerl.sweep.search` over a table of PPO trials x seeds, with the settings of rejax.

Those are: the initial parameters (flax's default), no limit on gradients, Adam's epsilon, and a time limit that ends
an episode as a failure does.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from serving import Built

import purerl
from benchmarks.peers.flax_weights import FlaxWeights
from purerl import sweep
from purerl.types import Env, EnvStep


def ending_at_the_limit(env: Env) -> Env:
    """The environment with its time limit as a termination."""

    def step(key: jax.Array, state: Any, action: jax.Array, env_params: Any = None) -> EnvStep:
        result = env.step(key, state, action, env_params)
        return result._replace(terminated=result.terminated | result.truncated, truncated=jnp.bool_(False))

    return env._replace(step=step)


def search(workload: dict[str, Any]) -> Built:
    """One search a run; the returns of the greedy episodes [run, trial, seed, episode] are written each time."""
    purerl.distributed.use_all_cores()
    table = {name: jnp.asarray(column) for name, column in np.load(workload["table"]).items()}
    env = ending_at_the_limit(purerl.envs.make("CartPole-v1"))
    network = FlaxWeights(purerl.networks.actor_critic(env))
    agent = purerl.ppo(network, optimizer=lambda hparams: optax.adam(hparams.learning_rate))
    shape = table["learning_rate"].shape
    hparams = jax.tree.map(lambda value: jnp.full(shape, value, jnp.float32), purerl.PPOHparams())
    hparams = hparams._replace(
        learning_rate=table["learning_rate"],
        gae_lambda=table["gae_lambda"],
        clip_epsilon=table["clip_eps"],
        value_clip_epsilon=table["clip_eps"],
        entropy_coef=table["ent_coef"],
    )
    sizes = {name: workload[name] for name in ("num_seeds", "num_updates", "num_envs", "rollout_length")}
    runs: list[np.ndarray] = []

    def run(seed: int) -> None:
        key = jax.random.key(seed)
        options = sizes | {"eval_episodes": workload["episodes"], "eval_max_steps": 500, "num_chunks": 4, "keep": 1}
        runs.append(sweep.search(key, agent, env, hparams, **options).returns)
        np.save(f"{workload['output']}/purerl.npy", runs)

    return Built(run, float(shape[0] * np.prod(list(sizes.values()))))
