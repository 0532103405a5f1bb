"""Progress of a search while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """The progress of a search, as its `progress` callback sees it after every chunk.

    Attributes:
      phase: "compile" (before the first chunk), "train" or "evaluate".
      block, num_blocks: index of the running block, from 0, and the number of blocks.
      steps, total_steps: environment steps of all agents, so far and in total.
      seconds: since the search began, including earlier processes of a resumed search.
      steps_per_second: since the first chunk of this process ended, so without compiling; NaN until the second one has.
      seconds_left: at that rate; NaN until it is known.
      best_return: highest training return of a trial in a chunk so far, the mean over its seeds; NaN if none yet.
      note: what has just been decided: the exact plan before the first rung, then the width of the blocks; often empty.
    """

    phase: str
    block: int
    num_blocks: int
    steps: int
    total_steps: int
    seconds: float
    steps_per_second: float
    seconds_left: float
    best_return: float
    note: str = ""


class Monitor:
    """Measures a search as it runs and calls the callback."""

    def __init__(self, callback: Callable[[Progress], None] | None, total_steps: int) -> None:
        self._callback = callback
        self._total_steps = total_steps
        self._steps = 0
        self._best = math.nan
        self._before, self._skipped = 0.0, 0
        self._begin = time.perf_counter()
        self._first: tuple[float, int] | None = None  # when the first chunk of this process ended, and the steps then
        self._last = (self._begin, 0)
        self.block = 0
        self.num_blocks = 0

    def skip(self, steps: int, seconds: float) -> None:
        """Count the steps of an earlier process, which ended `seconds` after the search began."""
        self._steps += steps
        self._skipped += steps
        if self._first is not None:  # steps that this process has not made are none of its rate
            self._first, self._last = ((moment, done + steps) for moment, done in (self._first, self._last))
        self._before = max(self._before, seconds)

    def report(self, phase: str, steps: int = 0, best: float = math.nan, note: str = "") -> None:
        """Count environment steps that have just ended, and call the callback."""
        self._steps += steps
        self._best = max((x for x in (self._best, best) if not math.isnan(x)), default=math.nan)
        if steps:
            self._last = time.perf_counter(), self._steps
            self._first = self._first or self._last
        if self._callback is None:
            return
        rate = self.steps_per_second()
        self._callback(
            Progress(
                phase=phase,
                block=self.block,
                num_blocks=self.num_blocks,
                steps=self._steps,
                total_steps=self._total_steps,
                seconds=self.seconds(),
                steps_per_second=rate,
                seconds_left=max(0, self._total_steps - self._steps) / rate,
                best_return=self._best,
                note=note,
            )
        )

    @property
    def steps(self) -> int:
        """Environment steps of all members so far, in all processes."""
        return self._steps

    def seconds(self) -> float:
        """Seconds since the search began, in all processes."""
        return self._before + time.perf_counter() - self._begin

    def steps_per_second(self) -> float:
        """Environment steps per second of this process since its first chunk ended.

        Before the second has ended it is the rate of earlier processes, compiling included; NaN without any.
        """
        (last_time, last_steps), (first_time, first_steps) = self._last, self._first or self._last
        if last_time > first_time:
            return (last_steps - first_steps) / (last_time - first_time)
        return self._skipped / self._before if self._before else math.nan
