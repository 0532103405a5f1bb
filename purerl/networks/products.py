"""Products with the kernels of dense layers: their gradients on a CPU, and thin layers elsewhere.

XLA for CPUs computes the gradient of a kernel, xᵀ dy, slowly. That gradient appears only when a network for one example
has been vmapped and differentiated, so the product is a primitive with a transpose of its own.

On a GPU a matrix product is a kernel of its own. With a handful of inputs or outputs it would fill no matrix unit, and
its terms can be written out instead: XLA fuses them with the activations around them.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from purerl import branches
from purerl.reductions import LONGEST

_WIDE = 32  # outputs of a layer above which the transposed copy of its inputs pays

Pair: TypeAlias = tuple[jax.Array, jax.Array]
Contraction: TypeAlias = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def product(
    x: jax.Array, kernel: jax.Array, contraction: Contraction | None = None, precision: Any = None
) -> jax.Array:
    """x [..., D] times kernel [D, H], [..., H]: the argument `dot_general` of `flax.linen.Dense`.

    It is `jax.lax.dot_general`, with the gradient of the kernel by `kernel_gradient` on a CPU.

    Args:
      x: [..., D].
      kernel: [D, H].
      contraction: is always that of D, which flax passes.
      precision: as for `jax.lax.dot_general`.

    Examples:
      >>> product(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])).tolist()
      [1.0, 2.0, 3.0]
    """
    precision = jax.config.jax_default_matmul_precision if precision is None else precision  # type: ignore[attr-defined]
    return _product.bind(x, kernel, precision=precision)


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """xᵀ dy, [D, H], of x [B, D] and dy [B, H], as XLA for CPUs computes it fast.

    XLA leaves a product to its slower library if x would have to be transposed while it is read. With the layers of PPO
    (64, 64, 2) and 2,048 rows, a gradient with all parts takes 0.90 ms in place of 1.29. With 9 to 32 outputs
    transposing x first costs what it saves. A wide x is often an activation, which XLA would compute again, column by
    column, while it transposes it: the layer from 512 to 128 of a transformer took 4.5 ms for 1,280 rows, 1.4 of which
    are the product.
    """
    if dy.shape[1] > _WIDE:
        if x.shape[1] >= 2 * dy.shape[1]:  # dy is the smaller one to transpose
            return lax.optimization_barrier(lax.optimization_barrier(dy.T) @ x).T
        return lax.optimization_barrier(x.T) @ dy
    if dy.shape[1] > LONGEST:
        return lax.dot_general(x, dy, (((0,), (0,)), ((), ())))
    rows = [lax.dot_general(dy[:, i, None], x, (((0,), (0,)), ((), ()))) for i in range(dy.shape[1])]  # [1, D] each
    return jnp.concatenate(rows).T


def thin_product(x: jax.Array, kernel: jax.Array, contraction: Contraction, precision: Any = None) -> jax.Array:
    """x [D] times kernel [D, H] as `product`, but written out on accelerators if D or H is at most `LONGEST`.

    Examples:
      >>> contraction = (((0,), (0,)), ((), ()))
      >>> thin_product(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), contraction).tolist()
      [1.0, 2.0, 3.0]
    """
    if x.ndim != 1 or precision is not None or not 0 < min(kernel.shape) <= LONGEST:
        return product(x, kernel, contraction, precision)
    return branches.dependent(x, kernel, cpu=product, default=_written_out)


# --- The primitive ----------------------------------------------------------------------------------------------------

_product = Primitive("kernel_dot_general")


def _usual(x: jax.Array, kernel: jax.Array, *, precision: Any) -> jax.Array:
    return lax.dot_general(x, kernel, _contraction(x), precision=precision)


def _shape(x: Any, kernel: Any, *, precision: Any) -> Any:
    """The type of the product, with its sharding."""
    settings = {"precision": None, "preferred_element_type": None, "out_sharding": None}
    return lax.dot_general_p.abstract_eval(x, kernel, dimension_numbers=_contraction(x), **settings)[0]


def _contraction(x: jax.Array) -> Contraction:
    return (((x.ndim - 1,), (0,)), ((), ()))


def _pull_inputs(dy: jax.Array, x: Any, kernel: jax.Array, *, precision: Any) -> jax.Array:
    """dy kernelᵀ, [..., D]."""
    return lax.dot_general(dy, kernel, (((dy.ndim - 1,), (1,)), ((), ())), precision=precision)


def _pull_kernel(dy: jax.Array, x: jax.Array, kernel: Any, *, precision: Any) -> jax.Array:
    """Σ x dyᵀ over all leading axes, [D, H]."""
    leading = tuple(range(x.ndim - 1))

    def usual(x: jax.Array, dy: jax.Array) -> jax.Array:
        return lax.dot_general(dy, x, ((leading, leading), ((), ())), precision=precision).T

    def on_cpu(x: jax.Array, dy: jax.Array) -> jax.Array:
        return kernel_gradient(x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1]))

    return branches.dependent(x, dy, cpu=on_cpu, default=usual) if leading else usual(x, dy)


def _batched(args: Pair, axes: tuple[int | None, int | None], *, precision: Any) -> tuple[jax.Array, int]:
    """One more leading axis of x is the same product; one of the kernel is not, and is left to JAX."""
    (x, kernel), (of_x, of_kernel) = args, axes
    if of_kernel is None:
        assert of_x is not None
        axis = of_x if of_x < x.ndim - 1 else 0
        return _product.bind(jnp.moveaxis(x, of_x, axis), kernel, precision=precision), axis
    kernel = jnp.moveaxis(kernel, of_kernel, 0)
    if of_x is None:
        return lax.dot_general(x, kernel, (((x.ndim - 1,), (1,)), ((), ())), precision=precision), x.ndim - 1
    x = jnp.moveaxis(x, of_x, 0)
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (1,)), ((0,), (0,))), precision=precision), 0


_product.def_impl(jax.jit(_usual, static_argnames="precision"))
_product.def_abstract_eval(_shape)
mlir.register_lowering(_product, mlir.lower_fun(_usual, multiple_results=False))
ad.defbilinear(_product, _pull_inputs, _pull_kernel)
batching.primitive_batchers[_product] = _batched


# --- Thin layers on an accelerator ------------------------------------------------------------------------------------


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
    along = _by_input if kernel.shape[0] <= LONGEST else _by_output
    return _written_out(x, kernel), x @ dkernel + along(dx, kernel)


def _by_input(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, [x[i] * kernel[i] for i in range(kernel.shape[0])])


def _by_output(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One sum per output, of which the gradient is a sum of few terms."""
    return jnp.stack([(x * kernel[:, i]).sum() for i in range(kernel.shape[1])])
