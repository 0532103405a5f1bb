"""One observation of any space as floats that a network can read."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.spaces import Dict, Discrete, MultiDiscrete, Space, Tuple, unit_of
from purerl.types import PyTree


def encode(obs: PyTree, space: Space) -> jax.Array:
    """One observation as float32: an image [H, W, C] keeps its shape, anything else becomes one vector.

    Integers of a discrete space become one-hot. Integers of a `Box` are divided by the largest magnitude of their
    bounds, so bytes of an image enter as [0, 1]; bounds of 2²⁴ or more count as none. Floats enter as they are: use
    `with_observation_normalization` for others than those of order one. The parts of a dict (except `action_mask`) or
    tuple are concatenated.

    Args:
      obs: one observation.
      space: its space.

    Returns:
      [H, W, C] or [D] float32.

    Examples:
      >>> from purerl.spaces import Box
      >>> encode(jnp.int32(1), Discrete(3)).tolist()
      [0.0, 1.0, 0.0]
      >>> encode(jnp.array([0, 255], jnp.uint8), Box(0, 255, (2,), "uint8")).tolist()
      [0.0, 1.0]
    """
    if isinstance(space, Discrete):
        return jax.nn.one_hot(obs, space.n, dtype=jnp.float32)
    if isinstance(space, MultiDiscrete):
        return jnp.concatenate([jax.nn.one_hot(obs[i], n, dtype=jnp.float32) for i, n in enumerate(space.num_values)])
    if isinstance(space, Dict):
        parts = [encode(obs[name], part).reshape(-1) for name, part in space.spaces if name != "action_mask"]
        return jnp.concatenate(parts)
    if isinstance(space, Tuple):
        return jnp.concatenate([encode(o, part).reshape(-1) for o, part in zip(obs, space.spaces)])
    obs = jnp.asarray(obs).astype(jnp.float32)
    unit = unit_of(space)
    obs = obs if unit is None else obs / unit
    return obs if obs.ndim == 3 else obs.reshape(-1)


def check_observation(obs: PyTree, space: Space, name: str = "obs") -> None:
    """Reject an observation of another structure or shape than the space's.

    Raises:
      ValueError: names the part, its shape and the shape expected.

    Examples:
      >>> from purerl.spaces import Box
      >>> check_observation(jnp.zeros((8, 3)), Box(-1.0, 1.0, (3,)))
      Traceback (most recent call last):
      ...
      ValueError: obs has shape (8, 3), but the network was built for (3,) (one example)
    """
    if isinstance(space, Dict):
        for part, inner in space.spaces:
            if part not in obs:
                raise ValueError(f"{name} has no entry {part!r}")
            check_observation(obs[part], inner, f"{name}[{part!r}]")
    elif isinstance(space, Tuple):
        for i, inner in enumerate(space.spaces):
            check_observation(obs[i], inner, f"{name}[{i}]")
    elif jnp.shape(obs) != space.shape:
        raise ValueError(
            f"{name} has shape {jnp.shape(obs)}, but the network was built for {space.shape} (one example)"
        )


def has_mask(space: Space) -> bool:
    """Whether observations name the allowed actions.

    Examples:
      >>> from purerl.spaces import Box
      >>> has_mask(Dict((("board", Discrete(9)), ("action_mask", Box(0, 1, (9,), "bool")))))
      True
    """
    return isinstance(space, Dict) and "action_mask" in space
