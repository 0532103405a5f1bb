"""Parameters and batches over a mesh of devices, by the rules of the model.

The axis "fsdp" splits rows of a batch, and parameters too; the axis "tp" splits heads, hidden units and the vocabulary.
Nothing in a loss knows of it: arrays are placed, and the compiler inserts the collectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from purerl.types import Params, PyTree

FSDP, TP = "fsdp", "tp"
Rules: TypeAlias = Mapping[str, Sequence[str | None]]
"""Axes of the mesh by parameter, such as `("fsdp", "tp", None)`."""


def make_mesh(fsdp: int, tp: int, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of fsdp · tp devices.

    Args:
      fsdp, tp: sizes of its axes.
      devices: None takes those of this machine.

    Raises:
      ValueError: there are fewer devices.
    """
    found = list(jax.devices() if devices is None else devices)
    if len(found) < fsdp * tp:
        raise ValueError(f"fsdp · tp = {fsdp} · {tp} needs {fsdp * tp} devices, and there are {len(found)}")
    return Mesh(np.array(found[: fsdp * tp]).reshape(fsdp, tp), (FSDP, TP))


def spec(shape: Sequence[int], axes: Sequence[str | None], mesh: Mesh) -> PartitionSpec:
    """The rule of one parameter, without the axes that do not divide its sizes.

    Examples:
      >>> mesh = make_mesh(1, 1)
      >>> spec((8, 6), ("fsdp", "tp"), mesh)
      P('fsdp', 'tp')
    """
    padded = [*axes, *[None] * (len(shape) - len(axes))]
    return PartitionSpec(*(a if a is None or size % mesh.shape[a] == 0 else None for size, a in zip(shape, padded)))


def shardings(params: Params, rules: Rules, mesh: Mesh) -> dict[str, NamedSharding]:
    """Where each parameter of a flat dict goes; one without a rule is whole on every device."""
    return {name: NamedSharding(mesh, spec(leaf.shape, rules.get(name, ()), mesh)) for name, leaf in params.items()}


def place(params: Params, rules: Rules, mesh: Mesh) -> Params:
    """The parameters on the devices of the mesh."""
    return jax.device_put(params, shardings(params, rules, mesh))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """A tree, whole on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def spread(batch: PyTree, mesh: Mesh) -> PyTree:
    """A batch whose rows are split over the axis "fsdp".

    Raises:
      ValueError: the axis does not divide the rows.
    """
    for leaf in jax.tree.leaves(batch):
        if leaf.shape[0] % mesh.shape[FSDP]:
            raise ValueError(f"{leaf.shape[0]} rows of a part do not divide over fsdp = {mesh.shape[FSDP]} devices")
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec(FSDP)))
