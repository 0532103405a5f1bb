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
    ready = {"work": built.work, "first_seconds": time.perf_counter() - begin, **built.facts}
    print(json.dumps(ready | {"resident_bytes": _peak_bytes() - resident}), file=answers)
    for seed, _ in enumerate(sys.stdin, start=1):
        wall, processor = time.perf_counter(), time.process_time()
        result = built.run(seed)
        times = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
        score = {} if built.score is None else {"score": float(built.score(result))}
        print(json.dumps(times | score), file=answers)


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
