"""Placement of arrays if one agent's environments are split over devices; otherwise without effect.

`distributed.data_parallel` sets a mesh with the axis `AXIS`. That mesh belongs to JAX's own context, so a program is
traced once with it and once without.
"""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec

from purerl.packing import pack
from purerl.types import PyTree

AXIS = "environments"


def split(tree: PyTree, axis: int = 0) -> PyTree:
    """The same tree with that axis of every leaf split over the devices; the tree itself if no mesh is set.

    Raises:
      ValueError: the number of devices does not divide the axis.
    """
    count = num_devices()
    for leaf in jax.tree.leaves(tree) if count else ():
        if leaf.shape[axis] % count:
            raise ValueError(
                f"{leaf.shape[axis]} environments or rows of a minibatch do not divide over {count} devices"
            )
    return _constrain(tree, PartitionSpec(*[None] * axis, AXIS))


def whole(tree: PyTree) -> PyTree:
    """The same tree with every leaf whole on each of the devices; the tree itself if no mesh is set."""
    return _constrain(tree, PartitionSpec())


def whole_rows(tree: PyTree) -> PyTree:
    """As `whole`, of a tree whose leaves lead with one axis: those of four bytes per element move as one array."""
    if not num_devices():
        return tree
    rows, unpack = pack(tree)
    return unpack(whole(rows))


def num_devices() -> int:
    """Devices of the axis, 0 if no mesh has it: nothing is split."""
    return jax.sharding.get_abstract_mesh().shape.get(AXIS, 0)


def _constrain(tree: PyTree, spec: PartitionSpec) -> PyTree:
    if not num_devices():
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)
