"""Images with their channels first, [C, H, W], as [H, W, C]."""

from __future__ import annotations

import numpy as np

from purerl.envs.adapters.spaces import compact_bound
from purerl.spaces import Box, Dict, Space, Tuple, has_channels_first
from purerl.types import PyTree


def last_space(space: Space) -> Space:
    """The space with every image [C, H, W] as [H, W, C]; anything else as it is.

    Examples:
      >>> last_space(Box(0, 255, (4, 84, 84), "uint8")).shape
      (84, 84, 4)
    """
    if isinstance(space, Dict):
        return Dict(tuple((name, last_space(part)) for name, part in space.spaces))
    if isinstance(space, Tuple):
        return Tuple(tuple(map(last_space, space.spaces)))
    if not has_channels_first(space):
        return space
    assert isinstance(space, Box)
    low, high = (np.moveaxis(bound, 0, -1) for bound in space.bounds())
    return Box(compact_bound(low), compact_bound(high), low.shape, space.dtype)


def images_last(space: Space, obs: PyTree) -> PyTree:
    """Observations, leaves [..., *shape], with every image [..., C, H, W] that the space names as [..., H, W, C].

    Examples:
      >>> images_last(Box(0, 255, (4, 84, 84), "uint8"), np.zeros((7, 4, 84, 84), np.uint8)).shape
      (7, 84, 84, 4)
    """
    if isinstance(space, Dict):
        return obs | {name: images_last(part, obs[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(images_last(part, leaf) for part, leaf in zip(space.spaces, obs, strict=True))
    return np.moveaxis(obs, -3, -1) if has_channels_first(space) else obs
