"""Importance ratios whose values and gradients stay finite, however far apart two policies are."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def largest_log_ratio(dtype: jnp.dtype) -> float:
    """The log ratio beyond which ratios grow linearly: 20 (a ratio of 5 · 10⁸), and less in half precision.

    Gradients are squared by optimizers, so the bound is at most half of what the dtype holds. The same bound is in
    common use as a hard clip, which would also take the gradient away.
    """
    return min(20.0, 0.5 * math.log(float(jnp.finfo(dtype).max)))


def split(log_ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The part of a log ratio up to the bound, and e^bound times the part beyond it, which is 0 for ordinary ratios."""
    bound = largest_log_ratio(log_ratio.dtype)
    return jnp.minimum(log_ratio, bound), math.exp(bound) * jnp.maximum(log_ratio - bound, 0)


def ratio(log_ratio: jax.Array) -> jax.Array:
    """exp(x), continued beyond x = 20 by its tangent: e²⁰ · (1 + x − 20)."""
    inside, beyond = split(log_ratio)
    return jnp.exp(inside) + beyond


def k3(log_ratio: jax.Array) -> jax.Array:
    """exp(x) − 1 − x, accurate near 0, with the exponential continued beyond x = 20 by its tangent."""
    inside, beyond = split(log_ratio)
    return jnp.expm1(inside) + beyond - log_ratio
