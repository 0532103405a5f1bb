"""Subtracting a mean without leaving its rounding error behind."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Axis = int | tuple[int, ...] | None


def wider(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype that sums are taken in, float32 at least: those of float16 overflow at 65,504."""
    return jnp.promote_types(dtype, jnp.float32)


def center(x: jax.Array, mask: jax.Array | None = None, axis: Axis = None) -> tuple[jax.Array, jax.Array | int]:
    """x − mean(x), exactly 0 where all x are equal, and the number of entries in the mean.

    The largest entry is subtracted before the mean is taken. The mean of equal numbers may be off by a rounding error,
    which a division by the standard deviation would blow up to the size of 1; the mean of zeros is not.

    Args:
      x: [...] floating.
      mask: [...], nonzero where an entry counts; the others may be NaN and become 0. None: all count.
      axis: the axis or axes to average over; None: all.

    Returns:
      centered: [...].
      count: the number of entries averaged, at least 1, with `axis` kept; a Python int without a mask.
    """
    x = jnp.asarray(x)
    if mask is None:
        shifted = x - lax.stop_gradient(x.max(axis=axis, keepdims=True))
        mean = shifted.mean(axis=axis, keepdims=True)
        return shifted - mean, x.size // max(mean.size, 1)
    counted = jnp.asarray(mask) != 0
    wide = wider(x.dtype)
    count = jnp.maximum(counted.sum(axis=axis, keepdims=True), 1).astype(wide)
    highest = jnp.where(counted, x, -jnp.inf).max(axis=axis, keepdims=True)
    shifted = jnp.where(counted, x - lax.stop_gradient(highest), 0)
    mean = (shifted.sum(axis=axis, keepdims=True, dtype=wide) / count).astype(x.dtype)
    return jnp.where(counted, shifted - mean, 0), count


def spread(centered: jax.Array, count: jax.Array | int, axis: Axis = None) -> jax.Array:
    """√(Σ x² / count) of centered entries, with derivative 0 where it is 0; the squares are in float32 at least."""
    wide = centered.astype(wider(centered.dtype))
    variance = jnp.square(wide).sum(axis=axis, keepdims=True) / count
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0).astype(centered.dtype)
