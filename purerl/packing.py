"""Trees of arrays as few arrays of rows, and back: one gather, update or copy where a tree would take one per leaf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purerl.prng import is_key
from purerl.types import PyTree

Unpack = Callable[[list[jax.Array]], PyTree]
Step = Callable[[PyTree, Any], tuple[PyTree, PyTree]]

_WIDE = 128  # elements of a row from which on a copy costs more than the kernel that it saves


def pack(tree: PyTree, wide: int = _WIDE) -> tuple[list[jax.Array], Unpack]:
    """Put the leaves [B, ...] side by side, bit for bit.

    All dtypes of four bytes per element, and bools, share one array of words [B, D]. The words are int32, since XLA's
    GPU kernels cannot always cast from unsigned ones. Every other dtype has an array of its own, and so has each leaf
    of typed keys and each of `wide` or more elements per row, such as images: those would be copied to save one kernel.

    Args:
      tree: its leaves lead with the same axis [B].
      wide: elements per row from which on a leaf is left alone.

    Returns:
      The arrays, and the inverse, which also takes them with more leading axes, [..., B, D], and with another B.

    Examples:
      >>> packed, unpack = pack({"x": jnp.arange(6.0).reshape(2, 3), "done": jnp.array([True, False])})
      >>> [(each.dtype.name, each.shape) for each in packed]
      [('int32', (2, 4))]
      >>> unpack(packed)["x"].tolist()
      [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    leaves, structure = jax.tree.flatten(tree)
    widths = [math.prod(leaf.shape[1:]) for leaf in leaves]
    groups: dict[str, list[int]] = {}
    for i, (leaf, width) in enumerate(zip(leaves, widths)):
        groups.setdefault(_group(leaf, width, i, wide), []).append(i)
    shapes = [leaf.shape[1:] for leaf in leaves]
    dtypes = [leaf.dtype for leaf in leaves]

    def unpack(packed: list[jax.Array]) -> PyTree:  # it must not hold the leaves, which may be tracers
        parts: list[Any] = [None] * len(shapes)
        for rows, members in zip(packed, groups.values()):
            start = 0
            for i in members:
                if is_key(rows):
                    parts[i] = rows
                    continue
                part = _from_words(rows[..., start : start + widths[i]], dtypes[i])
                parts[i] = part.reshape(*rows.shape[:-1], *shapes[i])  # [..., B, d] -> [..., B, ...]
                start += widths[i]
        return jax.tree.unflatten(structure, parts)

    return [_side_by_side(name, [leaves[i] for i in members]) for name, members in groups.items()], unpack


def pack_one(tree: PyTree, wide: int = 2**16) -> tuple[list[jax.Array], Unpack]:
    """As `pack`, of a tree whose leaves share no axis, such as a learner's state: arrays [1, D], and the inverse.

    Examples:
      >>> packed, unpack = pack_one({"weights": jnp.ones((2, 3)), "num_updates": jnp.int32(7)})
      >>> [each.shape for each in packed], unpack(packed)["num_updates"].item()
      ([(1, 7)], 7)
    """
    packed, unpack = pack(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree), wide)
    return packed, lambda packed: jax.tree.map(lambda leaf: leaf[0], unpack(packed))


def scan_packed(
    scan: Callable[..., Any], step: Step, carry: PyTree, xs: Any, wide: int = _WIDE
) -> tuple[PyTree, PyTree]:
    """A scan whose results are written as few arrays, since on a GPU each array that is written is a kernel.

    Args:
      scan: `lax.scan`, or one like it.
      step: `(carry, x) -> (carry, y)`; all leaves of y lead with the same axis [B].
      carry, xs: as `scan` takes them.
      wide: as `pack` takes it.

    Examples:
      >>> def step(total, x):
      ...     return total + x, {"double": 2 * x, "total": total}
      >>> total, written = scan_packed(jax.lax.scan, step, jnp.zeros(2), jnp.arange(6.0).reshape(3, 2))
      >>> written["double"].tolist()
      [[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]
    """
    unpack: Unpack | None = None

    def packed(carry: PyTree, x: Any) -> tuple[PyTree, list[jax.Array]]:
        nonlocal unpack
        carry, y = step(carry, x)
        rows, unpack = pack(y, wide)
        return carry, rows

    carry, rows = scan(packed, carry, xs)
    assert unpack is not None
    return carry, unpack(rows)


def _group(leaf: jax.Array, width: int, index: int, wide: int) -> str:
    """The name of the array that the leaf is part of."""
    if is_key(leaf) or width >= wide:
        return f"alone {index}"
    return _WORDS if leaf.dtype.itemsize == 4 or leaf.dtype == bool else leaf.dtype.name


_WORDS = "words"


def _side_by_side(name: str, leaves: list[jax.Array]) -> jax.Array:
    if is_key(leaves[0]):
        return leaves[0]
    rows = [leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:])) for leaf in leaves]  # [B, ...] -> [B, d]
    return jnp.concatenate([_to_words(each) for each in rows] if name == _WORDS else rows, axis=1)


def _to_words(rows: jax.Array) -> jax.Array:
    return rows.astype(jnp.int32) if rows.dtype == bool else jax.lax.bitcast_convert_type(rows, jnp.int32)


def _from_words(rows: jax.Array, dtype: Any) -> jax.Array:
    """Rows as they were; those that are no words have their dtype still."""
    if rows.dtype == dtype:
        return rows
    return rows.astype(bool) if jnp.issubdtype(dtype, jnp.bool_) else jax.lax.bitcast_convert_type(rows, dtype)
