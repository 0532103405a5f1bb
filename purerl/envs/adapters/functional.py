"""Gymnasium's functional API, whose environments in JAX need no host."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.adapters.spaces import converted
from purerl.envs.checking import cast_obs
from purerl.envs.wrappers import time_limit
from purerl.spaces import clip_action
from purerl.types import Env, EnvStep, Key, PyTree

FuncEnv: TypeAlias = Any
"""A `gymnasium.experimental.functional.FuncEnv` whose functions are written in JAX."""

Foreign: TypeAlias = Any
"""A space of `gymnasium.spaces`."""


def from_functional(env: FuncEnv, max_steps: int | None = None, params: PyTree = None) -> Env:
    """Wrap an environment of Gymnasium's functional API.

        s' = transition(s, a),   reward = reward(s, a, s'),   terminated = terminal(s'),   obs = observation(s')

    The API knows no time limit; `max_steps` truncates. Integers of a space that starts elsewhere are counted from 0.

    Args:
      env: a `FuncEnv` in JAX, such as `gymnasium.envs.phys2d.cartpole.CartPoleFunctional()`.
      max_steps: number of steps of an episode; None for no limit.
      params: its parameters if a call passes no `env_params`; None for `env.default_params`.

    Returns:
      An `Env`. A new one in every call without `max_steps`, so keep it: environments compare by identity.
    """
    defaults = env.default_params if params is None else params
    observation_space, action_space = converted(env.observation_space), converted(env.action_space)
    as_ours, as_theirs = _start(env.observation_space), _start(env.action_space)

    def observe(state: PyTree, key: Key, given: PyTree) -> PyTree:
        obs = env.observation(state, key, given)
        return cast_obs(observation_space, obs - as_ours if as_ours.any() else obs)

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        given = defaults if env_params is None else env_params
        state_key, obs_key = jax.random.split(key)
        state = env.initial(state_key, given)
        return observe(state, obs_key, given), state

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        given = defaults if env_params is None else env_params
        keys = jax.random.split(key, 4)
        action = clip_action(action, action_space)
        action = action + as_theirs if as_theirs.any() else action
        state = env.transition(env_state, action, keys[0], given)
        reward = jnp.asarray(env.reward(env_state, action, state, keys[1], given), jnp.float32).reshape(())
        terminated = jnp.asarray(env.terminal(state, keys[2], given), bool).reshape(())
        return EnvStep(observe(state, keys[3], given), state, reward, terminated, jnp.zeros_like(terminated))

    made = Env(reset, step, observation_space, action_space)
    return made if max_steps is None else time_limit(made, max_steps)


def _start(space: Foreign) -> np.ndarray:
    """The smallest integers of a `Discrete` or `MultiDiscrete` space, which are 0 here; 0 for other spaces."""
    return np.asarray(getattr(space, "start", 0))
