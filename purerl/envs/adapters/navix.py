"""NAVIX: MiniGrid's grid worlds in JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.families import Family, check_member
from purerl.spaces import Box, Discrete
from purerl.types import Env, EnvStep, Key, PyTree

Environment: TypeAlias = Any
"""A `navix.Environment`."""

_LARGEST = 10  # of the numbers of entities, colours and states; the library declares 8 or 255


def from_navix(env: Environment) -> Env:
    """Wrap an environment of NAVIX.

    `step` is the environment's own without its reset, so the successor is the true one. A step that reaches the goal at
    the limit terminates. Integers of symbolic observations and pixels are uint8, as the library declares them.

    The sprites of the background, which only observations of pixels need, are left out of the state otherwise.

    Args:
      env: a `navix.Environment`, such as `navix.make(name)`.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.
    """
    from navix import observations

    with_pixels = env.observation_fn in (observations.rgb, observations.rgb_first_person)
    whole = jax.jit(env.reset)
    sprites = None if with_pixels else whole(jax.random.key(0)).state.cache
    observed = jax.eval_shape(whole, jax.eval_shape(lambda: jax.random.key(0))).observation
    largest = 255 if with_pixels else _LARGEST
    space = Box(0, largest, observed.shape, observed.dtype.name)

    def kept(timestep: PyTree) -> PyTree:
        """The state without sprites, which never change within an episode."""
        return timestep if with_pixels else timestep.replace(state=timestep.state.replace(cache=None))

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        timestep = env.reset(key)
        return timestep.observation, kept(timestep)

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        if not with_pixels:
            env_state = env_state.replace(state=env_state.state.replace(cache=sprites))
        timestep = env._step(env_state, action)
        reward, terminated = jnp.asarray(timestep.reward, jnp.float32), timestep.is_termination()
        return EnvStep(timestep.observation, kept(timestep), reward, terminated, timestep.is_truncation())

    return Env(reset, step, space, Discrete(len(env.action_set)), _render, int(env.max_steps))


def _render(env_state: PyTree) -> np.ndarray:
    """The whole grid in MiniGrid's sprites, enlarged four times to 32 pixels a cell."""
    from navix import observations
    from navix.rendering.cache import RenderingCache

    state = env_state.state
    small = np.asarray(observations.rgb(state.replace(cache=RenderingCache.init(state.grid))), np.uint8)
    return small.repeat(4, axis=0).repeat(4, axis=1)


def _make(name: str, *, observation: str = "symbolic", **settings: Any) -> Env:
    """`observation` is the name of a function in `navix.observations`: "symbolic_first_person", "rgb", ..."""
    import navix

    check_member("navix", name, _names())
    check_member("navix.observations", observation, [each for each in dir(navix.observations) if each[0] != "_"])
    return from_navix(navix.make(name, observation_fn=getattr(navix.observations, observation), **settings))


def _names() -> Sequence[str]:
    import navix

    return sorted(navix.registry())


FAMILY = Family(_make, _names, "navix", "navix", "MiniGrid's grid worlds", "Navix-Empty-5x5-v0")
