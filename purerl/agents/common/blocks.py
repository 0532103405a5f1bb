"""Functions of many rows, computed a block of them after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from purerl import branches
from purerl.distributed import mesh
from purerl.types import PyTree

Result = TypeVar("Result")

_ROWS = 2048  # whose activations in layers of 64 stay in the cache, and which XLA still spreads over two cores
_LARGEST = 5 * 2**18  # elements of an array, 5 MB, so that those of a convolution stay in the cache
_FEWEST = 32  # rows of a block, which reads all weights
_FEWEST_TOKENS, _LARGEST_OF_TEXTS = 2**9, 2**19  # the same of texts, whose arrays pass the cache more often
_BESIDE = 2  # blocks that XLA may compute at a time, one on each of two cores


def accumulate(
    function: Callable[[PyTree], PyTree], batch: PyTree, num_microbatches: int, *, beside: int = 1
) -> PyTree:
    """Σ function(part) over equal parts of a batch, computed one after the other in the memory of one part.

    Args:
      function: `part -> tree of sums over the part's rows`, such as the gradient of a sum of losses.
      batch: leaves lead with [B].
      num_microbatches: number of parts.
      beside: parts that may be computed at the same time, in as much more memory.

    Raises:
      ValueError: B does not divide into `num_microbatches`.

    Examples:
      >>> accumulate(lambda part: {"sum": part.sum()}, jnp.arange(6.0), num_microbatches=3)["sum"].item()
      15.0
    """
    if num_microbatches == 1:
        return function(batch)
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % num_microbatches:
        raise ValueError(f"num_microbatches = {num_microbatches} does not divide the {size} rows")
    parts = jax.tree.map(lambda x: x.reshape(num_microbatches, -1, *x.shape[1:]), batch)  # [B] -> [M, B / M]
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    return jax.lax.scan(add, zeros, parts, unroll=beside)[0]


def mean(function: Callable[[PyTree], Result], batch: PyTree) -> Result:
    """`function(batch)`, a mean over rows; on a CPU, if they are many, as the mean over blocks of them.

    Blocks have at most 2,048 rows, and fewer, down to 32, if the function computes an array of more than 5 MB, and two
    of them are computed beside each other. On an accelerator, and where rows are split over devices, all are one block;
    so they are if they do not divide into blocks of half that size or more.

    Args:
      function: `batch -> tree of means over the batch's rows`, such as the gradient of a mean of losses and the loss.
      batch: leaves lead with [B].

    Examples:
      >>> mean(lambda batch: batch.mean(), jnp.arange(6144.0)).item()
      3071.5
    """
    function = jax.jit(function, inline=True)  # traced once
    count = _count(function, batch, _FEWEST, _LARGEST)
    if count == 1:
        return function(batch)

    def in_blocks(batch: PyTree) -> Result:
        return jax.tree.map(lambda total: total / count, accumulate(function, batch, count, beside=_BESIDE))

    return branches.dependent(batch, cpu=in_blocks, default=function)


def total(function: Callable[[PyTree], Result], batch: PyTree, row_size: int) -> Result:
    """`function(batch)`, a sum over rows that are texts; on a CPU, if they are many, as the sum over blocks of them.

    Blocks have at least 512 tokens, and no more if the function computes an array of more than 2 MB: attention then
    stays in the cache. They are as for `mean` otherwise, but one after the other: their layers are wide enough for both
    cores, and two blocks beside each other took 1.7 times as long (width 128). A gradient step of DPO on 64 pairs of 80
    tokens takes half of the time.

    Args:
      function: `batch -> tree of sums over the batch's rows`, such as the gradient of a sum of losses.
      batch: leaves lead with [B].
      row_size: tokens of a row.

    Examples:
      >>> total(lambda batch: batch.sum(), jnp.arange(6144.0), row_size=512).item()
      18871296.0
    """
    function = jax.jit(function, inline=True)
    count = _count(function, batch, -(-_FEWEST_TOKENS // row_size), _LARGEST_OF_TEXTS)
    if count == 1:
        return function(batch)
    return branches.dependent(batch, cpu=lambda batch: accumulate(function, batch, count), default=function)


def _count(function: Callable[[PyTree], Any], batch: PyTree, fewest: int, largest: int) -> int:
    """Into how many blocks a CPU divides a batch: `fewest` rows at least, arrays of `largest` elements at most."""
    size = jax.tree.leaves(batch)[0].shape[0]
    if size < 2 * fewest or mesh.num_devices():
        return 1
    rows = max(fewest, min(_ROWS, largest * size // _largest(jax.make_jaxpr(function)(batch).jaxpr)))
    counts = [n for n in range(-(-size // rows), size // max(1, rows // 2) + 1) if size % n == 0]
    return 1 if 1 in counts or not counts else min(counts, key=lambda n: (n % _BESIDE, n))


def _largest(program: Any) -> int:
    """Elements of the largest array that a jaxpr computes; of a choice's branches, of the one where they are fewest.

    That is the branch for CPUs if the platform chooses, since accelerators write thin products out.
    """

    def of(equation: Any) -> int:
        own = [getattr(each.aval, "size", 0) for each in equation.outvars]
        inner = jax.tree.leaves(tuple(equation.params.values()), is_leaf=_is_program)
        inside = [_largest(getattr(each, "jaxpr", each)) for each in inner if _is_program(each)]
        choice = [min(inside)] if equation.primitive.name == "cond" else inside
        return max(own + choice, default=0)

    return max(map(of, program.eqns), default=1)


def _is_program(x: object) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")
