"""States of many agents as plain trees of NumPy arrays, to be stored, sent, and put back on devices."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from purerl.distributed import to_devices, to_host
from purerl.prng import is_key, key_implementation
from purerl.types import PyTree

Leaf: TypeAlias = Any
"""An array of NumPy or JAX, or the shape and dtype of one."""


def pack(states: PyTree) -> PyTree:
    """The states on the host: NumPy arrays, typed keys as their data. `unpack` is the inverse.

    Examples:
      >>> packed = pack({"key": jax.random.key(7), "step": jax.numpy.int32(3)})
      >>> packed["key"].tolist(), packed["step"].item()
      ([0, 7], 3)
    """
    return to_host(jax.tree.map(_key_data, states))


def unpack(packed: PyTree, like: PyTree, sharding: Sharding | None = None) -> PyTree:
    """The tree of arrays that `pack` was given; `like` has its types, such as `programs.states_like` returns."""

    def typed(leaf: Leaf, spec: Leaf) -> Leaf:
        leaf = to_devices(leaf, leaf_sharding(leaf, sharding))
        return jax.random.wrap_key_data(leaf, impl=key_implementation(spec)) if is_key(spec) else leaf

    return jax.tree.map(typed, packed, like)


def packed_like(like: PyTree) -> PyTree:
    """Shapes and dtypes of `pack(states)`, from those of the states."""
    return jax.eval_shape(lambda tree: jax.tree.map(_key_data, tree), like)


def leaf_sharding(leaf: Leaf, sharding: Sharding | None) -> Sharding | None:
    """The sharding of a leaf: a compiled program leaves one without elements whole on every device."""
    if not isinstance(sharding, NamedSharding) or leaf.size:
        return sharding
    return NamedSharding(sharding.mesh, PartitionSpec())


def _key_data(leaf: Leaf) -> Leaf:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf
