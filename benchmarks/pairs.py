"""Two programs timed in turn, A B A B ..., so that a drifting machine affects both equally.

Each side is a worker process of its own (its own Python environment, if need be) that compiles first and then runs once
for every line it reads. A worker calls `serve(run)`; the driver calls `alternate(...)`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(run: Callable[[int], Any]) -> None:
    """Worker side: warm up, say so, then time one `run(i)` a line of input. Results go to the true stdout."""
    run(0)
    print("ready", flush=True)
    for i, _ in enumerate(sys.stdin, start=1):
        begin = time.perf_counter()
        run(i)
        print(json.dumps(time.perf_counter() - begin), flush=True)


def sizes(*names: str, paths: tuple[str, ...] = ()) -> argparse.Namespace:
    """Worker side: the integers that the command line gives, such as --num-envs=4 for "num_envs", and paths as text."""
    parser = argparse.ArgumentParser()
    for name in (*names, *paths):
        parser.add_argument(f"--{name.replace('_', '-')}", type=str if name in paths else int, required=True)
    return parser.parse_args()


class Worker:
    """Driver side of one worker process."""

    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.wait_for("ready")

    def wait_for(self, word: str | None = None) -> str:
        """The next line that the worker prints, or the next that is this word."""
        for line in self.process.stdout:
            if word is None or line.strip() == word:
                return line
        raise RuntimeError(f"worker ended with {self.process.wait()}: {self.process.args}")

    def time(self) -> float:
        """Seconds of one more run."""
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(json.loads(self.wait_for()))

    def close(self) -> None:
        """End the worker."""
        self.process.stdin.close()
        self.process.wait()


def alternate(ours: list[str], theirs: list[str], work: float, pairs: int = 5) -> dict[str, float]:
    """Run both commands as workers and time them in turn.

    Args:
      ours, theirs: command lines of the two workers.
      work: what one run does, in environment steps, samples or whatever is counted.
      pairs: number of pairs.

    Returns:
      Median rates of both (work / second) and the median, least and greatest of the pairwise ratio ours / theirs.
    """
    workers = Worker(ours), Worker(theirs)
    seconds = [tuple(worker.time() for worker in workers) for _ in range(pairs)]
    for worker in workers:
        worker.close()
    ratios = [b / a for a, b in seconds]
    return {
        "ours_per_second": work / statistics.median(a for a, _ in seconds),
        "theirs_per_second": work / statistics.median(b for _, b in seconds),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }
