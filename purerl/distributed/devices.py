"""One program on several devices, of one machine or of many: a population in parts, or one agent's environments.

`over_devices` gives every device its own part of a population, without talking to the others. `data_parallel` splits
the environments of one agent, whose gradients are then summed over the devices. `initialize` joins several processes,
each with its own devices, into one such program that all of them run.

A CPU counts as one device unless told otherwise, and XLA runs the small products of a vmapped population on few of its
cores. `use_all_cores` makes every core a device; a population of 64 PPO agents then ran at 1.8 times the speed on two.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from purerl.distributed import mesh
from purerl.prng import is_key
from purerl.runtime import num_cores


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


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_seconds: int = 10,
) -> None:
    """Join this process to the others of a run. Call it in each, before anything runs on JAX.

    All processes then run one program in step: the same calls in the same order, with the same arguments. The death of
    one ends all others within two heartbeats: XLA ends them with "another task died" and exit code 134, or, where one
    notices in a broken connection, with that exception. An exception that nobody catches ends its process at once,
    without the wait for the others that JAX else makes. Nothing recovers by itself: start all processes again.

    Args:
      coordinator: "host:port" of process 0, at which all meet. None: Slurm, Open MPI, Kubernetes and TPU pods tell.
      num_processes: how many there are; None likewise.
      process_id: which of them this is, from 0; None likewise.
      heartbeat_seconds: a process silent for so long counts as dead.

    Raises:
      ValueError: the coordinator or a number is missing, and no cluster tells it; or `heartbeat_seconds` is below 1.
      RuntimeError: it was called before, or JAX has initialised its devices already.
    """
    if heartbeat_seconds < 1:
        raise ValueError(f"heartbeat_seconds = {heartbeat_seconds} must be at least 1")
    jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=heartbeat_seconds)
    sys.excepthook = _end_at_once


def _end_at_once(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Tell what happened and exit with 1; the others notice, where a wait for them would keep them waiting."""
    traceback.print_exception(kind, error, where)
    process = f"process {jax.process_index()} of {jax.process_count()}"
    print(f"{process} ends here, and with it the run: start all processes again", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def is_main() -> bool:
    """Whether this process is the one that writes files and prints: process 0."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Wait until every process has come here; nothing where there is one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("purerl")


def from_main(value: np.ndarray | np.generic) -> Any:
    """The main process's value, in every process."""
    return multihost_utils.broadcast_one_to_all(value) if jax.process_count() > 1 else value


def num_parts(width: int) -> int:
    """How many devices a population of this width is spread over: the most that divide it, as many of each process.

    Raises:
      ValueError: there are several processes, and the width is no multiple of their number.
    """
    processes = jax.process_count()
    if width % processes:
        raise ValueError(f"a population of {width} cannot be spread over {processes} processes: take a multiple")
    share = width // processes
    return processes * next(n for n in range(min(share, jax.local_device_count()), 0, -1) if share % n == 0)


def over_devices(function: Callable[..., Any], members: tuple[Any, ...], shared: tuple[Any, ...] = ()) -> Any:
    """`function(*members, *shared)` with the leading axis of the members split over the devices of all processes.

    Where the width does not divide by the number of devices, fewer are used. Results are equal bit for bit to one
    device's at the same local width.

    Args:
      function: maps members with leaves [W, ...] to a result with leaves [W, ...], each row on its own.
      members: arguments with leaves [W, ...]; with several processes all of them, the same in each.
      shared: further arguments, the same for all.

    Returns:
      What the function returns, spread over the devices; `to_host` fetches it.

    Raises:
      ValueError: as `num_parts`.
    """
    parts = num_parts(jax.tree.leaves(members)[0].shape[0])
    if parts == 1:
        return function(*members, *shared)
    mesh = _population_mesh(parts)
    specs = tuple(PartitionSpec("population") for _ in members) + tuple(PartitionSpec() for _ in shared)
    run = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("population"), check_vma=False)
    return run(*members, *shared)


def population_sharding(width: int) -> NamedSharding | None:
    """How `over_devices` lays out the leading axis of a population of this width; None on one device.

    Raises:
      ValueError: as `num_parts`.
    """
    parts = num_parts(width)
    return NamedSharding(_population_mesh(parts), PartitionSpec("population")) if parts > 1 else None


def _population_mesh(parts: int) -> jax.sharding.Mesh:
    return jax.make_mesh((parts,), ("population",), (AxisType.Auto,), devices=_devices(parts))


def _devices(count: int) -> list[jax.Device]:
    """The first devices of each process, as many of each, process by process."""
    each = count // jax.process_count()
    return [device for process in range(jax.process_count()) for device in jax.local_devices(process)[:each]]


def to_host(tree: Any) -> Any:
    """The tree with NumPy arrays, whole on every process, wherever its parts lie; all processes must call it.

    Typed keys stay typed keys, on this process's own device.
    """
    return jax.tree.map(_leaf_to_host, tree)


def _leaf_to_host(leaf: Any) -> Any:
    if is_key(leaf):
        return jax.random.wrap_key_data(_leaf_to_host(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def data_parallel(num_devices: int | None = None) -> contextlib.AbstractContextManager[Any]:
    """Split the environments of each agent over devices: `with data_parallel(): train(...)`.

    It is the same computation, seen as a whole: actors and trajectories are split over environments, the rows of every
    minibatch over devices, and parameters are kept on all of them; the compiler adds the sums of the gradients. Results
    equal those of one device up to the order of those sums. It serves agents whose update is large: every step of the
    rollout and every minibatch costs a word between devices.

    Args:
      num_devices: how many, the first ones; None: all, of all processes. It must divide `num_envs`, and the rows of a
        minibatch.

    Raises:
      ValueError: there are fewer devices.
    """
    count = jax.device_count() if num_devices is None else num_devices
    if not 1 <= count <= jax.device_count():
        raise ValueError(f"num_devices = {count} is not between 1 and {jax.device_count()}, which there are")
    return jax.set_mesh(jax.make_mesh((count,), (mesh.AXIS,), (AxisType.Auto,), devices=jax.devices()[:count]))
