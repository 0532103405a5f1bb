"""The layers that the default networks share."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.networks.images import Activation, Convolution, Features, flat_features
from purerl.networks.initializers import orthogonal
from purerl.networks.layer_norm import LayerNorm
from purerl.networks.products import thin_product
from purerl.types import Key

ACTIVATIONS: dict[str, Activation] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "elu": nn.elu,
}


class Torso(nn.Module):
    """A convolution for each image, then fully connected layers.

    Attributes:
      hidden: widths of the fully connected layers.
      activation: a key of `ACTIVATIONS`.
      layer_norm: normalise every layer before its activation.
      convolution: "minatar", "nature" or "impala"; True selects "nature" if both sides of the image are 36 or more and
        "minatar" otherwise; False flattens images. Images with a side below 3 are flattened.
      dtype: dtype of the computation, such as "bfloat16"; None: that of the parameters, float32.
      dropout: probability with which an output of a layer is 0, before it is normalized, in calls with a key.
    """

    hidden: tuple[int, ...]
    activation: str
    layer_norm: bool = False
    convolution: Convolution = True
    dtype: str | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features: Features, key: Key | None = None) -> jax.Array:
        """[D], [H, W, C], or several images and a vector, to [hidden[-1]]."""
        x = flat_features(features, self.convolution, self._activate, self.dtype)
        for i, width in enumerate(self.hidden):
            layer = nn.Dense(width, kernel_init=orthogonal(2**0.5), dtype=self.dtype, dot_general=thin_product)
            x = layer(x)
            if self.dropout and key is not None:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - self.dropout, x.shape)
                x = jnp.where(kept, x / (1 - self.dropout), 0).astype(x.dtype)
            x = self._activate(x)
        return x

    @property
    def is_plain(self) -> bool:
        """Whether it is layers and activations of single precision alone, for inputs that are not images."""
        return bool(self.hidden) and not (self.layer_norm or self.dropout or self.dtype)

    def _activate(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.activation](self._normalize(x) if self.layer_norm else x)

    def _normalize(self, x: jax.Array) -> jax.Array:
        if self.dtype is None and x.ndim == 1:
            return LayerNorm()(x)
        return nn.LayerNorm(dtype=self.dtype, reduction_axes=range(x.ndim))(x)  # of an image: over all its pixels


def check_hidden(hidden: tuple[int, ...], activation: str) -> None:
    """Reject unknown activations and widths that are not positive.

    Raises:
      TypeError, ValueError: names the field.

    Examples:
      >>> check_hidden((64, 64), "tanh")
      >>> check_hidden((64, 0), "tanh")
      Traceback (most recent call last):
      ...
      ValueError: hidden must hold positive widths, got (64, 0)
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    if not isinstance(hidden, tuple | list):
        raise TypeError(f"hidden must be a tuple of widths, such as 64,64 or 64, for one layer; got {hidden!r}")
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden must hold positive widths, got {hidden}")
