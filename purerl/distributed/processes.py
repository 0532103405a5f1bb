"""Several processes that run one program in lockstep: how they join, wait for each other and end.

Processes of different speed may reach the same point minutes apart, for instance when each compiles for itself. They
therefore meet at the coordination service of JAX, which waits until all have come or one is dead. The devices alone
would not wait: gloo, by which CPUs of several processes communicate, connects a set of devices when a program first
needs it, and fails if one of them comes more than 30 s after another ("Gloo context initialization failed").
"""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from types import TracebackType

import jax
import numpy as np
from jax._src.distributed import global_state  # what JAX exports has no barrier of the coordination service
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from purerl.types import PyTree

# A day: longer than any process waits for another. One that is dead is noticed by its heartbeats.
_LONG_SECONDS = 24 * 3600

_meetings = itertools.count()
_connected: set[tuple[jax.Device, ...]] = set()


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_seconds: int = 10,
) -> None:
    """Join this process to the others of a run. Call it in each process, before anything runs on JAX.

    All processes then run one program: the same calls in the same order, with the same arguments. The death of one ends
    all others within two heartbeats: XLA ends them with "another task died" and exit code 134, or, if one notices a
    broken connection first, with that exception. An uncaught exception ends its process at once; JAX alone would wait
    for the others. Nothing recovers by itself: start all processes again. At the end JAX waits at most 5 minutes for
    the last process: let all call `wait_for_all` if one of them writes or draws for longer.

    Args:
      coordinator: "host:port" of process 0; None: read from Slurm, Open MPI, Kubernetes or the TPU pod.
      num_processes: number of processes; None: read in the same way.
      process_id: index of this process, from 0; None: read in the same way.
      heartbeat_seconds: a process that is silent for this time counts as dead.

    Raises:
      ValueError: the coordinator or a number is missing and no cluster provides it; or `heartbeat_seconds` is below 1.
      RuntimeError: it was called before, or JAX has initialised its devices already.
    """
    if heartbeat_seconds < 1:
        raise ValueError(f"heartbeat_seconds = {heartbeat_seconds} must be at least 1")
    jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=heartbeat_seconds)
    sys.excepthook = _end_at_once


def _end_at_once(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print the exception and exit with 1. The others notice that; waiting for them would block all."""
    traceback.print_exception(kind, error, where)
    process = f"process {jax.process_index()} of {jax.process_count()}"
    print(f"{process} ends here, and with it the run: start all processes again", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def is_main() -> bool:
    """Whether this process is process 0, the one that writes files and prints."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Wait until every process has called this, however long it takes; no effect with a single process.

    What devices still compute is not waited for.
    """
    if jax.process_count() > 1:
        global_state.client.wait_at_barrier(f"purerl/{next(_meetings)}", 1000 * _LONG_SECONDS)  # type: ignore[union-attr]


def from_main(value: np.ndarray | np.generic) -> PyTree:
    """The main process's value, in every process."""
    wait_for_all()
    return multihost_utils.broadcast_one_to_all(value) if jax.process_count() > 1 else value


def connect(mesh: Mesh) -> None:
    """Let the devices of a mesh find each other now, so that programs which exchange data over it can start apart.

    No effect within one process, or if they are connected already.
    """
    devices = tuple(mesh.devices.flat)
    if devices in _connected or len({device.process_index for device in devices}) < 2:
        return
    wait_for_all()
    split, whole = NamedSharding(mesh, PartitionSpec(mesh.axis_names)), NamedSharding(mesh, PartitionSpec())
    ones = jax.make_array_from_callback((len(devices),), split, lambda index: np.ones(len(devices), np.int32)[index])
    jax.block_until_ready(jax.jit(lambda x: x, out_shardings=whole)(ones))
    _connected.add(devices)
