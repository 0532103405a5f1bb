"""Reductions over the last axis, which accelerators compute without one if it is short.

XLA launches a kernel of its own for a reduction and fuses elementwise operations into one. Over an axis of a few
actions the terms can be written out, so that what reads the result is fused with what made the terms. On a CPU they are
the reductions of `jax.numpy`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from purerl import branches

LONGEST = 8
"""Axes beyond this are reduced as usual on every platform."""

_LONG = 64  # entries from which on a CPU finds the maximum first and then where it is: XLA vectorizes both


def sum_last(x: jax.Array) -> jax.Array:
    """Σ over the last axis, [..., A] -> [...].

    Examples:
      >>> sum_last(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
      [3.0, 7.0]
    """
    return _reduce(_sum, _sum_of_terms, x)


def max_last(x: jax.Array) -> jax.Array:
    """The maximum of the last axis, [..., A] -> [...]."""
    return _reduce(_max, _max_of_terms, x)


def any_last(x: jax.Array) -> jax.Array:
    """Whether any entry of the last axis is true, [..., A] bool -> [...]."""
    return _reduce(_any, _any_of_terms, x)


def argmax_last(x: jax.Array) -> jax.Array:
    """The index of the first maximum of the last axis, [..., A] -> [...] int32.

    Examples:
      >>> argmax_last(jnp.array([1.0, 3.0, 3.0])).item()
      1
    """
    if x.shape[-1] >= _LONG:
        return branches.dependent(x, cpu=_argmax_by_max, default=_argmax)
    return _reduce(_argmax, _argmax_of_terms, x)


def repeat_last(x: jax.Array, count: int) -> jax.Array:
    """A new last axis of equal entries, [...] -> [..., count]; its gradient is `sum_last`."""
    repeated, stacked = functools.partial(_repeat, count), functools.partial(_stack, count)
    return branches.dependent(x, cpu=repeated, default=stacked) if 0 < count <= LONGEST else repeated(x)


# --- The two ways: functions of the module, which JAX traces once for arguments of one shape --------------------------

_Reduction: TypeAlias = Callable[[jax.Array], jax.Array]


def _reduce(usual: _Reduction, written_out: _Reduction, x: jax.Array) -> jax.Array:
    if not 0 < x.shape[-1] <= LONGEST:
        return usual(x)
    return branches.dependent(x, cpu=usual, default=written_out)


def _sum(x: jax.Array) -> jax.Array:
    return x.sum(axis=-1)


def _max(x: jax.Array) -> jax.Array:
    return x.max(axis=-1)


def _any(x: jax.Array) -> jax.Array:
    return x.any(axis=-1)


def _argmax(x: jax.Array) -> jax.Array:
    return jnp.argmax(x, axis=-1).astype(jnp.int32)


def _argmax_by_max(x: jax.Array) -> jax.Array:
    x = jax.lax.optimization_barrier(x)  # or it would be computed twice
    found = (x == x.max(axis=-1, keepdims=True)) | (x != x)  # as in NumPy, a NaN is the maximum
    index = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    return jnp.where(found, index, x.shape[-1]).min(axis=-1)


def _sum_of_terms(x: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, _terms(x))


def _max_of_terms(x: jax.Array) -> jax.Array:
    return functools.reduce(jnp.maximum, _terms(x))


def _any_of_terms(x: jax.Array) -> jax.Array:
    return functools.reduce(jnp.logical_or, _terms(x))


def _argmax_of_terms(x: jax.Array) -> jax.Array:
    best, index = x[..., 0], jnp.zeros(x.shape[:-1], jnp.int32)
    for i, term in enumerate(_terms(x)):
        better = (term > best) | (jnp.isnan(term) & ~jnp.isnan(best))  # as in NumPy, a NaN is the maximum
        best, index = jnp.where(better, term, best), jnp.where(better, i, index)
    return index


def _terms(x: jax.Array) -> list[jax.Array]:
    return [x[..., i] for i in range(x.shape[-1])]


def _repeat(count: int, x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(x[..., None], (*x.shape, count))


def _stack(count: int, x: jax.Array) -> jax.Array:
    return jnp.stack([x] * count, axis=-1)
