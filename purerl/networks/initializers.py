"""Initialisers that are safe under vmap: no LAPACK call, which can deadlock a small CPU when several are batched."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Initializer: TypeAlias = Callable[..., jax.Array]
Dtype: TypeAlias = Any


def orthogonal(scale: float = 1.0) -> Initializer:
    """Matrices with orthonormal columns (or rows, if there are fewer), uniform over all of them, times `scale`.

    A product of Householder reflections of Gaussian vectors x_j, with x_j zero above entry j,

        Q = H₀ H₁ ... H_{m-1} D I[:, :m],   H_j = I - 2 u uᵀ,   u ∝ x_j + sign(x_jj) |x_j| e_j,   D_jj = -sign(x_jj),

    has the distribution of the Q factor of a Gaussian matrix. On a CPU it needs only products, in m steps that vmap.

    Args:
      scale: every singular value of the result.

    Returns:
      `(key, shape, dtype=float32) -> array`; the last axis holds the columns, all others are flattened into rows.

    Source: Stewart 1980, "The efficient generation of random orthogonal matrices", section 3.

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
        tall = _orthonormal_columns(key, max(rows, columns), min(rows, columns))
        matrix = tall if rows >= columns else tall.T
        return (scale * matrix).reshape(shape).astype(dtype)

    return init


@functools.partial(jax.jit, static_argnums=(1, 2))
def _orthonormal_columns(key: jax.Array, n: int, m: int) -> jax.Array:
    """[n, m] with n >= m. Under `jit`, since flax asks for its shape in every application of a layer."""
    x = jax.random.normal(key, (m, n), jnp.float32)
    x = jnp.where(jnp.arange(n)[None] >= jnp.arange(m)[:, None], x, 0)
    sign = jnp.where(jnp.diagonal(x) >= 0, jnp.float32(1), jnp.float32(-1))  # [m]
    u = x + (sign * jnp.linalg.norm(x, axis=1))[:, None] * jnp.eye(m, n, dtype=jnp.float32)  # [m, n]
    u = u / jnp.linalg.norm(u, axis=1, keepdims=True)

    return jax.lax.platform_dependent(u, sign, cpu=_reflections, default=_one_product)


def _reflections(u: jax.Array, sign: jax.Array) -> jax.Array:
    """H₀ H₁ ... H_{m-1} D I[:, :m], one reflection after another: u is [m, n], sign [m], the result [n, m]."""

    def reflect(q: jax.Array, u: jax.Array) -> tuple[jax.Array, None]:
        return q - 2 * u[:, None] * (u @ q)[None], None

    q, _ = jax.lax.scan(reflect, jnp.eye(u.shape[1], u.shape[0], dtype=jnp.float32) * -sign[None], u, reverse=True)
    return q


def _one_product(u: jax.Array, sign: jax.Array) -> jax.Array:
    """The same by their compact form I - Uᵀ T U, T⁻¹ = ½ I + the part of U Uᵀ above the diagonal.

    On a GPU it takes a handful of launches where the loop takes three per column.

    Source: Puglisi 1992, "Modification of the Householder method based on the compact WY representation".
    """
    m, n = u.shape
    start = jnp.eye(n, m, dtype=jnp.float32) * -sign[None]  # [n, m]
    inverse = jnp.triu(jnp.matmul(u, u.T, precision="highest"), 1) + jnp.eye(m, dtype=jnp.float32) / 2  # [m, m]
    inner = jax.scipy.linalg.solve_triangular(inverse, u[:, :m] * -sign[None])  # T U start
    return start - jnp.matmul(u.T, inner, precision="highest")
