"""XLand-MiniGrid: grid worlds whose rules are data, and those of MiniGrid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.adapters.spaces import observed_space
from purerl.envs.families import Family, check_member
from purerl.spaces import Box, Discrete
from purerl.types import Env, EnvStep, Key, PyTree

Environment: TypeAlias = Any
"""An `xminigrid.environment.Environment`."""


def from_xminigrid(env: Environment, params: PyTree) -> Env:
    """Wrap an environment of XLand-MiniGrid with its parameters, as `xminigrid.make` returns the two.

        terminated = last step ∧ discount = 0,   truncated = last step ∧ discount ≠ 0

    Args:
      env: the environment, without its `GymAutoResetWrapper`.
      params: its parameters, which are static in that library and so cannot be passed as `env_params`.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.
    """
    reset_shape = jax.eval_shape(lambda key: env.reset(params, key), jax.eval_shape(lambda: jax.random.key(0)))
    observed = reset_shape.observation
    symbolic = getattr(observed, "dtype", None) == jnp.uint8
    space = Box(0, _largest(), observed.shape, "uint8") if symbolic else observed_space(observed)

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        timestep = env.reset(params, key)
        return timestep.observation, _strong(timestep)

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        timestep = _strong(env.step(params, env_state, action))
        terminated = timestep.last() & (timestep.discount == 0)
        truncated = timestep.last() & ~terminated
        return EnvStep(timestep.observation, timestep, timestep.reward, terminated, truncated)

    def render(env_state: PyTree) -> np.ndarray:
        return np.asarray(env.render(params.replace(render_mode="rgb_array"), env_state), np.uint8)

    limit = None if params.max_steps is None else int(params.max_steps)
    return Env(reset, step, space, Discrete(env.num_actions(params)), render, limit)


def _largest() -> int:
    """The largest number of a tile or a colour."""
    from xminigrid.core import constants

    return max(constants.NUM_TILES, constants.NUM_COLORS) - 1


def _strong(timestep: PyTree) -> PyTree:
    """The same arrays, the reward and the discount as float32, never weakly typed."""
    return timestep.replace(
        reward=jax.lax.convert_element_type(timestep.reward, jnp.float32),
        discount=jax.lax.convert_element_type(timestep.discount, jnp.float32),
    )


def _make(name: str, **settings: Any) -> Env:
    import xminigrid

    check_member("xminigrid", name, _names())
    return from_xminigrid(*xminigrid.make(name, **settings))


def _names() -> Sequence[str]:
    import xminigrid

    return sorted(xminigrid.registered_environments())


FAMILY = Family(_make, _names, "xminigrid", "xminigrid", "grid worlds with rules", "MiniGrid-Empty-5x5")
