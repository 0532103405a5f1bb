"""Wrappers that change observations: flattened, selected, stacked, or with the whole state.

The same environment wrapped the same way is the same object again, so it compiles once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.adapters.images import images_last, last_space
from purerl.envs.wrappers.inner import check_inner, check_order
from purerl.envs.wrappers.rendering import inner_render
from purerl.envs.wrappers.spaces import MASK, flat_observation, flat_space, stacked_space
from purerl.hparams import check_positive
from purerl.once import build_once
from purerl.spaces import Box, Dict, Space, Tuple
from purerl.types import Env, EnvStep, Key, PyTree


@build_once
def flatten(env: Env) -> Env:
    """Observations as one float32 vector: the leaves in the order of the space, integers of Discrete spaces one-hot.

    Integers of a `Box` become floats of the same value, which networks do not scale, unlike bytes of an image that is
    not flattened.

    An `action_mask` at the top of a dict observation is kept as it is; the observation is then
    `{"obs": vector, "action_mask": mask}`.

    Args:
      env: any environment in JAX, except one of `with_state`, which must be the outermost wrapper.

    Raises:
      TypeError: a part of the observation space is none of the kinds in `types`, or the environment runs on the host.

    Examples:
      >>> from purerl import envs, mdp
      >>> env = flatten(envs.from_mdp(mdp.gridworld_3x4(), max_steps=20))
      >>> env.observation_space.shape
      (11,)
    """
    check_inner(env, "flatten")
    space = env.observation_space

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        obs, env_state = env.reset(key, env_params)
        check_order(obs, env.observation_space, "flatten")
        return flat_observation(space, obs), env_state

    def step(key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None) -> EnvStep:
        result = env.step(key, env_state, action, env_params)
        return result._replace(obs=flat_observation(space, result.obs))

    return env._replace(reset=reset, step=step, observation_space=flat_space(space))


@build_once
def select_observation(env: Env, indices: tuple[int, ...]) -> Env:
    """Observations with some of their elements only, so that the state must be inferred from earlier observations.

        obs'[i] = obs[indices[i]]

    Args:
      env: an environment whose observations are vectors of a `Box`.
      indices: the elements to keep, in this order.

    Raises:
      TypeError: the observations are not vectors.
      ValueError: no index, or one that is not an integer in 0, ..., D − 1.

    Examples:
      >>> from purerl import envs
      >>> select_observation(envs.traffic_light(), (0, 1, 2, 3)).observation_space.shape
      (4,)
    """
    check_inner(env, "select_observation")
    space = env.observation_space
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise TypeError(f"select_observation needs observations that are vectors, got {space}")
    numbers = all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in indices)
    if not indices or not numbers or not set(indices) <= set(range(space.shape[0])):
        raise ValueError(f"indices must be some of 0, ..., {space.shape[0] - 1}; got {indices}")
    kept = np.asarray(indices)
    low, high = (tuple(bound[kept].tolist()) for bound in space.bounds())

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        obs, env_state = env.reset(key, env_params)
        return obs[kept], env_state

    def step(key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None) -> EnvStep:
        result = env.step(key, env_state, action, env_params)
        return result._replace(obs=result.obs[kept])

    return env._replace(reset=reset, step=step, observation_space=Box(low, high, (len(indices),), space.dtype))


@build_once
def channels_last(env: Env) -> Env:
    """Observations with every image [C, H, W] as [H, W, C], which is how networks take them; others stay as they are.

    Args:
      env: any environment. An image counts as [C, H, W] if it has at most 12 channels and longer sides.

    Examples:
      >>> from purerl import envs
      >>> channels_last(envs.endless()).observation_space == envs.endless().observation_space
      True
    """
    check_inner(env, "channels_last")
    space = env.observation_space

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        obs, env_state = env.reset(key, env_params)
        return images_last(space, obs), env_state

    def step(key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None) -> EnvStep:
        result = env.step(key, env_state, action, env_params)
        return result._replace(obs=images_last(space, result.obs))

    return env._replace(reset=reset, step=step, observation_space=last_space(space))


@build_once
def with_state(env: Env) -> Env:
    """Observations that contain the whole state, for planners.

        obs' = {"obs": obs, "env_state": state of the environment, "env_params": its parameters}

    Networks see only "obs", which is all that the observation space names. Wrappers with a state of their own, such as
    `time_limit` and `frame_stack`, come inside this one, so that the planner is shown their state too.

    Args:
      env: any environment.

    Examples:
      >>> from purerl import envs
      >>> obs, env_state = with_state(envs.endless()).reset(jax.random.key(0))
      >>> sorted(obs)
      ['env_params', 'env_state', 'obs']
    """
    check_inner(env, "with_state")

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        obs, env_state = env.reset(key, env_params)
        return {"obs": obs, "env_state": env_state, "env_params": env_params}, env_state

    def step(key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None) -> EnvStep:
        result = env.step(key, env_state, action, env_params)
        obs = {"obs": result.obs, "env_state": result.env_state, "env_params": env_params}
        return result._replace(obs=obs)

    return env._replace(reset=reset, step=step, observation_space=Dict((("obs", env.observation_space),)))


class FrameStackState(NamedTuple):
    """State of the inner environment and the stacked observation."""

    env_state: PyTree
    frames: PyTree


@build_once
def frame_stack(env: Env, num_frames: int) -> Env:
    """Observations joined with the `num_frames - 1` before them along the last axis, oldest first.

        [..., d] becomes [..., num_frames * d],   a scalar becomes [num_frames]

    At a reset the first observation is repeated. The rank of arrays is unchanged, so the same networks fit. Every leaf
    of a dict or tuple is stacked, except an `action_mask` at the top of a dict and what the observation space does not
    name, which are the last observation's.

    Args:
      env: any environment in JAX, except one of `with_state`, which must be the outermost wrapper.
      num_frames: number of observations, at least 1.

    Raises:
      TypeError: the environment runs on the host.
      ValueError: `num_frames` is not an integer of at least 1.

    Examples:
      >>> from purerl import envs
      >>> frame_stack(envs.endless(), 4).observation_space.shape
      (4,)
    """
    check_inner(env, "frame_stack")
    check_positive(num_frames=num_frames)

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, FrameStackState]:
        obs, env_state = env.reset(key, env_params)
        check_order(obs, env.observation_space, "frame_stack")
        frames = _unmasked(env.observation_space, functools.partial(_repeat, num_frames), obs)
        return frames, FrameStackState(env_state, frames)

    def step(key: Key, env_state: FrameStackState, action: PyTree, env_params: PyTree = None) -> EnvStep:
        result = env.step(key, env_state.env_state, action, env_params)
        frames = _unmasked(env.observation_space, _push, result.obs, env_state.frames)
        return result._replace(obs=frames, env_state=FrameStackState(result.env_state, frames))

    space = stacked_space(env.observation_space, num_frames)
    return env._replace(reset=reset, step=step, observation_space=space, render=inner_render(env))


def _unmasked(space: Space, function: Callable[..., jax.Array], obs: PyTree, *rest: PyTree) -> PyTree:
    """The function applied to every leaf that the space names, except an action mask at the top."""
    if isinstance(space, Dict) and MASK in space:
        space = Dict({name: part for name, part in space.spaces if name != MASK})
    return _named(space, function, obs, *rest)


def _named(space: Space, function: Callable[..., jax.Array], obs: PyTree, *rest: PyTree) -> PyTree:
    """The function applied to every leaf that the space names; the others are those of `obs`."""
    if isinstance(space, Dict):
        parts = {name: (part, obs[name], *(each[name] for each in rest)) for name, part in space.spaces}
        return obs | {name: _named(part, function, *leaves) for name, (part, *leaves) in parts.items()}
    if isinstance(space, Tuple):
        return tuple(_named(part, function, *leaves) for part, *leaves in zip(space.spaces, obs, *rest, strict=True))
    return function(obs, *rest)


def _repeat(num_frames: int, leaf: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.atleast_1d(leaf)] * num_frames, axis=-1)


def _push(leaf: jax.Array, frames: jax.Array) -> jax.Array:
    """[..., num_frames * d] and [..., d] to [..., num_frames * d]: the oldest frame leaves, the newest joins."""
    leaf = jnp.atleast_1d(leaf)
    return jnp.concatenate([frames[..., leaf.shape[-1] :], leaf], axis=-1)
