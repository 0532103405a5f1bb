"""Environments that run on the host, such as Gymnasium's, in the form in which `purerl.loops.host` drives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from purerl.envs.adapters.images import images_last, last_space
from purerl.envs.adapters.spaces import converted, from_purerl, to_purerl
from purerl.envs.families import Family
from purerl.hparams import check_positive
from purerl.spaces import Space
from purerl.types import Env, PyTree

VectorEnv: TypeAlias = Any
"""A `gymnasium.vector.VectorEnv`; Gymnasium is imported only if it is used."""
Column: TypeAlias = Any
"""A NumPy array [N]."""


class HostStep(NamedTuple):
    """The result of one step of N environments on the host: NumPy arrays that lead with [N] and share no memory.

    Attributes:
      obs: what the agent sees next: the first observation of the next episode where one ended.
      next_obs: the true successor, also where the episode ended.
      reward: float32.
      terminated, truncated: bool; at most one of them is set.
    """

    obs: PyTree
    next_obs: PyTree
    reward: Column
    terminated: Column
    truncated: Column


class HostEnv(NamedTuple):
    """N environments on the host that begin a new episode by themselves. Factories of agents take it for an `Env`.

    Attributes:
      reset: `(seed) -> obs`, leaves [N, ...].
      step: `(action) -> HostStep`, leaves [N, ...].
      close: `() -> None`.
      num_envs: N.
      observation_space, action_space: of one environment.
      max_steps: number of steps within which every episode ends; None if there is no limit or it is not known.
      id: the name that `envs.make` knows it by; empty if it has none.
      render: `() -> image`, of the present state of the first environment; None if it is not drawn.
    """

    reset: Callable[[int], PyTree]
    step: Callable[[PyTree], HostStep]
    close: Callable[[], None]
    num_envs: int
    observation_space: Space
    action_space: Space
    max_steps: int | None = None
    id: str = ""
    render: Callable[[], Any] | None = None


def from_gymnasium(env: str | VectorEnv, num_envs: int = 1, *, vectorization: str = "sync", **settings: Any) -> HostEnv:
    """Gymnasium environments for `purerl.loops.host`: true successors, and termination apart from time-out.

    A step that both terminates and truncates counts as terminated. Observations and actions are converted as
    `adapters.spaces.converted` says: integers are counted from 0, `MultiBinary` is a `MultiDiscrete`, numbers of 64
    bits become ones of 32 or, if they do not fit, float32. Images with their channels first, [C, H, W], are transposed
    to [H, W, C]. Actions of a `Box` are clipped to its bounds.

    Args:
      env: a name that Gymnasium knows, or a `gymnasium.vector.VectorEnv` made with `AutoresetMode.SAME_STEP`.
      num_envs: number of environments, N, of a name.
      vectorization: "sync" for all in this process, "async" for one process per environment, of a name.
      **settings: for `gymnasium.make_vec`, of a name: `map_name="8x8"`, `max_episode_steps=500`, or
        `render_mode="rgb_array"`, with which the environment can be drawn.

    Returns:
      A `HostEnv`.

    Raises:
      ValueError: `num_envs` is not positive; the vector environment resets in another way, or settings are given for
        it, which is made already.
      TypeError: a space has no counterpart here, or `env` is neither a name nor a vector environment.
    """
    from gymnasium import vector as vectors

    vector = _vector(env, num_envs, vectorization, settings) if isinstance(env, str) else env
    if not isinstance(vector, vectors.VectorEnv):
        raise TypeError(f"env must be a name or a gymnasium.vector.VectorEnv, got {type(env).__name__}")
    if vector is env:
        _check_made(vector, num_envs, settings)
    mode = vector.metadata.get("autoreset_mode")
    if mode != vectors.AutoresetMode.SAME_STEP:
        raise ValueError(f"the vector environment must be made with autoreset_mode=AutoresetMode.SAME_STEP, got {mode}")
    theirs, their_actions = vector.single_observation_space, vector.single_action_space
    plain, action_space = converted(theirs), converted(their_actions)
    observation_space = last_space(plain)

    def observed(obs: PyTree) -> PyTree:
        return images_last(plain, to_purerl(theirs, plain, obs))

    def reset(seed: int) -> PyTree:
        return observed(vector.reset(seed=seed)[0])

    def step(action: PyTree) -> HostStep:
        action = from_purerl(their_actions, action_space, jax.device_get(action))
        obs, reward, terminated, truncated, info = vector.step(action)
        return HostStep(
            observed(obs),
            observed(_successor(obs, info, terminated | truncated)),
            np.array(reward, np.float32),
            np.array(terminated),
            truncated & ~terminated,
        )

    drawn = getattr(vector, "render_mode", None) == "rgb_array"
    draw = (lambda: np.asarray(vector.render()[0])) if drawn else None  # type: ignore[index]
    spaces = observation_space, action_space
    return HostEnv(reset, step, vector.close, vector.num_envs, *spaces, _limit(vector, settings), render=draw)


def check_host(env: HostEnv) -> None:
    """Reject something that is not a `HostEnv`, such as a name or an environment of Gymnasium itself.

    Raises:
      TypeError: says what was given, and how to make a `HostEnv` of it.

    Examples:
      >>> check_host("CartPole-v1")
      Traceback (most recent call last):
      ...
      TypeError: env must be a HostEnv, got a value of type str; pass purerl.envs.from_gymnasium(name, num_envs)
    """
    if not isinstance(env, HostEnv):
        hint = "use purerl.train and purerl.evaluate" if isinstance(env, Env) else "pass purerl.envs.from_gymnasium"
        hint += "" if isinstance(env, Env) else "(name, num_envs)"
        raise TypeError(f"env must be a HostEnv, got a value of type {type(env).__name__}; {hint}")


def _check_made(vector: VectorEnv, num_envs: int, settings: dict[str, Any]) -> None:
    """Reject what only an environment that is made by its name could follow."""
    if settings:
        raise ValueError(f"{', '.join(settings)} is for environments by name: make the vector environment with it")
    if num_envs not in (1, vector.num_envs):
        raise ValueError(f"num_envs = {num_envs}, but the vector environment has {vector.num_envs}: leave num_envs out")


def _limit(vector: VectorEnv, settings: dict[str, Any]) -> int | None:
    """The limit of steps: that among the settings, where -1 means none, or else the one that is registered."""
    given = settings.get("max_episode_steps")
    limit = getattr(vector.spec, "max_episode_steps", None) if given is None else given
    return None if limit == -1 else limit


def _vector(env_id: str, num_envs: int, vectorization: str, settings: dict[str, Any]) -> VectorEnv:
    import gymnasium

    check_positive(num_envs=num_envs)
    same_step = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(env_id, num_envs, vectorization, same_step, **settings)


def _successor(obs: PyTree, info: dict[str, Any], done: Column) -> PyTree:
    """The observations with those of ended episodes put back, which Gymnasium keeps in its info."""
    if "final_obs" not in info:
        return obs
    obs = jax.tree.map(np.array, obs)
    ended: Any = info.get("_final_obs", done)  # the Arcade Learning Environment gives no mask
    for i in np.flatnonzero(ended):
        jax.tree.map(lambda batch, last: batch.__setitem__(i, last), obs, info["final_obs"][i])  # noqa: B023
    return obs


def _make(name: str, *, num_envs: int = 1, **settings: Any) -> HostEnv:
    """The environment of that name in Gymnasium's registry; settings are those of `gymnasium.make_vec`.

    Raises:
      ValueError: there is none, or no longer in this version.
      ModuleNotFoundError: what it needs beside Gymnasium is missing.
    """
    from gymnasium import error

    try:
        return from_gymnasium(name, num_envs, **settings)
    except (error.UnregisteredEnv, error.DeprecatedEnv) as unknown:
        raise ValueError(f"gymnasium/{name}: {unknown}") from unknown
    except error.DependencyNotInstalled as missing:
        hint = "for LunarLander and BipedalWalker: pip install 'purerl[box2d]'"
        raise ModuleNotFoundError(f"gymnasium/{name}: {missing}; {hint}") from missing


def _names() -> Sequence[str]:
    import gymnasium

    return sorted(gymnasium.registry)


_DRAWN = {"render_mode": "rgb_array"}
FAMILY = Family(_make, _names, "gymnasium", "gymnasium", "Gymnasium's registry", "LunarLander-v3", True, _DRAWN)
