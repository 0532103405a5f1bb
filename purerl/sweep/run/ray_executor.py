"""Execute blocks by Ray: on the cores of this machine or on a cluster, one task per block.

Ray ships agents and environments as they are (cloudpickle), starts one process per task, and repeats a lost task. A
block depends on nothing but its own data, so it gives the same bits wherever and however often it runs. Only bare `ray`
is needed: `pip install purerl[ray]`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from purerl.runtime import install_hint
from purerl.sweep.run import executors
from purerl.sweep.run.executors import Block, Executor, Outcome, Report
from purerl.sweep.run.programs import Program

_TOKEN = "RAY_AUTH_TOKEN"
_programs: dict[str, tuple[Program, ...]] = {}  # of a worker process, whose blocks share compiled programs


def on_ray(
    address: str | None = None, *, num_cpus: float = 1, num_gpus: float = 0, max_in_flight: int = 64, retries: int = -1
) -> Executor:
    """An executor that runs the blocks of a search on Ray.

    Workers see one device each unless `num_gpus` gives them more, so the width of a block is its local width: results
    are equal bit for bit to those of a search on one device with blocks of the same width.

    Args:
      address: of a cluster ("auto", "host:6379"); None starts Ray on this machine, unless it was initialised already.
      num_cpus, num_gpus: resources of a block.
      max_in_flight: largest number of blocks that wait or run at a time; each holds its states in Ray's object store.
      retries: how often a lost block is started again; -1: without limit.

    Returns:
      An executor for `search`.

    Raises:
      ModuleNotFoundError: Ray is not installed; the message says how.
      ValueError: the address is that of another machine and no token is set: anyone who reaches an open cluster can
        run code on it.
    """
    _import_ray()
    if address not in (None, "local", "auto") and not _is_here(str(address)) and not os.environ.get(_TOKEN):
        raise ValueError(
            f"Ray at {address} is another machine: set RAY_AUTH_MODE=token and {_TOKEN} on all of them, since whoever "
            "reaches an open cluster can run code on it"
        )

    def execute(
        programs: tuple[Program, ...], blocks: Iterable[Block], report: Report, /
    ) -> Iterator[tuple[Block, Outcome]]:
        ray = _import_ray()
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": _ENVIRONMENT})
        shipped = ray.put(programs)
        task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=retries)(_run)
        waiting = iter(blocks)
        running: dict[Any, Block] = {}
        while True:
            while len(running) < max_in_flight and (block := next(waiting, None)) is not None:
                running[task.remote(shipped.hex(), [shipped], block)] = block
            if not running:
                return
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            block, outcome = running.pop(done), ray.get(done)
            for chunk in range(len(block.chunks)):
                report(block, chunk, outcome.curves[:, chunk])
            report(block, len(block.chunks), None)
            yield block, outcome

    return execute


_ENVIRONMENT = {"JAX_NUM_CPU_DEVICES": "1", "OMP_NUM_THREADS": "1"}


def _run(name: str, shipped: list[Any], block: Block) -> Outcome:
    """Execute a block in a worker. The programs are fetched once, so that later blocks find them compiled."""
    ray = _import_ray()
    if name not in _programs:
        _programs[name] = ray.get(shipped[0])
    return executors.run(_programs[name][block.group], block)


def _is_here(address: str) -> bool:
    return address.rpartition(":")[0].removeprefix("ray://") in ("127.0.0.1", "localhost", "::1", "[::1]")


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"running blocks with Ray needs ray: {install_hint('ray')}") from None
    return ray
