"""Compile a program for an accelerator that need not be there; its memory and a lower bound of its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from purerl import branches
from purerl.accelerators import hlo, work
from purerl.accelerators.targets import Target, devices
from purerl.types import PyTree


class Seconds(NamedTuple):
    """A lower bound of the time of one run, in parts; each is a count times a constant of the target."""

    launches: float
    waits: float
    bytes: float
    operations: float

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return sum(self)


def compile_for(target: Target, function: Callable[..., Any], *arguments: PyTree, donate: tuple[int, ...] = ()) -> Any:
    """The function compiled for one device of the target.

    Args:
      target: the accelerator.
      function: of trees of arrays.
      arguments: arrays, or their shapes and dtypes.
      donate: positions of the arguments whose memory is given to the result.

    Raises:
      ModuleNotFoundError: as `targets.devices`.
    """
    mesh = Mesh(np.array(devices(target)[:1]), ("device",), axis_types=(AxisType.Auto,))
    place = NamedSharding(mesh, PartitionSpec())
    jitted = jax.jit(function, in_shardings=place, out_shardings=place, donate_argnums=donate)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    with branches.for_any_platform():
        return jitted.trace(*shapes).lower(lowering_platforms=(target.platform,)).compile()


def modelled_seconds(target: Target, text: str) -> Seconds:
    """The time that a compiled program's launches, host waits, bytes and operations take at least.

        launches · 3 µs + waits · 15 µs + bytes / bandwidth + operations / peak, on an H100

    Args:
      target: the accelerator, with its constants.
      text: `compiled.as_text()`.
    """
    total = hlo.read(text).total
    operations, moved = work.totals(text)
    return Seconds(
        total.launches * target.launch_seconds,
        total.waits * target.wait_seconds,
        moved / target.bandwidth,
        operations / target.peak,
    )
