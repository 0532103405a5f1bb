"""Worker side of a measurement: build a program, run it once to compile, then once for every line of input.

A worker is `python benchmarks/workers/in_<side>.py '{"kind": "train", ...}'`, in the environment with the library of
its side; this file needs nothing but the standard library. Answers are lines of JSON on the true standard output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

SECONDS = 1 / 3  # what one answer lasts at least, about


class Built(NamedTuple):
    """A program that is ready to run.

    Attributes:
      run: one whole run with a seed; it returns when the run has ended.
      work: what a run does, in the unit of its row, such as environment steps.
      score: mean return at the end of a run, from what `run` returned; None if there is none.
      facts: figures known without running, such as `compile_seconds`.
    """

    run: Callable[[int], Any]
    work: float
    score: Callable[[Any], float] | None = None
    facts: Mapping[str, float] = {}


def serve(builders: Mapping[str, Callable[[dict[str, Any]], Built]]) -> None:
    """Build the workload that the command line gives, and answer one line after another."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    workload = json.loads(sys.argv[1])
    resident, begin = _peak_bytes(), time.perf_counter()
    built = builders[workload.pop("kind")](workload)
    built.run(0)
    first, repeats = time.perf_counter() - begin, _repeats(built.run)
    ready = {"work": built.work * repeats, "first_seconds": first, **built.facts}
    if "operations" in ready:
        ready["operations_per_unit"] = ready.pop("operations") / built.work
    print(json.dumps(ready | {"resident_bytes": _peak_bytes() - resident}), file=answers)
    for number, _ in enumerate(sys.stdin, start=1):
        wall, processor = time.perf_counter(), time.process_time()
        for seed in range(number * repeats, (number + 1) * repeats):
            result = built.run(seed)
        times = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
        score = {} if built.score is None else {"score": float(built.score(result))}
        print(json.dumps(times | score), file=answers)


def _repeats(run: Callable[[int], Any]) -> int:
    """How many runs take a third of a second: what is shorter is lost in the noise of one call."""
    begin = time.perf_counter()
    run(0)
    return max(1, round(SECONDS / (time.perf_counter() - begin)))


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
