"""Layer normalization with few reductions, for accelerators.

    x̂ = (z − μ) r,   y = s ∘ x̂ + b,   μ = mean(z),   r = 1 / √(max(mean(z²) − μ², 0) + 1e-6)

Source: Ba et al. 2016, arXiv:1607.06450, eq. 3.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from purerl import branches

EPSILON = 1e-6


class LayerNorm(nn.Module):
    """`flax.linen.LayerNorm` of one example [H] in single precision; on an accelerator its means are one reduction."""

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """[H] to [H]."""
        scale = self.param("scale", nn.initializers.ones, z.shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, z.shape, jnp.float32)
        return branches.dependent(z, scale, bias, cpu=_usual, default=_in_one_reduction)


class Standardized(NamedTuple):
    """z − μ [..., H] and r [..., 1]: the parts of x̂, which differ in size."""

    centered: jax.Array
    rate: jax.Array

    @property
    def values(self) -> jax.Array:
        """x̂ [..., H]."""
        return self.centered * self.rate


def standardize(z: jax.Array, size: int) -> Standardized:
    """z − μ and r of each row.

    Args:
      z: [..., H], of which all entries beyond the first `size` are 0.
      size: the number of entries that count.
    """
    return _standardized(z, z.sum(axis=-1, keepdims=True) / size, lax.square(z).sum(axis=-1, keepdims=True) / size)


def scaled(x: Standardized, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """y [..., H]."""
    return x.centered * (x.rate * scale) + bias


def pull(x: Standardized, gradient: jax.Array, size: int) -> jax.Array:
    """The gradient of z [..., H] from that of x̂, g: r (g − mean(g) − x̂ mean(g ∘ x̂)).

    Args:
      x: from `standardize`.
      gradient: g, 0 beyond the first `size` entries.
      size: as for `standardize`.
    """
    mean, correlation = (each.sum(axis=-1, keepdims=True) / size for each in (gradient, gradient * x.values))
    return x.rate * (gradient - mean - x.values * correlation)


def _standardized(z: jax.Array, mean: jax.Array, mean_square: jax.Array) -> Standardized:
    variance = jnp.maximum(0.0, mean_square - lax.square(mean))
    return Standardized(z - mean, lax.rsqrt(variance + EPSILON))


def _usual(z: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return jnp.asarray(nn.LayerNorm(epsilon=EPSILON, parent=None).apply({"params": {"scale": scale, "bias": bias}}, z))


def _in_one_reduction(z: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    means = jnp.stack([z, lax.square(z)]).mean(axis=-1, keepdims=True)
    return scaled(_standardized(z, means[0], means[1]), scale, bias)
