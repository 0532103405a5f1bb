"""Environments that run on the host, such as Gymnasium's, in the form in which `purerl.loops.host` drives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl.envs.adapters.spaces import converted
from purerl.hparams import check_positive
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from purerl.types import PyTree


class HostStep(NamedTuple):
    """What one step of N environments on the host returns, NumPy arrays that lead with [N].

    Attributes:
      obs: what the agent sees next: the first observation of the next episode where one ended.
      next_obs: the true successor, also where the episode ended.
      reward: float32.
      terminated, truncated: bool; at most one of them is set.
    """

    obs: PyTree
    next_obs: PyTree
    reward: Any
    terminated: Any
    truncated: Any


class HostEnv(NamedTuple):
    """N environments on the host that begin a new episode by themselves. Factories of agents take it for an `Env`.

    Attributes:
      reset: `(seed) -> obs`, leaves [N, ...].
      step: `(action) -> HostStep`, leaves [N, ...].
      close: `() -> None`.
      num_envs: N.
      observation_space, action_space: of one environment.
    """

    reset: Callable[[int], PyTree]
    step: Callable[[PyTree], HostStep]
    close: Callable[[], None]
    num_envs: int
    observation_space: Space
    action_space: Space


def from_gymnasium(env: Any, num_envs: int = 1, *, vectorization: str = "sync", **settings: Any) -> HostEnv:
    """Gymnasium environments for `purerl.loops.host`: true successors, and termination apart from time-out.

    Where a step both terminates and truncates it counts as terminated. Numbers of 64 bits become ones of 32, and
    actions of a `Box` are clipped to its bounds.

    Args:
      env: a name that Gymnasium knows, or a `gymnasium.vector.VectorEnv` made with `AutoresetMode.SAME_STEP`.
      num_envs: number of environments, N, of a name.
      vectorization: "sync" for all in this process, "async" for a process each, of a name.
      **settings: for `gymnasium.make_vec`, of a name: `map_name="8x8"`, `max_episode_steps=500`.

    Returns:
      A `HostEnv`.

    Raises:
      ValueError: `num_envs` is not positive, or the vector environment resets in another way.
      TypeError: a space has no counterpart here.
    """
    from gymnasium.vector import AutoresetMode

    vector = _make(env, num_envs, vectorization, settings) if isinstance(env, str) else env
    mode = vector.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(f"the vector environment must be made with autoreset_mode=AutoresetMode.SAME_STEP, got {mode}")
    observation_space = converted(vector.single_observation_space)
    action_space = converted(vector.single_action_space)

    def reset(seed: int) -> PyTree:
        return _cast(observation_space, vector.reset(seed=seed)[0])

    def step(action: PyTree) -> HostStep:
        obs, reward, terminated, truncated, info = vector.step(_clip(action_space, jax.device_get(action)))
        next_obs = _successor(obs, info)
        return HostStep(
            _cast(observation_space, obs),
            _cast(observation_space, next_obs),
            np.asarray(reward, np.float32),
            terminated,
            truncated & ~terminated,
        )

    return HostEnv(reset, step, vector.close, vector.num_envs, observation_space, action_space)


def _make(env_id: str, num_envs: int, vectorization: str, settings: dict[str, Any]) -> Any:
    import gymnasium

    check_positive(num_envs=num_envs)
    same_step = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(env_id, num_envs, vectorization, same_step, **settings)


def _successor(obs: PyTree, info: dict[str, Any]) -> PyTree:
    """The observations with those of ended episodes put back, which Gymnasium keeps in its info."""
    if "final_obs" not in info:
        return obs
    obs = jax.tree.map(np.array, obs)
    for i in np.flatnonzero(info["_final_obs"]):
        jax.tree.map(lambda batch, last: batch.__setitem__(i, last), obs, info["final_obs"][i])  # noqa: B023
    return obs


def _cast(space: Space, value: PyTree) -> PyTree:
    if isinstance(space, Dict):
        return {name: _cast(part, value[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(_cast(part, leaf) for part, leaf in zip(space.spaces, value, strict=True))
    assert isinstance(space, Box | Discrete | MultiDiscrete)
    return np.asarray(value, space.dtype)


def _clip(space: Space, action: PyTree) -> PyTree:
    return np.clip(action, *space.bounds()) if isinstance(space, Box) else action
