"""One observation of any space as floats that a network can read."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from purerl.networks.images import Features
from purerl.spaces import Dict, Discrete, MultiDiscrete, Space, Tuple, unit_of
from purerl.types import PyTree


def encode(obs: PyTree, space: Space) -> jax.Array:
    """One observation as float32: an image [H, W, C] keeps its shape, anything else becomes one vector.

    Integers of a discrete space become one-hot. Integers of a `Box`, and images of integers or floats, are divided by
    the largest magnitude of their bounds, so bytes of an image enter as [0, 1]; bounds of 2²⁴ or more count as none.
    Other floats enter as they are: use `with_observation_normalization` for those that are not of order one. The parts
    of a dict (except `action_mask`) or tuple are concatenated; `features` keeps the images among them.

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
    if isinstance(space, Dict | Tuple):
        return jnp.concatenate([part.reshape(-1) for part in _encoded_parts(obs, space)])
    obs = jnp.asarray(obs).astype(jnp.float32)
    unit = unit_of(space)
    obs = obs if unit is None else obs / unit
    return obs if obs.ndim == 3 else obs.reshape(-1)


def features(obs: PyTree, space: Space) -> Features:
    """One observation as `Torso` takes it: as `encode`, but the images in a dict or tuple keep their shape.

    Returns:
      [H, W, C] or [D]; for a dict or tuple with images those, followed by one vector of everything else.

    Examples:
      >>> from purerl.spaces import Box
      >>> space = Dict({"camera": Box(0, 255, (10, 10, 3), "uint8"), "speed": Box(-1.0, 1.0), "gear": Discrete(4)})
      >>> obs = {"camera": jnp.zeros((10, 10, 3), jnp.uint8), "speed": jnp.float32(1), "gear": jnp.int32(2)}
      >>> [part.shape for part in features(obs, space)]
      [(10, 10, 3), (5,)]
    """
    if not isinstance(space, Dict | Tuple):
        return encode(obs, space)
    parts = list(_encoded_parts(obs, space))
    images, rest = ([part for part in parts if (part.ndim == 3) == is_image] for is_image in (True, False))
    return (*images, *([jnp.concatenate(rest)] if rest else [])) if images else jnp.concatenate(rest)


def check_batch(obs: PyTree, space: Space, name: str = "obs") -> None:
    """As `check_observation`, for observations [B]."""
    check_observation(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), obs), space, name)


def batched_features(obs: PyTree, space: Space) -> jax.Array | None:
    """The features of observations [B] as vectors, [B, D]; None if there is an image among them."""
    check_batch(obs, space)
    x = jax.vmap(lambda obs: features(obs, space))(obs)
    return x if isinstance(x, jax.Array) and x.ndim == 2 else None


def _encoded_parts(obs: PyTree, space: Dict | Tuple) -> Iterator[jax.Array]:
    """The leaves of a dict, except its action mask, or of a tuple, each encoded."""
    if isinstance(space, Dict):
        inner = [(obs[name], part) for name, part in space.spaces if name != "action_mask"]
    else:
        inner = list(zip(obs, space.spaces, strict=True))
    for leaf, part in inner:
        yield from _encoded_parts(leaf, part) if isinstance(part, Dict | Tuple) else [encode(leaf, part)]


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
    elif np.shape(obs) != space.shape:
        raise ValueError(f"{name} has shape {np.shape(obs)}, but the network was built for {space.shape} (one example)")


def has_mask(space: Space) -> bool:
    """Whether observations name the allowed actions.

    Examples:
      >>> from purerl.spaces import Box
      >>> has_mask(Dict((("board", Discrete(9)), ("action_mask", Box(0, 1, (9,), "bool")))))
      True
    """
    return isinstance(space, Dict) and "action_mask" in space
