"""Environments around environments, `Env -> Env`: other observations, a time limit, repeated actions, stacked frames.

The same environment wrapped the same way is the same object again, so it compiles once.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.adapters.spaces import MASK, flat_observation, flat_space, stacked_space
from purerl.hparams import check_positive
from purerl.spaces import Box, Dict
from purerl.types import Env, EnvStep, PyTree


@functools.lru_cache(maxsize=None, typed=True)
def flatten(env: Env) -> Env:
    """Observations as one float32 vector: the leaves in the order of the space, integers of Discrete spaces one-hot.

    An `action_mask` at the top of a dict observation stays what it is; the observation is then
    `{"obs": vector, "action_mask": mask}`.

    Args:
      env: any environment.

    Raises:
      TypeError: a part of the observation space is none of the kinds in `types`.
    """
    space = env.observation_space

    def reset(key: jax.Array, env_params: Any = None) -> tuple[PyTree, Any]:
        obs, env_state = env.reset(key, env_params)
        return flat_observation(space, obs), env_state

    def step(key: jax.Array, env_state: Any, action: PyTree, env_params: Any = None) -> EnvStep:
        result = env.step(key, env_state, action, env_params)
        return result._replace(obs=flat_observation(space, result.obs))

    return env._replace(reset=reset, step=step, observation_space=flat_space(space))


@functools.lru_cache(maxsize=None, typed=True)
def select_observation(env: Env, indices: tuple[int, ...]) -> Env:
    """Observations with some of their elements only, so that the state must be inferred from what came before.

        obs'[i] = obs[indices[i]]

    Args:
      env: an environment whose observations are vectors of a `Box`.
      indices: the elements to keep, in this order.

    Raises:
      TypeError: the observations are no vectors.
      ValueError: no index, or one that is not in 0, ..., D − 1.
    """
    space = env.observation_space
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise TypeError(f"select_observation needs vectors for observations, got {space}")
    if not indices or not set(indices) <= set(range(space.shape[0])):
        raise ValueError(f"indices must be some of 0, ..., {space.shape[0] - 1}; got {indices}")
    kept = np.asarray(indices)
    low, high = (tuple(bound[kept].tolist()) for bound in space.bounds())

    def reset(key: jax.Array, env_params: Any = None) -> tuple[PyTree, Any]:
        obs, env_state = env.reset(key, env_params)
        return obs[kept], env_state

    def step(key: jax.Array, env_state: Any, action: PyTree, env_params: Any = None) -> EnvStep:
        result = env.step(key, env_state, action, env_params)
        return result._replace(obs=result.obs[kept])

    return env._replace(reset=reset, step=step, observation_space=Box(low, high, (len(indices),), space.dtype))


class TimeLimitState(NamedTuple):
    """State of the inner environment and number of steps since its reset."""

    env_state: Any
    time: jax.Array


@functools.lru_cache(maxsize=None, typed=True)
def with_state(env: Env) -> Env:
    """Observations that tell the whole state, for planners.

        obs' = {"obs": obs, "env_state": state of the environment, "env_params": its parameters}

    Networks see "obs" alone: it is what the observation space names.

    Args:
      env: any environment.
    """

    def reset(key: jax.Array, env_params: Any = None) -> tuple[PyTree, Any]:
        obs, env_state = env.reset(key, env_params)
        return {"obs": obs, "env_state": env_state, "env_params": env_params}, env_state

    def step(key: jax.Array, env_state: Any, action: PyTree, env_params: Any = None) -> EnvStep:
        result = env.step(key, env_state, action, env_params)
        obs = {"obs": result.obs, "env_state": result.env_state, "env_params": env_params}
        return result._replace(obs=obs)

    return env._replace(reset=reset, step=step, observation_space=Dict((("obs", env.observation_space),)))


@functools.lru_cache(maxsize=None, typed=True)
def time_limit(env: Env, num_steps: int) -> Env:
    """Cut every episode after `num_steps` steps:  truncated' = truncated ∨ (time ≥ num_steps ∧ ¬terminated).

    Steps are counted from the last reset. A limit of the environment's own stays in force.

    Args:
      env: any environment.
      num_steps: the limit, at least 1.

    Raises:
      ValueError: the limit is no integer of at least 1.
    """
    check_positive(num_steps=num_steps)

    def reset(key: jax.Array, env_params: Any = None) -> tuple[PyTree, TimeLimitState]:
        obs, env_state = env.reset(key, env_params)
        return obs, TimeLimitState(env_state, jnp.int32(0))

    def step(key: jax.Array, env_state: TimeLimitState, action: PyTree, env_params: Any = None) -> EnvStep:
        result = env.step(key, env_state.env_state, action, env_params)
        time = env_state.time + 1
        truncated = result.truncated | ((time >= num_steps) & ~result.terminated)
        return result._replace(env_state=TimeLimitState(result.env_state, time), truncated=truncated)

    return env._replace(reset=reset, step=step)


@functools.lru_cache(maxsize=None, typed=True)
def action_repeat(env: Env, num_steps: int) -> Env:
    """Take every action `num_steps` times, or until the episode ends: reward = Σ r[t], info = its mean.

    Args:
      env: any environment; its time limits count its own steps.
      num_steps: how often, at least 1.

    Raises:
      ValueError: `num_steps` is no integer of at least 1.
    """
    check_positive(num_steps=num_steps)

    def step(key: jax.Array, env_state: Any, action: PyTree, env_params: Any = None) -> EnvStep:
        keys = jax.random.split(key, num_steps)

        def again(result: EnvStep, key: jax.Array) -> tuple[EnvStep, tuple[PyTree, jax.Array]]:
            new = env.step(key, result.env_state, action, env_params)
            over = result.terminated | result.truncated
            total = new._replace(reward=result.reward + new.reward, info=())
            return jax.tree.map(lambda old, new: jnp.where(over, old, new), result, total), (new.info, ~over)

        first = env.step(keys[0], env_state, action, env_params)
        last, (info, taken) = jax.lax.scan(again, first._replace(info=()), keys[1:])
        count = 1 + taken.sum()
        mean = jax.tree.map(lambda one, more: (one + jnp.where(taken, more, 0).sum()) / count, first.info, info)
        return last._replace(info=mean)

    return env._replace(step=step)


class FrameStackState(NamedTuple):
    """State of the inner environment and the stacked observation."""

    env_state: Any
    frames: PyTree


@functools.lru_cache(maxsize=None, typed=True)
def frame_stack(env: Env, num_frames: int) -> Env:
    """Observations joined with the `num_frames - 1` before them along the last axis, oldest first.

        [..., d] becomes [..., num_frames * d],   a scalar becomes [num_frames]

    At a reset the first observation is repeated. The rank of arrays stays, so the same networks fit. Every leaf of
    a dict or tuple is stacked, but an `action_mask` at the top of a dict, which is that of the last observation.

    Args:
      env: any environment.
      num_frames: number of observations, at least 1.

    Raises:
      ValueError: `num_frames` is no integer of at least 1.
    """
    check_positive(num_frames=num_frames)

    def reset(key: jax.Array, env_params: Any = None) -> tuple[PyTree, FrameStackState]:
        obs, env_state = env.reset(key, env_params)
        frames = _unmasked(lambda leaf: jnp.concatenate([jnp.atleast_1d(leaf)] * num_frames, axis=-1), obs)
        return frames, FrameStackState(env_state, frames)

    def step(key: jax.Array, env_state: FrameStackState, action: PyTree, env_params: Any = None) -> EnvStep:
        result = env.step(key, env_state.env_state, action, env_params)
        frames = _unmasked(_push, result.obs, env_state.frames)
        return result._replace(obs=frames, env_state=FrameStackState(result.env_state, frames))

    return env._replace(reset=reset, step=step, observation_space=stacked_space(env.observation_space, num_frames))


def _unmasked(function: Any, obs: PyTree, *rest: PyTree) -> PyTree:
    """The function on every leaf, but for an action mask at the top, which is the newest one's."""
    if not isinstance(obs, dict) or MASK not in obs:
        return jax.tree.map(function, obs, *rest)
    parts = [{name: value for name, value in tree.items() if name != MASK} for tree in (obs, *rest)]
    return {**jax.tree.map(function, *parts), MASK: obs[MASK]}


def _push(leaf: jax.Array, frames: jax.Array) -> jax.Array:
    leaf = jnp.atleast_1d(leaf)
    return jnp.concatenate([frames[..., leaf.shape[-1] :], leaf], axis=-1)
