"""A training run in progress: its state, advanced part by part, its rows of metrics, its clock, its checkpoints."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl import checkpoint, loops, runs
from purerl.commands import console, evaluations, rows
from purerl.commands.guard import Guard
from purerl.commands.options.train import Options
from purerl.commands.training import Config, Program, num_updates
from purerl.logging import Writer
from purerl.loops import Callback, Chunk, LoopState
from purerl.loops.chunked import call_all
from purerl.text import format_number

_PART_SECONDS = 0.5

Show = Callable[[int, str], None]


class Course:
    """The moving part of a run; see `advance`.

    Attributes:
      state: after `done` updates.
      done: updates made so far.
      lost: whether all seeds have diverged.
      guard: counts updates that were skipped.
      reached: why the run ends before its last step, in words; empty if it does not.
    """

    def __init__(
        self,
        directory: Path,
        options: Options,
        config: Config,
        program: Program,
        callbacks: Sequence[Callback],
        state: LoopState,
        details: Mapping[str, Any],
    ) -> None:
        self._directory, self._options, self._config, self._program = directory, options, config, program
        self.state, self.done = state, num_updates(state)
        self.lost, self.reached = False, ""
        self.guard = Guard(config.num_seeds, self._total, details.get("skipped", {}))
        self._callbacks, self._note = callbacks, ""
        self._waiting = rows.from_json(details.get("waiting", {}))
        self._evaluate = evaluations.during(config, program, directory, options.eval_episodes)
        self._played, self._before, self._per_update = 0, float(details.get("seconds", 0.0)), math.inf

    @property
    def logged(self) -> int:
        """Updates that have a row."""
        return self.done - rows.count(self._waiting)

    @property
    def num_steps(self) -> int:
        """Environment steps so far, of all seeds."""
        return self.done * self._config.update_steps * self._config.num_seeds

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do."""
        return (
            self.lost or self.guard.is_stuck or bool(self.reached) or (self.done >= self._total and not self._waiting)
        )

    def begin(self, writers: Sequence[Writer]) -> None:
        """Compile, and start the clock; `writers` of rows, one per seed."""
        self._writers = writers
        with console.watchdog("compiling"):
            self._advance = self._program.compile(self.state, self._options.eval_episodes)
        self._begun = self._saved = time.monotonic()

    def advance(self, show: Show) -> None:
        """Make a part of a row, or complete the row; save if it is time to."""
        if not self._row_is_due():
            self._make_part()
            self.lost = bool(np.all(self._program.diverged(self.state.agent_state)))
        if self._row_is_due():
            self._complete_row(show)
        else:
            show(self.num_steps, self._note)
        if not self.lost and time.monotonic() - self._saved > self._options.checkpoint_seconds:
            self.save()

    def save(self) -> None:
        """Save everything that the run needs to be resumed bit for bit, with the same rows."""
        details = {
            "num_updates": self.done,
            "num_steps": self.done * self._config.update_steps,
            "seconds": self._before + time.monotonic() - self._begun,
            "skipped": self.guard.to_json(),
            "waiting": rows.to_json(self._waiting),
            "metrics": rows.seal(self._directory / "metrics.csv"),
        }
        root = self._directory / "checkpoints"
        checkpoint.save_step(root, self.done, self.state, details, keep=self._options.keep)
        self._saved = time.monotonic()

    @contextlib.contextmanager
    def saved_if_it_fails(self) -> Iterator[None]:
        """Save if the body raises, as when standard output is closed or a table cannot be written."""
        try:
            yield
        except Exception:
            with contextlib.suppress(Exception):
                if not self.lost:
                    self.save()
                    saved = f"Saved. Resume with: purerl train --resume {runs.quoted(self._directory)}"
                    print(saved, file=sys.stderr, flush=True)
            raise

    @property
    def _total(self) -> int:
        return self._config.task.preset.num_updates

    def _row_is_due(self) -> bool:
        ended = self.lost or self.done >= self._total or self.done % self._program.chunk == 0
        return bool(self._waiting) and ended

    def _make_part(self) -> None:
        left = min(self._program.chunk - self.done % self._program.chunk, self._total - self.done)
        length = max(1, min(left, int(_PART_SECONDS / self._per_update)))
        begun = time.monotonic()
        with console.watchdog(f"a part of {length:,} updates"):
            self.state, metrics = self._advance(self.state, length)
            metrics = jax.device_get(metrics)  # waits for the end of the part
        self._per_update = max(time.monotonic() - begun, 1e-9) / length
        part = {name: np.moveaxis(value, -1, 0)[:length] for name, value in metrics.items()}  # [length] or [length, S]
        self.guard.see(part, self.done)
        self._waiting.append(part)
        self.done += length

    def _complete_row(self, show: Show) -> None:
        """Evaluate if it is due, write the row, and call the callbacks."""
        if evaluations.due(self._config, self.logged, self.done):
            show(self.num_steps, "evaluating")
        evaluated = self._evaluate(self.state.agent_state, self.logged, self.done)
        metrics = loops.reduce_metrics(rows.joined(self._waiting)) | evaluated.metrics
        returned = self._write(metrics)
        chunk = Chunk(self.done, self.done * self._config.update_steps, metrics, self.state.agent_state, self.state)
        ended = call_all(self._callbacks, chunk)
        self._waiting.clear()
        self._note = returned or self._note
        show(self.num_steps, ", ".join(filter(None, [self._note, evaluated.note])))
        if evaluated.reached:
            self.reached = f"an evaluation reached {self._config.until:g}"
        elif ended:
            self.reached = "a callback ended it"

    def _write(self, metrics: Mapping[str, Any]) -> str:
        """Write one row per seed, and return what the progress shows; empty if no episode ended."""
        arrays = {name: np.atleast_1d(value) for name, value in metrics.items()}
        passed = time.monotonic() - self._begun
        set_aside = (self.done - self.logged) * self._config.update_steps * self._config.num_seeds
        # Episodes of a masked rollout may end before the steps that are set aside for them.
        self._played += int(np.sum(arrays["num_env_steps"])) if "num_env_steps" in arrays else set_aside
        rate = self._played / max(passed, 1e-9)
        clock = {"num_updates": self.done, "seconds": self._before + passed, "steps_per_second": rate}
        for seed, writer in enumerate(self._writers):
            row = {name: array[seed] for name, array in arrays.items()} | clock
            writer.write(self.done * self._config.update_steps, row)
        returns = arrays["episode_return"]
        known = returns[np.isfinite(returns)]
        return f"return {format_number(float(known.mean()))}" if known.size else ""
