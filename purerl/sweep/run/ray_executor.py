"""Execute blocks by Ray: on the cores of this machine or on a cluster, one task per block.

Ray ships agents and environments as they are (cloudpickle), starts one process per task, and repeats a lost task a few
times. A block depends on nothing but its own data, so it gives the same bits wherever and however often it runs. Only
bare `ray` is needed: `pip install purerl[ray]`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

from purerl.runtime import install_hint, write_programs_whole
from purerl.sweep.run import training
from purerl.sweep.run.programs import Program
from purerl.sweep.run.work import AgentStates, Block, Failure, Outcome, Partial, Report, Result

_TOKEN = "RAY_AUTH_TOKEN"
_programs: dict[str, tuple[Program, ...]] = {}  # of a worker process, whose blocks share compiled programs


def on_ray(
    address: str | None = None,
    *,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    max_in_flight: int = 64,
    retries: int = 3,
) -> OnRay:
    """An executor that runs the blocks of a search on Ray.

    Workers see one device each unless `num_gpus` gives them more, so the width of a block is its local width: results
    are equal bit for bit to those of a search on one device with blocks of the same width.

    A worker returns the states of its block as often as the search saves them, so a lost node costs no more than that.

    Args:
      address: of a cluster ("auto", "host:6379"); None starts Ray on this machine, unless it was initialised already.
      num_cpus, num_gpus: resources of a block. None takes one GPU per block if the cluster has any, and then as many
        blocks as it has GPUs.
      max_in_flight: largest number of blocks that wait or run at a time; each holds its states in Ray's object store.
      retries: how often a lost block is started again before it counts as failed.

    Returns:
      An executor for `search`.

    Raises:
      ModuleNotFoundError: Ray is not installed; the message says how.
      ValueError: the address is that of another machine and no token is set: anyone who reaches an open cluster can
        run code on it; or `retries` is negative.
    """
    _import_ray()
    if retries < 0:
        raise ValueError(f"retries = {retries} must not be negative: a block that kills its workers would run for ever")
    if address not in (None, "local", "auto") and not _is_here(str(address)) and not os.environ.get(_TOKEN):
        raise ValueError(
            f"Ray at {address} is another machine: set RAY_AUTH_MODE=token and {_TOKEN} on all of them, since whoever "
            "reaches an open cluster can run code on it"
        )
    return OnRay(address, num_cpus, num_gpus, max_in_flight, retries)


@dataclasses.dataclass(frozen=True)
class OnRay:
    """Executes blocks on Ray; made by `on_ray`, whose arguments it holds."""

    address: str | None
    num_cpus: float
    num_gpus: float | None
    max_in_flight: int
    retries: int

    def num_parallel(self) -> int:
        """Blocks that run at a time on GPUs; 1 on a cluster without any, where the width is that of one core."""
        gpus = float(self._started().cluster_resources().get("GPU", 0))
        return max(1, int(gpus / (self.num_gpus or 1))) if gpus and self.num_gpus != 0 else 1

    def asynchronous(self) -> OnRay:
        """The same executor with no more blocks in flight than run, so that each is chosen when a worker is free."""
        found = self._started().cluster_resources()
        by_cpu = found.get("CPU", 1) / self.num_cpus if self.num_cpus else self.max_in_flight
        running = self.num_parallel() if found.get("GPU", 0) and self.num_gpus != 0 else int(by_cpu)
        return dataclasses.replace(self, max_in_flight=max(1, min(running, self.max_in_flight)))

    def __call__(
        self, programs: tuple[Program, ...], blocks: Iterable[Block], report: Report, /
    ) -> Iterator[tuple[Block, Result]]:
        """Yield each block with its results, in the order in which they come."""
        ray = self._started()
        gpus = ray.cluster_resources().get("GPU", 0) > 0 if self.num_gpus is None else self.num_gpus
        shipped = ray.put(programs)
        task = ray.remote(num_cpus=self.num_cpus, num_gpus=float(gpus), max_retries=self.retries)(_run)
        waiting = iter(blocks)
        running: dict[Any, Block] = {}
        while True:
            while len(running) < self.max_in_flight and (block := next(waiting, None)) is not None:
                running[task.remote(shipped.hex(), [shipped], block)] = block
            if not running:
                return
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            block = running.pop(done)
            result = _result(ray, done)
            _report(report, block, result)
            yield block, result
            if isinstance(result, Partial):
                further = block._replace(states=result.states, progress=result.progress)
                running[task.remote(shipped.hex(), [shipped], further)] = further

    def _started(self) -> Any:
        ray = _import_ray()
        if not ray.is_initialized():
            options: Any = {"log_to_driver": False, "include_dashboard": False}
            ray.init(self.address, runtime_env={"env_vars": _ENVIRONMENT}, **options)
        return ray


def _result(ray: Any, done: Any) -> Result:
    """The result of a task: a failure if its workers were lost too often; exceptions of its own code are raised."""
    try:
        result: Result = ray.get(done)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        return Failure(str(error).splitlines()[0][:500])
    return result


def _report(report: Report, block: Block, result: Result) -> None:
    """Tell about the chunks that ended since the block was sent."""
    if isinstance(result, Failure):
        return
    curves = result.progress.curves if isinstance(result, Partial) else result.curves
    before = 0 if block.progress is None else block.progress.curves.shape[1]
    for chunk in range(before, curves.shape[1]):
        report(block, chunk, curves[:, chunk], _states_after(block, chunk, result))
    if isinstance(result, Outcome):
        report(block, len(block.chunks), None)


def _states_after(block: Block, chunk: int, result: Partial | Outcome) -> AgentStates | None:
    """The agents' states in a result, if they are those after a chunk."""
    last = len(block.chunks) - 1
    if isinstance(result, Partial):
        within = result.progress.updates.value.shape[1]
        last = -1 if within else result.progress.curves.shape[1] - 1
    return (lambda: result.states.agent_state) if chunk == last else None


_ENVIRONMENT = {"JAX_NUM_CPU_DEVICES": "1", "OMP_NUM_THREADS": "1"}


def _run(name: str, shipped: list[Any], block: Block) -> Result:
    """Execute a block in a worker up to its next save. Programs are fetched once, and then stay compiled."""
    ray = _import_ray()
    write_programs_whole()
    if name not in _programs:
        _programs[name] = ray.get(shipped[0])
    return next(training.run(_programs[name][block.group], block))


def _is_here(address: str) -> bool:
    return address.rpartition(":")[0].removeprefix("ray://") in ("127.0.0.1", "localhost", "::1", "[::1]")


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"running blocks with Ray needs ray: {install_hint('ray')}") from None
    return ray
