"""The steps of a recurrent cell along a sequence, differentiated with few kernels on an accelerator.

    hidden[t] = U memory[t-1] + c,   memory[t] = cell(x[t], hidden[t], memory[t-1])

JAX differentiates a scan by storing whatever its backward pass reads, each array by a kernel per step. On an
accelerator only the memories are stored here: hidden[t] of all steps is one product of them, and the backward scan is
the cell's own derivative and one product per step. The gradients of x, U and c then take all steps at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from purerl.types import Params, PyTree

Memory: TypeAlias = PyTree
"""Leaves [H], of which the first is the cell's output."""
Cell: TypeAlias = Callable[[jax.Array, jax.Array, Memory], Memory]
"""`(x [G H], hidden [G H], memory) -> memory`."""
Product: TypeAlias = Callable[[Params, jax.Array], jax.Array]
"""`(params, output [H]) -> hidden [G H]`, linear in the output but for a constant."""

_scan = functools.partial(lax.scan, unroll=4)  # four steps at a time, so that fewer trips copy the carry and count


def differentiable(cell: Cell, product: Product) -> Callable[[Params, jax.Array, Memory, jax.Array], Memory]:
    """A function of `(params, x [T, G H], first memory, reset [T])` to the memories after each step, leaves [T, H].

    The memory before a step is 0 where `reset` is true.
    """
    run = functools.partial(_forward, cell, product)

    def forward(*inputs: Any) -> tuple[Memory, Any]:
        found = run(*inputs)
        return found, (*inputs, found)

    function = jax.custom_vjp(run)
    function.defvjp(forward, functools.partial(_backward, cell, product))
    return function


def _forward(cell: Cell, product: Product, params: Params, x: jax.Array, first: Memory, reset: jax.Array) -> Memory:
    of_nothing = product(params, jnp.zeros_like(output(first)))

    def step(memory: Memory, xs: tuple[jax.Array, jax.Array]) -> tuple[Memory, Memory]:
        each, new = xs
        hidden = jnp.where(new, of_nothing, product(params, output(memory)))
        memory = cell(each, hidden, _zero_where(new, memory))
        return memory, memory

    return _scan(step, first, (x, reset))[1]


def _backward(cell: Cell, product: Product, inputs: Any, cotangents: Memory) -> tuple[Params, jax.Array, Memory, None]:
    params, x, first, reset, found = inputs
    before = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), first, found)
    before = jax.vmap(_zero_where)(reset, before)  # [T, H]
    hidden, pull_products = jax.vjp(jax.vmap(product, (None, 0)), params, output(before))
    pull_product = jax.vjp(functools.partial(product, params), jnp.zeros_like(output(first)))[1]

    def step(carry: tuple[Memory, jax.Array], xs: Any) -> tuple[tuple[Memory, jax.Array], Memory]:
        each, hidden, before, cotangent, ends = xs
        total = jax.tree.map(jnp.add, _zero_where(ends, _with_output(*carry)), cotangent)
        of_hidden, of_memory = jax.vjp(functools.partial(cell, each), hidden, before)[1](total)
        return (of_memory, pull_product(of_hidden)[0]), total

    ends = jnp.concatenate([reset[1:], jnp.ones_like(reset[:1])])  # whether nothing comes back from the step after
    nothing = jax.tree.map(jnp.zeros_like, first), jnp.zeros_like(output(first))
    carry, totals = _scan(step, nothing, (x, hidden, before, cotangents, ends), reverse=True)
    of_x, of_hidden, _ = jax.vjp(jax.vmap(cell), x, hidden, before)[1](totals)
    return pull_products(of_hidden)[0], of_x, _zero_where(reset[0], _with_output(*carry)), None


def output(memory: Memory) -> jax.Array:
    """The cell's output: the first leaf of its memory."""
    return jax.tree.leaves(memory)[0]


def _zero_where(condition: jax.Array, memory: Memory) -> Memory:
    """The memory, or 0 if the condition, a scalar, is true."""
    return jax.tree.map(lambda x: jnp.where(condition, 0, x), memory)


def _with_output(memory: Memory, x: jax.Array) -> Memory:
    """The memory with x [H] added to its output."""
    leaves, structure = jax.tree.flatten(memory)
    return jax.tree.unflatten(structure, [leaves[0] + x, *leaves[1:]])
