"""Where arrays lie when one agent's environments are split over devices; nothing at all where they are not.

`distributed.data_parallel` sets a mesh with the axis `AXIS`. The mesh that is set belongs to JAX's own context, so a
program is traced once with it and once without.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import PartitionSpec

AXIS = "environments"


def split(tree: Any, axis: int = 0) -> Any:
    """The same tree, with that axis of every leaf split over the devices; the tree itself where no mesh is set.

    Raises:
      ValueError: the number of devices does not divide the axis.
    """
    count = _num_devices()
    for leaf in jax.tree.leaves(tree) if count else ():
        if leaf.shape[axis] % count:
            raise ValueError(
                f"{leaf.shape[axis]} environments or rows of a minibatch do not divide over {count} devices"
            )
    return _constrain(tree, PartitionSpec(*[None] * axis, AXIS))


def whole(tree: Any) -> Any:
    """The same tree, every leaf whole on each of the devices; the tree itself where no mesh is set."""
    return _constrain(tree, PartitionSpec())


def _num_devices() -> int:
    """Devices of the axis, 0 where no mesh has it."""
    return jax.sharding.get_abstract_mesh().shape.get(AXIS, 0)


def _constrain(tree: Any, spec: PartitionSpec) -> Any:
    if not _num_devices():
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)
