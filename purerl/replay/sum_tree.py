"""Sampling in proportion to weights that change: a tree of sums, 16 children a node.

A wide tree has few levels (five for a million leaves), each one gather of short rows; a binary one has twenty.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp

from purerl.hparams import check_positive
from purerl.numerics import two_sum

WIDTH = 16

Tree: TypeAlias = tuple[jax.Array, ...]
"""Levels from the leaves up, each [nodes, 16]: entry j of level i + 1 is the sum of row j of level i."""


def init(size: int) -> Tree:
    """A tree of `size` leaves, all 0.

    Raises:
      ValueError: `size` is not positive.

    Examples:
      >>> [level.shape for level in init(1000)]
      [(63, 16), (4, 16), (1, 16)]
    """
    check_positive(size=size)
    levels: list[jax.Array] = []
    while not levels or size > 1:
        size = -(-size // WIDTH)
        levels.append(jnp.zeros((size, WIDTH), jnp.float32))
    return tuple(levels)


def total(tree: Tree) -> jax.Array:
    """The sum of all leaves.

    Examples:
      >>> total(update(init(20), jnp.array([3, 7]), jnp.array([2.0, 0.5]))).item()
      2.5
    """
    return tree[-1].sum()


def get(tree: Tree, index: jax.Array) -> jax.Array:
    """The leaves at int32 indices [...].

    Examples:
      >>> get(update(init(20), jnp.array([3, 7]), jnp.array([2.0, 0.5])), jnp.array([7, 8])).tolist()
      [0.5, 0.0]
    """
    return tree[0].reshape(-1)[index]


def update(tree: Tree, index: jax.Array, value: jax.Array) -> Tree:
    """Set leaves and recompute every sum above them, so that rounding errors do not add up; O(B · 16 · levels).

    Args:
      tree: the tree.
      index: int32 [B]; of several values for one index, one stays.
      value: [B] ≥ 0.

    Examples:
      >>> tree = update(init(1000), jnp.array([3, 700]), jnp.array([2.0, 0.5]))
      >>> total(tree).item()
      2.5
    """
    levels = []
    for level in tree:
        node, child = index // WIDTH, index % WIDTH  # [B]
        level = level.at[node, child].set(value, mode="promise_in_bounds")
        levels.append(level)
        index, value = node, level[node].sum(axis=-1)
    return tuple(levels)


def find(tree: Tree, mass: jax.Array, rest: jax.Array | float = 0.0) -> jax.Array:
    """The leaf i with value[0] + ... + value[i−1] ≤ mass + rest < value[0] + ... + value[i]; never one of value 0.

    Args:
      tree: the tree, with a positive total.
      mass: [...] in [0, total).
      rest: [...], what the rounding of the mass left out.

    Returns:
      int32 [...].

    Examples:
      >>> tree = update(init(20), jnp.arange(3), jnp.array([2.0, 0.0, 1.0]))
      >>> find(tree, jnp.array([0.0, 1.9, 2.0])).tolist()
      [0, 0, 2]
    """
    node = jnp.zeros(jnp.shape(mass), jnp.int32)
    rest = jnp.broadcast_to(jnp.asarray(rest, mass.dtype), mass.shape)
    triangle = jnp.triu(jnp.ones((WIDTH, WIDTH), jnp.float32))
    for level in reversed(tree):
        row = level[node]  # [..., 16]
        cumulative = jnp.matmul(row, triangle, precision="highest")  # faster than cumsum on CPU
        child = jnp.sum(cumulative - mass[..., None] <= rest[..., None], axis=-1, dtype=jnp.int32)
        last = WIDTH - 1 - jnp.argmax(row[..., ::-1] > 0, axis=-1).astype(jnp.int32)
        child = jnp.minimum(child, last)  # rounding may leave a little more mass than the children have
        before = jnp.take_along_axis(cumulative, child[..., None], -1) - jnp.take_along_axis(row, child[..., None], -1)
        mass, error = two_sum(mass, -before[..., 0])
        mass, rest = two_sum(mass, rest + error)
        mass, rest = jnp.where(mass > 0, mass, 0), jnp.where(mass >= 0, rest, 0)
        node = node * WIDTH + child
    return node
