"""Brax: rigid bodies under forces, as in MuJoCo's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl.envs.adapters.spaces import observed_space
from purerl.envs.families import Family, check_member
from purerl.envs.wrappers import time_limit
from purerl.spaces import Box
from purerl.types import Env, EnvStep, Key, PyTree

Environment: TypeAlias = Any
"""A `brax.envs.Env`, or anything with its `reset(key) -> State` and `step(State, action) -> State`."""


def from_brax(env: Environment) -> Env:
    """Wrap an environment with the interface of brax, such as one of MuJoCo Playground.

        terminated = `State.done`,   truncated = false,   info = the scalars of `State.metrics`

    Actions are clipped to [−1, 1]. The environment must be bare: brax's `EpisodeWrapper` and `AutoResetWrapper` hide
    the true successor. Its limit of steps is a wrapper too; `envs.time_limit(env, 1000)` takes its place.

    Args:
      env: a `brax.envs.Env` or a `mujoco_playground.MjxEnv`.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.
    """
    observed = jax.eval_shape(lambda key: env.reset(key).obs, jax.eval_shape(lambda: jax.random.key(0)))

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return state.obs, state

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        state = env.step(env_state, jnp.clip(action, -1.0, 1.0))
        done = jnp.asarray(state.done, bool)
        info = {name: value for name, value in state.metrics.items() if jnp.ndim(value) == 0}
        return EnvStep(state.obs, state, jnp.asarray(state.reward, jnp.float32), done, jnp.zeros_like(done), info or ())

    return Env(reset, step, observed_space(observed), Box(-1.0, 1.0, (int(env.action_size),)))


def _make(name: str, *, max_steps: int = 1000, **settings: Any) -> Env:
    from brax import envs

    check_member("brax", name, _names())
    return time_limit(from_brax(envs.get_environment(name, **settings)), max_steps)


def _names() -> Sequence[str]:
    from brax import envs

    return sorted(envs._envs)


FAMILY = Family(_make, _names, "brax", "brax", "rigid bodies", "ant")
