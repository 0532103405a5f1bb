"""Convolutions of the default networks: MinAtar's, that of DQN on 84 x 84 pixels, and IMPALA's residual one."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.networks.initializers import orthogonal
from purerl.networks.products import product
from purerl.spaces import Box, Dict, Space, Tuple, has_channels_first

Convolution: TypeAlias = bool | str
"""True, False, or one of `CONVOLUTIONS`: how an image [H, W, C] enters a network. See `Torso`."""
Activation: TypeAlias = Callable[[jax.Array], jax.Array]
Features: TypeAlias = jax.Array | tuple[jax.Array, ...]
"""An observation as floats: one image [H, W, C], one vector [D], or several images and a vector."""

CONVOLUTIONS = {"minatar": 3, "nature": 36, "impala": 8}
"""The smallest side of an image that each convolution takes."""
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, size and stride of each layer
IMPALA = (16, 32, 32)  # channels of each section


def kind_of_convolution(shape: tuple[int, ...], convolution: Convolution) -> str | None:
    """The convolution that an input of a shape passes; None if it is flattened.

    With True it is the one for its size: "nature" if both sides are 36 or more, otherwise "minatar". An image with a
    side below 3 has nothing to convolve and is flattened.

    Examples:
      >>> kind_of_convolution((84, 84, 4), True), kind_of_convolution((10, 10, 4), True)
      ('nature', 'minatar')
      >>> kind_of_convolution((2, 5, 4), True) is None
      True
    """
    if len(shape) != 3 or convolution is False:
        return None
    if isinstance(convolution, str):
        return convolution
    side = min(shape[:2])
    return "nature" if side >= CONVOLUTIONS["nature"] else "minatar" if side >= CONVOLUTIONS["minatar"] else None


def check_convolution(space: Space, convolution: Convolution) -> None:
    """Reject an unknown convolution, images that it is too large for, and images with their channels first.

    Raises:
      ValueError: names the convolution, or the shape and the smallest side.

    Examples:
      >>> check_convolution(Box(0, 255, (10, 10, 4), "uint8"), "nature")
      Traceback (most recent call last):
      ...
      ValueError: convolution='nature' needs images with sides of at least 36, but observations have shape (10, 10, 4)
    """
    if not isinstance(convolution, bool) and convolution not in CONVOLUTIONS:
        raise ValueError(f"convolution must be True, False, {', '.join(CONVOLUTIONS)}; got {convolution!r}")
    if isinstance(space, Dict | Tuple):
        for part in [part for _, part in space.spaces] if isinstance(space, Dict) else space.spaces:
            check_convolution(part, convolution)
    if convolution is not False and has_channels_first(space):
        raise ValueError(
            f"observations have shape {space.shape}, which looks like an image with its channels first; images are "  # type: ignore[union-attr]
            "[H, W, C]: wrap the environment in envs.channels_last, or pass convolution=False to flatten them"
        )
    if isinstance(convolution, bool):
        return
    smallest = CONVOLUTIONS[convolution]
    if isinstance(space, Box) and len(space.shape) == 3 and min(space.shape[:2]) < smallest:
        raise ValueError(
            f"convolution={convolution!r} needs images with sides of at least {smallest}, "
            f"but observations have shape {space.shape}"
        )


def flat_features(x: Features, convolution: Convolution, activate: Activation, dtype: str | None) -> jax.Array:
    """Features as one vector [D], each image after a convolution of its own; inside the module that calls it."""

    def flat(part: jax.Array) -> jax.Array:
        kind = kind_of_convolution(part.shape, convolution)
        part = part if kind is None else convolve(part, kind, activate, dtype)
        return part.reshape(-1)  # [H', W', C'] -> [H' W' C']

    return jnp.concatenate([flat(part) for part in x]) if isinstance(x, tuple) else flat(x)


def convolve(x: jax.Array, kind: str, activate: Activation, dtype: str | None) -> jax.Array:
    """An image [H, W, C] to features [H', W', C'], inside the module that calls it.

    "minatar": 16 filters of 3 x 3. "nature": 32 filters of 8 x 8 with stride 4, 64 of 4 x 4 with stride 2, 64 of 3 x 3.
    "impala": three sections of 16, 32 and 32 channels, each a convolution, a maximum over 3 x 3 with stride 2, and two
    residual blocks of two convolutions; the second one of each block starts smaller by √6, so that six blocks do not
    inflate what passes them.

    Source: Young & Tian 2019, arXiv:1903.03176; Mnih et al. 2015, "Human-level control through deep reinforcement
    learning"; Espeholt et al. 2018, arXiv:1802.01561, figure 3, without its recurrent layer.
    """
    if kind == "minatar":
        return activate(PatchConv(16, 3, dtype)(x))
    if kind == "nature":
        for channels, size, stride in NATURE:
            x = activate(PatchConv(channels, size, dtype, stride)(x))
        return x
    for channels in IMPALA:
        same = functools.partial(PatchConv, channels, 3, dtype, padding="SAME")
        x = max_pool(same()(x))  # [H, W, C] -> [H / 2, W / 2, channels], rounded up
        for _ in range(2):
            x = x + same(scale=3**-0.5)(activate(same()(activate(x))))
    return activate(x)


class PatchConv(nn.Module):
    """A convolution as one matrix product over shifted slices.

    y[i, j] = W · concat(x[s i + a, s j + b] for a, b < size) + c. The same map as `flax.linen.Conv`, about ten times
    faster on CPU, and it stays fast under vmap over parameters, where a convolution becomes grouped. It holds the
    size² slices in memory.

    Attributes:
      channels: number of filters.
      size: their height and width.
      dtype: of the computation, such as "bfloat16"; None: that of the parameters, float32.
      stride: s, the step between two patches.
      padding: "VALID", or "SAME" for zeros around the image, with stride 1 and an odd size.
      scale: of the orthogonal initialisation.
    """

    channels: int
    size: int
    dtype: str | None = None
    stride: int = 1
    padding: str = "VALID"
    scale: float = 2**0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[H, W, C] to [(H - size) // s + 1, (W - size) // s + 1, channels], or [H, W, channels] if padded."""
        if self.padding == "SAME":
            margin = self.size // 2
            x = jnp.pad(x, ((margin, margin), (margin, margin), (0, 0)))
        patches = jnp.concatenate(shifted(x, self.size, self.stride), axis=-1)  # [H', W', size² C]
        initial = orthogonal(self.scale)
        return nn.Dense(self.channels, kernel_init=initial, dtype=self.dtype, dot_general=product)(patches)


def shifted(x: jax.Array, size: int, stride: int) -> list[jax.Array]:
    """[H, W, C] to size² slices [H', W', C], which hold the elements of every patch, row by row."""
    height, width = ((side - size) // stride * stride + 1 for side in x.shape[:2])
    starts = itertools.product(range(size), range(size))
    return [x[a : a + height : stride, b : b + width : stride] for a, b in starts]


def max_pool(x: jax.Array) -> jax.Array:
    """[H, W, C] to [⌈H / 2⌉, ⌈W / 2⌉, C]: the maximum over 3 x 3 elements with stride 2."""
    x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return functools.reduce(jnp.maximum, shifted(x, 3, 2))
