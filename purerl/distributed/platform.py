"""Differences between CPUs and accelerators. The platform is the one that a program is lowered for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from purerl import branches

Operand = TypeVar("Operand")


def select(
    predicate: jax.Array, if_true: Callable[[Operand], Any], if_false: Callable[[Operand], Any], operand: Operand
) -> Any:
    """`if_true(operand)` or `if_false(operand)`, the same values on every platform.

    On a CPU it is `lax.cond`, which skips the work of the other branch. On an accelerator the host would have to wait
    for the predicate, some 15 µs on a GPU, so both branches are computed there and one is selected.

    Args:
      predicate: bool scalar.
      if_true, if_false: functions of the operand with results of the same structure.
      operand: a tree of arrays.

    Returns:
      What the branch returns.
    """
    if branches.only_cpu():
        return jax.lax.cond(predicate, if_true, if_false, operand)
    on_cpu = branches.dependent(predicate, cpu=lambda x: x, default=jnp.zeros_like)
    elsewhere = branches.dependent(predicate, cpu=jnp.zeros_like, default=lambda x: x)
    # One of the two predicates is a constant, so that one of the next two lines folds away.
    result = jax.lax.cond(on_cpu, if_true, if_false, operand)
    return jax.tree.map(lambda yes, no: jnp.where(elsewhere, yes, no), if_true(operand), result)


_HEAVY = 16  # elements of a carry for each that a step reads


def scan(
    step: Callable[[Operand, Any], tuple[Operand, Any]], carry: Operand, xs: Any, *, in_place: bool = False
) -> tuple[Operand, Any]:
    """`lax.scan`; on an accelerator several steps at a time, so that fewer trips copy the carry, count and write.

    Args:
      step: under `jax.jit`, so that it is traced once for all platforms.
      carry: the first carry.
      xs: leaves lead with the number of steps: four at a time if it is a multiple of four from 16 on, otherwise two.
      in_place: make one step at a time and not two if the carry is large compared with what a step reads. Each step
        then overwrites the carry, while two would keep what the first one changes in memory beside it.

    Returns:
      As `lax.scan`.
    """
    one, several = functools.partial(jax.lax.scan, step), functools.partial(scan_unrolled, step, in_place=in_place)
    return branches.dependent(carry, xs, cpu=one, default=several)


def scan_unrolled(
    step: Callable[[Operand, Any], tuple[Operand, Any]], carry: Operand, xs: Any, *, in_place: bool = False
) -> tuple[Operand, Any]:
    """`scan` as an accelerator computes it, for use within a branch for accelerators."""
    length = jax.tree.leaves(xs)[0].shape[0]
    heavy = in_place and _size(carry) * length > _HEAVY * _size(xs)
    at_a_time = 4 if length >= 16 and length % 4 == 0 else 1 if heavy else 2
    return jax.lax.scan(step, carry, xs, unroll=at_a_time)


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
