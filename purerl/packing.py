"""Trees of arrays as few arrays of rows, and back: one gather, update or copy where a tree would take one per leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purerl.prng import is_key
from purerl.types import PyTree

Unpack = Callable[[list[jax.Array]], PyTree]


def pack(tree: PyTree) -> tuple[list[jax.Array], Unpack]:
    """Put the leaves [B, ...] side by side, bit for bit.

    All dtypes of four bytes per element, and bools, share one array of words [B, D]. The words are int32, since XLA's
    GPU kernels cannot always cast from unsigned ones. Every other dtype has an array of its own, and so has each leaf
    of typed keys.

    Args:
      tree: its leaves lead with the same axis [B].

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
    groups: dict[str, list[int]] = {}
    for i, leaf in enumerate(leaves):
        groups.setdefault(_group(leaf, i), []).append(i)
    shapes = [leaf.shape[1:] for leaf in leaves]
    dtypes = [leaf.dtype for leaf in leaves]
    widths = [int(leaf.size // leaf.shape[0]) if leaf.shape[0] else 0 for leaf in leaves]

    def unpack(packed: list[jax.Array]) -> PyTree:
        parts: list[Any] = [None] * len(leaves)
        for rows, members in zip(packed, groups.values()):
            start = 0
            for i in members:
                if is_key(rows):
                    parts[i] = rows
                    continue
                part = _from_rows(rows[..., start : start + widths[i]], dtypes[i])
                parts[i] = part.reshape(*rows.shape[:-1], *shapes[i])  # [..., B, d] -> [..., B, ...]
                start += widths[i]
        return jax.tree.unflatten(structure, parts)

    return [_side_by_side([leaves[i] for i in members]) for members in groups.values()], unpack


def _group(leaf: jax.Array, index: int) -> str:
    if is_key(leaf):
        return f"key {index}"
    return "words" if leaf.dtype.itemsize == 4 or leaf.dtype == bool else leaf.dtype.name


def _side_by_side(leaves: list[jax.Array]) -> jax.Array:
    if is_key(leaves[0]):
        return leaves[0]
    return jnp.concatenate([_to_rows(leaf) for leaf in leaves], axis=1)


def _to_rows(leaf: jax.Array) -> jax.Array:
    rows = leaf.reshape(leaf.shape[0], -1)  # [B, ...] -> [B, d]
    if rows.dtype == bool:
        return rows.astype(jnp.int32)
    return jax.lax.bitcast_convert_type(rows, jnp.int32) if rows.dtype.itemsize == 4 else rows


def _from_rows(rows: jax.Array, dtype: Any) -> jax.Array:
    if jnp.issubdtype(dtype, jnp.bool_):
        return rows.astype(bool)
    return jax.lax.bitcast_convert_type(rows, dtype) if dtype.itemsize == 4 else rows
