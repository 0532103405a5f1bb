"""One population on all local devices: every device runs its own part, without talking to the others.

A CPU counts as one device unless told otherwise, and XLA runs the small products of a vmapped population on few of its
cores. `use_all_cores` makes every core a device; a population of 64 PPO agents then ran at 1.8 times the speed on two.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from purerl._machine import num_cores


def use_all_cores() -> None:
    """Make every CPU core that this process may use a device. Call it before anything runs on JAX.

    It changes nothing where an accelerator is the default, or where `jax_num_cpu_devices` was set already.

    Raises:
      RuntimeError: JAX has initialised its devices already.
    """
    if jax.config.values["jax_num_cpu_devices"] < 1 and "xla_force_host_platform_device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):
        jax.config.update("jax_num_cpu_devices", num_cores())


def num_parts(width: int) -> int:
    """How many local devices a population of this width is spread over: the most that divide it evenly."""
    return next(n for n in range(min(width, jax.local_device_count()), 0, -1) if width % n == 0)


def over_devices(function: Callable[..., Any], members: tuple[Any, ...], shared: tuple[Any, ...] = ()) -> Any:
    """`function(*members, *shared)` with the leading axis of the members split over the local devices.

    Where the width does not divide by the number of devices, fewer are used. Results are equal bit for bit to one
    device's at the same local width.

    Args:
      function: maps members with leaves [W, ...] to a result with leaves [W, ...], each row on its own.
      members: arguments with leaves [W, ...].
      shared: further arguments, the same for all.

    Returns:
      What the function returns, spread over the devices.
    """
    parts = num_parts(jax.tree.leaves(members)[0].shape[0])
    if parts == 1:
        return function(*members, *shared)
    mesh = jax.make_mesh((parts,), ("population",), (AxisType.Auto,), devices=jax.local_devices()[:parts])
    specs = tuple(PartitionSpec("population") for _ in members) + tuple(PartitionSpec() for _ in shared)
    run = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("population"), check_vma=False)
    return run(*members, *shared)
