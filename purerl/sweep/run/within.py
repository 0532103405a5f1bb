"""The end of a search within a block: a trial was good enough at an evaluation between two chunks.

The block stays as it was then: its members count as trained so far, and it is trained further if the search is resumed
with another limit.
"""

from __future__ import annotations

import jax
import numpy as np

from purerl.sweep.run import budget, measurements
from purerl.sweep.run.engine import Engine, packed_like
from purerl.sweep.run.measurements import Measurements
from purerl.sweep.run.plan import Stage
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.programs import EVALUATION
from purerl.sweep.run.work import Block, Partial, Progress

KIND = "within"
"""Events of the journal: the members of a block, and the chunks after which the search ended."""


def may_end(engine: Engine, stage: Stage, block: Block, curves: np.ndarray) -> bool:
    """Whether a trial is good enough after the chunks [W, C] of a block that have ended; the last one ends the block.

    It is known if each chunk ends with an evaluation, whose mean return is the point of the curve. An objective in
    seconds is taken to be as good as it can be; `check` knows better.
    """
    if engine.budget.until is None or not _between(block, curves.shape[1]):
        return False
    if engine.programs[block.group].curve != EVALUATION:
        return False
    progress = Progress(curves, None, 0.0, None, curves[:, -1:])  # type: ignore[arg-type]
    return _good(engine, stage, block, progress) is not None


def check(engine: Engine, stage: Stage, block: Block, partial: Partial, pool: Pool) -> None:
    """Enter a block that is not finished, and raise `Enough`, if a trial of it was good enough at its last evaluation.

    Args:
      engine: of the search.
      stage: the rung.
      block: of the rung.
      partial: how far it has come.
      pool: where its states are added.
    """
    progress = partial.progress
    done = progress.curves.shape[1]
    if progress.returns is None or progress.updates.value.shape[1] or not _between(block, done):
        return
    trial = _good(engine, stage, block, progress)
    if trial is None:
        return
    _fill(engine, engine.measured, stage, block, progress)
    pool.add(block.members, partial.states, None, packed_like(engine, block.group, len(block.members)))
    engine.log.add(KIND, block.name, members=np.unique(block.members).tolist(), chunks=done)
    steps = stage.first_step + sum(block.chunks[:done]) * engine.programs[block.group].update_steps
    raise budget.reached(engine, trial, f" after {steps:,} steps")


def cut(engine: Engine, stage: Stage, group: int, num_chunks: int) -> Stage:
    """The stage as if it ended after so many chunks of a group."""
    chunks, update_steps = stage.chunks[group][:num_chunks], engine.programs[group].update_steps
    made, end = (stage.first_step + sum(each) * update_steps for each in (chunks, stage.chunks[group]))
    points = stage.points[engine.measured.steps[stage.points] <= made]
    every = tuple(chunks if number == group else each for number, each in enumerate(stage.chunks))
    return stage._replace(num_updates=max(1, stage.num_updates * made // end), points=points, chunks=every)


def _between(block: Block, num_chunks: int) -> bool:
    return 0 < num_chunks < len(block.chunks)


def _good(engine: Engine, stage: Stage, block: Block, progress: Progress) -> int | None:
    """The first trial, with all of its seeds in the block, that is good enough; None if none is."""
    trial, _ = engine.member_index.decode(np.unique(block.members))
    trials, seeds = np.unique(trial, return_counts=True)
    trials = trials[seeds == engine.member_index.num_seeds]
    measured = jax.tree.map(np.array, engine.measured)
    _fill(engine, measured, stage, block, progress)
    return budget.first_good(engine, measured, trials)


def _fill(engine: Engine, measured: Measurements, stage: Stage, block: Block, progress: Progress) -> None:
    real = len(np.unique(block.members))
    stage = cut(engine, stage, block.group, progress.curves.shape[1])
    skipped = None if progress.skips is None else progress.skips.at(slice(real))
    found = (progress.curves[:real], progress.returns[:real])  # type: ignore[index]
    measurements.fill(measured, engine.member_index, stage, block.members[:real], *found, progress.seconds, skipped)
