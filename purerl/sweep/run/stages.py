"""Run one rung of a search: blocks that are in the journal are read, the others are executed and written to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from purerl.sweep.run import blocks, measurements, records, widths
from purerl.sweep.run.engine import Engine, data_of, group_of, packed_like
from purerl.sweep.run.executors import Block, Report
from purerl.sweep.run.plan import Stage
from purerl.sweep.run.pool import Pool

Trim = Callable[[np.ndarray, Pool], None]


def run(engine: Engine, stage: Stage, members: np.ndarray, before: Pool | None, trim: Trim | None = None) -> Pool:
    """Train members through a stage, evaluate them, and fill the engine's measurements.

    Args:
      engine: the parts that all rungs share.
      stage: the rung.
      members: [A] numbers of the members, in ascending order.
      before: their states after the rung before; None: from the beginning.
      trim: called as `trim(done, pool)` after each block with the members that have finished; it may drop states.

    Returns:
      The pool of their states.
    """
    after = Pool()
    places = list(_places(engine, stage, members))
    stored = [place for place in places if engine.log.find("block", place.name)]
    missing = [place for place in places if not engine.log.find("block", place.name)]
    finished = np.empty(0, int)
    for place in stored:
        curves, returns = records.recall(engine, place.name, place.group, place.members, stage.chunks[place.group])
        measurements.fill(engine.measured, engine.member_index, stage, np.unique(place.members), curves, returns)
        like = packed_like(engine, place.group, len(place.members))
        after.add(place.members, None, records.states_path(engine, place.name), like)
        finished = np.union1d(finished, place.members)
    todo = (_block(engine, stage, place, before) for place in missing)
    report = _reporter(engine, stage, members, len(stored), len(places))
    for block, outcome in engine.execute(engine.programs, todo, report):
        path = records.record(engine, block, outcome)
        measurements.fill(engine.measured, engine.member_index, stage, block.members, outcome.curves, outcome.returns)
        after.add(block.members, outcome.states, path, packed_like(engine, block.group, len(block.members)))
        finished = np.union1d(finished, block.members)
        if trim:
            trim(finished, after)
    if trim:
        trim(finished, after)
    return after


class _Place(NamedTuple):
    """The name, the group and the members of a block, before its data are gathered."""

    name: str
    group: int
    members: np.ndarray


def _places(engine: Engine, stage: Stage, members: np.ndarray) -> Iterator[_Place]:
    """Cut the members of each group into blocks of one width."""
    groups = group_of(engine, members)
    for group in np.unique(groups).tolist():
        mine = members[groups == group]
        width = widths.settle(engine, stage, group, mine)
        for number, rows in enumerate(blocks.into_blocks(len(mine), width)):  # [num_blocks, width]
            yield _Place(f"{stage.name}-group{group}-block{number:04d}", group, mine[rows])


def _block(engine: Engine, stage: Stage, place: _Place, before: Pool | None) -> Block:
    states = None if before is None else before.gather(place.members)
    data = data_of(engine, place.members)
    return Block(
        place.name, place.group, place.members, tuple(stage.chunks[place.group]), data, states, engine.eval_key
    )


def _reporter(engine: Engine, stage: Stage, members: np.ndarray, stored: int, total: int) -> Report:
    """The function that an executor calls after each chunk; blocks are counted as they begin."""
    begun: dict[str, int] = {}
    returns = np.full((len(members), max(map(len, stage.chunks))), np.nan, np.float32)
    engine.monitor.num_blocks = total

    def report(block: Block, chunk: int, curve: np.ndarray | None) -> None:
        engine.monitor.block = begun.setdefault(block.name, stored + len(begun))
        if curve is None:
            engine.monitor.report("evaluate")
            return
        real, first = np.unique(block.members, return_index=True)  # without the repeats that fill the block
        returns[np.searchsorted(members, real), chunk] = curve[first]
        trials = engine.member_index.by_trial(returns[:, chunk])  # [K * S] -> [K, S]
        best = np.fmax.reduce(trials.mean(axis=1))  # NaN while a trial lacks seeds
        steps = len(real) * block.chunks[chunk] * engine.programs[block.group].update_steps
        engine.monitor.report("train", steps, float(best))

    return report
