"""Products of dense layers with few inputs or few outputs, which accelerators compute better as sums.

On a GPU a matrix product is a kernel of its own. With a handful of inputs or outputs it would fill no matrix unit, and
its terms can be written out instead: XLA fuses them with the activations around them.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl.reductions import LONGEST

Pair: TypeAlias = tuple[jax.Array, jax.Array]
Contraction: TypeAlias = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def thin_product(x: jax.Array, kernel: jax.Array, contraction: Contraction, precision: Any = None) -> jax.Array:
    """x [D] times kernel [D, H]: the argument `dot_general` of `flax.linen.Dense`.

    The usual product on a CPU, and everywhere if both D and H are above `reductions.LONGEST`.

    Examples:
      >>> contraction = (((0,), (0,)), ((), ()))
      >>> thin_product(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), contraction).tolist()
      [1.0, 2.0, 3.0]
    """
    if x.ndim != 1 or precision is not None or not 0 < min(kernel.shape) <= LONGEST:
        return jax.lax.dot_general(x, kernel, contraction, precision=precision)
    return jax.lax.platform_dependent(x, kernel, cpu=_product, default=_written_out)


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.dot_general(x, kernel, (((0,), (0,)), ((), ())))


@jax.custom_jvp
def _written_out(x: jax.Array, kernel: jax.Array) -> jax.Array:
    inputs, outputs = kernel.shape
    if inputs <= LONGEST:
        return _by_input(x, kernel)
    rows = jnp.stack([kernel[:, i] for i in range(outputs)])  # kernel.T, which would be a kernel of its own on a GPU
    return (rows * x[None]).sum(axis=-1)


@_written_out.defjvp
def _derivative(primals: Pair, tangents: Pair) -> Pair:
    """The gradient of the kernel, a sum over the whole batch, is a matrix product; that of x is written out."""
    (x, kernel), (dx, dkernel) = primals, tangents
    product = _by_input if kernel.shape[0] <= LONGEST else _by_output
    return _written_out(x, kernel), x @ dkernel + product(dx, kernel)


def _by_input(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, [x[i] * kernel[i] for i in range(kernel.shape[0])])


def _by_output(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One sum per output, of which the gradient is a sum of few terms."""
    return jnp.stack([(x * kernel[:, i]).sum() for i in range(kernel.shape[1])])
