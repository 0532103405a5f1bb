"""Driver side of a measurement: workers timed in turn, A B A B ..., so that a drifting machine affects all of them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from purerl.runtime import THREADS_VARIABLE

OURS = "purerl"
WORKERS = pathlib.Path(__file__).parent / "workers"
_TRIALS = 3  # runs by which a side chooses its cores
Runs = Mapping[str, Mapping[str, float]]  # what each worker answered in one round


class Side(NamedTuple):
    """How a side's worker is started.

    Attributes:
      name: the worker is `workers/in_<name>.py`.
      python: interpreter of its environment.
      checkout: the purerl that it measures; None: this one.
      tries_one_core: it runs JAX on one core or on all, whichever is faster.
    """

    name: str
    python: str
    checkout: pathlib.Path | None = None
    tries_one_core: bool = False


class Worker:
    """A process that has compiled one side's program and runs it when told to, with JAX on one core if asked for."""

    def __init__(self, side: Side, workload: Mapping[str, Any], *, one_core: bool = False):
        command = [side.python, str(WORKERS / f"in_{side.name}.py"), json.dumps(dict(workload))]
        variables = {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # each side compiles, whatever was compiled before
        if side.checkout is not None:
            variables["PURERL_CHECKOUT"] = str(side.checkout.resolve())
        if one_core:
            variables[THREADS_VARIABLE] = "1"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | variables
        )
        self.ready = self._answer() | {"one_core": float(one_core)}

    def run(self) -> dict[str, float]:
        """Seconds, CPU seconds and, if there is one, the score of one more run."""
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {self.process.wait()}: {' '.join(map(str, self.process.args))}")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        if kind is not None:
            self.process.kill()
        self.process.wait()


def start(side: Side, workload: Mapping[str, Any]) -> Worker:
    """A side's worker; where it tries one core, the faster of two, by the medians of three runs in turn."""
    if not side.tries_one_core:
        return Worker(side, workload)
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(Worker(side, workload, one_core=one_core)) for one_core in (False, True)]
        seconds = np.median([[worker.run()["seconds"] for worker in both] for _ in range(_TRIALS)], axis=0)
        chosen = both[int(np.argmin(seconds))]
        chosen.ready["one_core_gain"] = float(seconds[0] / seconds[1])
        stack.pop_all()
    next(worker for worker in both if worker is not chosen).__exit__(None, None, None)
    return chosen


def measure(sides: Mapping[str, Side], workload: Mapping[str, Any], rounds: int) -> dict[str, dict[str, Any]]:
    """Figures of one workload for each side.

    The workers compile one after the other and then run in turn, so that no two work at the same time.

    Args:
      sides: the workers by the names under which their figures are kept; "purerl" is among them.
      workload: what all of them do.
      rounds: runs of each side, one after the other in every round.

    Returns:
      name -> rate (work per second, the median), its quartiles, CPU seconds per million units of work, the score, and
      what the worker told when it was ready.
      A peer's `ratio` is that of purerl's rate to its own, round by round: the median, the least and the greatest.
    """
    ready, runs = _in_turn({name: (side, workload) for name, side in sides.items()}, rounds)
    found = {name: figures(name, ready, runs) for name in sides}
    for peer in found.keys() - {OURS}:
        found[peer]["ratio"] = ratio(peer, ready, runs)
    return found


def measure_series(workers: Mapping[str, tuple[Side, Mapping[str, Any]]], rounds: int) -> dict[str, dict[str, Any]]:
    """Figures of workers by their names, each with a workload of its own: in turn, so that no drift bends a curve.

    Args:
      workers: the side and the workload of each.
      rounds: runs of each, one after the other in every round.

    Returns:
      name -> figures as `measure` has them, without ratios.
    """
    ready, runs = _in_turn(workers, rounds)
    return {name: figures(name, ready, runs) for name in workers}


def _in_turn(workers: Mapping[str, tuple[Side, Mapping[str, Any]]], rounds: int) -> tuple[Runs, list[Runs]]:
    """The report of each worker when it is ready, and its answers in each round."""
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(start(*each)) for name, each in workers.items()}
        runs = [{name: worker.run() for name, worker in started.items()} for _ in range(rounds)]
    return {name: worker.ready for name, worker in started.items()}, runs


def figures(name: str, ready: Runs, runs: Sequence[Runs]) -> dict[str, Any]:
    """Medians and quartiles of one worker's runs; see `measure`."""
    rates = _rates(name, ready, runs)
    cpu_seconds = float(np.median([each[name]["cpu_seconds"] for each in runs]))
    found: dict[str, Any] = {
        "rate": float(np.median(rates)),
        "quartiles": np.quantile(rates, (0.25, 0.75)).tolist(),
        "cpu_seconds_per_million": 1e6 * cpu_seconds / ready[name]["work"],
        **{fact: value for fact, value in ready[name].items() if fact != "work"},
    }
    scores = [each[name]["score"] for each in runs if "score" in each[name]]
    if scores:
        found["score"] = float(np.mean(scores))
    return found


def ratio(peer: str, ready: Runs, runs: Sequence[Runs]) -> list[float]:
    """Purerl's rate over a peer's in each round: the median, the least and the greatest."""
    ratios = _rates(OURS, ready, runs) / _rates(peer, ready, runs)
    return [float(np.median(ratios)), float(ratios.min()), float(ratios.max())]


def _rates(name: str, ready: Runs, runs: Sequence[Runs]) -> np.ndarray:
    """Work per second in each round."""
    return np.array([ready[name]["work"] / each[name]["seconds"] for each in runs])
