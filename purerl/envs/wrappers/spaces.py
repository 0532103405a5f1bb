"""The effect of wrappers on spaces, and on the observations in them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.adapters.spaces import compact_bound
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from purerl.types import PyTree

MASK = "action_mask"  # the entry of a dict observation that says which actions are valid: never flattened or stacked


def flat_observation(space: Space, obs: PyTree) -> PyTree:
    """The observation as one float32 vector, with an action mask at the top of a dict kept apart."""
    if isinstance(space, Dict) and MASK in space:
        return {"obs": _flat(_without_mask(space), obs), MASK: obs[MASK]}
    return _flat(space, obs)


def flat_space(space: Space) -> Space:
    """The space of `flat_observation`.

    Raises:
      TypeError: a part is none of the kinds in `types`.

    Examples:
      >>> flat_space(Dict((("position", Box(-1.0, 1.0, (2,))), ("door", Discrete(3))))).shape
      (5,)
    """
    if isinstance(space, Dict) and MASK in space:
        return Dict((("obs", flat_space(_without_mask(space))), (MASK, space[MASK])))
    low, high = _flat_bounds(space)
    return Box(compact_bound(low), compact_bound(high), (low.size,))


def stacked_space(space: Space, num_frames: int) -> Space:
    """The space of `num_frames` observations joined along the last axis, an action mask at the top of a dict kept.

    Examples:
      >>> stacked_space(Box(0, 255, (84, 84, 1), "uint8"), 4).shape
      (84, 84, 4)
    """
    if isinstance(space, Dict):
        return Dict(tuple((name, part if name == MASK else _stacked(part, num_frames)) for name, part in space.spaces))
    return _stacked(space, num_frames)


def _flat(space: Space, obs: PyTree) -> jax.Array:
    if isinstance(space, Dict):
        return jnp.concatenate([_flat(part, obs[name]) for name, part in space.spaces])
    if isinstance(space, Tuple):
        return jnp.concatenate([_flat(part, leaf) for part, leaf in zip(space.spaces, obs, strict=True)])
    if isinstance(space, MultiDiscrete):
        return jnp.concatenate([jax.nn.one_hot(obs[i], n, dtype=jnp.float32) for i, n in enumerate(space.num_values)])
    if isinstance(space, Discrete):
        return jax.nn.one_hot(obs, space.n, dtype=jnp.float32)
    return jnp.ravel(obs).astype(jnp.float32)


def _flat_bounds(space: Space) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(space, Dict | Tuple):
        parts = [part for _, part in space.spaces] if isinstance(space, Dict) else space.spaces
        lows, highs = zip(*map(_flat_bounds, parts))
        return np.concatenate(lows), np.concatenate(highs)
    if isinstance(space, Box):
        low, high = space.bounds()
        return low.astype(np.float64).ravel(), high.astype(np.float64).ravel()
    if isinstance(space, Discrete | MultiDiscrete):
        size = space.n if isinstance(space, Discrete) else sum(space.num_values)
        return np.zeros(size), np.ones(size)
    raise TypeError(f"cannot flatten a space of type {type(space).__name__}")


def _without_mask(space: Dict) -> Dict:
    return Dict(tuple((name, part) for name, part in space.spaces if name != MASK))


def _stacked(space: Space, num_frames: int) -> Space:
    if isinstance(space, Dict):
        return Dict(tuple((name, _stacked(part, num_frames)) for name, part in space.spaces))
    if isinstance(space, Tuple):
        return Tuple(tuple(_stacked(part, num_frames) for part in space.spaces))
    if isinstance(space, Discrete):
        return MultiDiscrete((space.n,) * num_frames, space.dtype)
    if isinstance(space, MultiDiscrete):
        return MultiDiscrete(space.num_values * num_frames, space.dtype)
    low, high = (np.concatenate([np.atleast_1d(bound)] * num_frames, axis=-1) for bound in space.bounds())
    return Box(compact_bound(low), compact_bound(high), low.shape, space.dtype)
