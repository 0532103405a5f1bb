"""Initialisers that are safe under vmap: no LAPACK call, which can deadlock a small CPU when several are batched."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl.orthonormal import orthonormal_columns

Initializer: TypeAlias = Callable[..., jax.Array]
Dtype: TypeAlias = Any


def orthogonal(scale: float = 1.0) -> Initializer:
    """Matrices with orthonormal columns (or rows, if there are fewer), uniform over all of them, times `scale`.

    Args:
      scale: every singular value of the result.

    Returns:
      `(key, shape, dtype=float32) -> array`; the last axis holds the columns, all others are flattened into rows.

    Examples:
      >>> matrix = orthogonal(2.0)(jax.random.key(0), (5, 2))
      >>> (matrix.T @ matrix).round(3).tolist()
      [[4.0, 0.0], [0.0, 4.0]]
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> jax.Array:
        if len(shape) < 2:
            raise ValueError(f"orthogonal needs a shape of two axes or more, got {tuple(shape)}")
        columns = shape[-1]
        rows = math.prod(shape[:-1])
        tall = orthonormal_columns(key, max(rows, columns), min(rows, columns))
        matrix = tall if rows >= columns else tall.T
        return (scale * matrix).reshape(shape).astype(dtype)

    return init
