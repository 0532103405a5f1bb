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
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

from purerl.distributed import mesh
from purerl.distributed.processes import connect, wait_for_all
from purerl.hparams import check_positive
from purerl.prng import is_key
from purerl.runtime import THREADS_VARIABLE, num_cores
from purerl.types import PyTree


def use_all_cores() -> None:
    """Make every CPU core that this process may use a device. Call it before anything runs on JAX.

    It has no effect if an accelerator is the default, or if `jax_num_cpu_devices` was set already.

    Raises:
      RuntimeError: JAX has initialised its devices already.
    """
    if jax.config.values["jax_num_cpu_devices"] < 1 and "xla_force_host_platform_device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):
        jax.config.update("jax_num_cpu_devices", num_cores())


def use_one_core() -> None:
    """Let XLA compute on one CPU core, which is fastest for one small agent. Call it before anything runs on JAX.

    XLA gives matrix products to other threads, and waking one takes longer than a small product does. PPO with 4
    environments x 128 steps was 1.2 to 1.4 times as fast on one core as on two, and so were DQN, SAC and TD3 with
    batches of up to 256; PPO with 64 x 128, whose minibatches have 2,048 rows, took 1.7 times as long. Small products
    have the same bits either way. Programs are compiled for one core: keep them in a compile cache of their own.

    Raises:
      RuntimeError: JAX has initialised its devices already.
    """
    if os.environ.get(THREADS_VARIABLE) == "1" and jax.config.values["jax_num_cpu_devices"] == 1:
        return
    for number in (2, 1):  # once it has devices, JAX refuses to change their number, but not to set it again
        jax.config.update("jax_num_cpu_devices", number)
    os.environ[THREADS_VARIABLE] = "1"


def num_parts(width: int) -> int:
    """Number of devices for a population of this width: the largest that divides it, with as many in each process.

    Raises:
      ValueError: there are several processes and the width is not a multiple of their number.
    """
    processes = jax.process_count()
    if width % processes:
        raise ValueError(f"a population of {width} cannot be spread over {processes} processes: take a multiple")
    share = width // processes
    return processes * next(n for n in range(min(share, jax.local_device_count()), 0, -1) if share % n == 0)


def over_devices(
    function: Callable[..., PyTree],
    members: tuple[PyTree, ...],
    shared: tuple[PyTree, ...] = (),
    *,
    at_once: int | None = None,
) -> PyTree:
    """`function(*members, *shared)` with the leading axis of the members split over the devices of all processes.

    If the width is not divisible by the number of devices, fewer are used. Results are equal, bit for bit, to those of
    one device that computes as many at once.

    What varies over the devices is not checked (`check_vma=False` of `jax.shard_map`). The check protects results that
    are declared the same on all devices, and there are none here: every result is split, and no device talks to
    another. It would refuse every agent: the first carry of each `scan` and both branches of each `cond` would have to
    be marked as varying (`jax.lax.pcast`), also where they are constants, such as a bias of zeros or the count of Adam.

    Args:
      function: maps members with leaves [W, ...] to a result with leaves [W, ...], each row on its own.
      members: arguments with leaves [W, ...], whole and the same in every process.
      shared: further arguments, the same for all.
      at_once: how many members a device computes side by side at most, before the next ones. None: all, which suits a
        GPU. A core of a CPU is fastest with as many as its cache holds, 8 to 16 agents of PPO.

    Returns:
      What the function returns, spread over the devices; `to_host` fetches it.

    Raises:
      ValueError: as `num_parts`, or at_once is not positive.
    """
    if at_once is not None:
        check_positive(at_once=at_once)
        function = _in_blocks(function, at_once, len(members))
    parts = num_parts(jax.tree.leaves(members)[0].shape[0])
    if parts == 1:
        return function(*members, *shared)
    mesh = _population_mesh(parts)
    specs = tuple(PartitionSpec("population") for _ in members) + tuple(PartitionSpec() for _ in shared)
    run = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("population"), check_vma=False)
    return run(*members, *shared)


def _in_blocks(function: Callable[..., PyTree], at_once: int, num_members: int) -> Callable[..., PyTree]:
    """The function, of which the first arguments are members, for `at_once` of them after the other."""

    def run(*arguments: PyTree) -> PyTree:
        members, shared = arguments[:num_members], arguments[num_members:]
        size = jax.tree.leaves(members)[0].shape[0]
        count = -(-size // at_once)
        width = -(-size // count)
        if count == 1:
            return function(*arguments)
        order = jnp.minimum(jnp.arange(count * width), size - 1).reshape(count, width)  # the last fills up
        found = jax.lax.map(lambda rows: function(*jax.tree.map(lambda x: x[rows], members), *shared), order)
        return jax.tree.map(lambda x: x.reshape(count * width, *x.shape[2:])[:size], found)

    return run


def population_sharding(width: int) -> NamedSharding | None:
    """Sharding that `over_devices` gives the leading axis of a population of this width; None on one device.

    Raises:
      ValueError: as `num_parts`.
    """
    parts = num_parts(width)
    return NamedSharding(_population_mesh(parts), PartitionSpec("population")) if parts > 1 else None


def connect_population(width: int) -> None:
    """Connect the devices of all processes that a population of this width is spread over; see `processes.connect`.

    Programs whose members exchange data need it, as those of population-based training.

    Raises:
      ValueError: as `num_parts`.
    """
    connect(_population_mesh(num_parts(width)))


def _population_mesh(parts: int) -> jax.sharding.Mesh:
    return jax.make_mesh((parts,), ("population",), (AxisType.Auto,), devices=_devices(parts))


def _devices(count: int) -> list[jax.Device]:
    """The first devices of each process, the same number of each, process by process."""
    each = count // jax.process_count()
    return [device for process in range(jax.process_count()) for device in jax.local_devices(process)[:each]]


def to_host(tree: PyTree) -> PyTree:
    """The tree with NumPy arrays, gathered whole on every process; all processes must call it.

    Typed keys stay typed keys, on this process's own device.
    """
    if any(map(_is_spread, jax.tree.leaves(tree))):
        jax.block_until_ready(tree)  # the devices meet when all of them are free
        wait_for_all()
    return jax.tree.map(_leaf_to_host, tree)


def to_devices(leaf: np.ndarray | jax.Array, sharding: Sharding | None) -> jax.Array:
    """The array, the same in every process, placed on devices of all processes; None: on this process's own.

    `jax.device_put` would compare the whole array with that of every other process.
    """
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _is_spread(leaf: PyTree) -> bool:
    """Whether parts of an array lie in other processes."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _leaf_to_host(leaf: PyTree) -> PyTree:
    if is_key(leaf):
        return jax.random.wrap_key_data(_leaf_to_host(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    if _is_spread(leaf):
        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def data_parallel(num_devices: int | None = None) -> contextlib.AbstractContextManager[Any]:
    """Split the environments of each agent over devices: `with data_parallel(): train(...)`.

    The computation as a whole stays the same: actors and trajectories are split over environments, the rows of every
    minibatch over devices, and parameters are kept on all of them; the compiler sums the gradients. Results equal those
    of one device up to the order of those sums. It pays off for agents with large updates: every step of the rollout
    and every minibatch takes one small all-reduce.

    Args:
      num_devices: number of devices, the first ones; None: all, of all processes. It must divide `num_envs` and the
        rows of a minibatch.

    Raises:
      ValueError: there are fewer devices.
    """
    count = jax.device_count() if num_devices is None else num_devices
    if not 1 <= count <= jax.device_count():
        raise ValueError(f"num_devices = {count} is not between 1 and {jax.device_count()}, the number of devices")
    found = jax.make_mesh((count,), (mesh.AXIS,), (AxisType.Auto,), devices=jax.devices()[:count])
    connect(found)
    return jax.set_mesh(found)
