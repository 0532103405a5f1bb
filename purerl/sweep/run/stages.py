"""Run one rung of a search: blocks that are in the journal are read, the others are executed and written to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from purerl.hparams import annealed_longer
from purerl.loops.chunked import call_all
from purerl.sweep.run import blocks, budget, measurements, records, widths, within
from purerl.sweep.run.engine import Engine, data_of, group_of, packed_like, unpacked_agent
from purerl.sweep.run.plan import Stage
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.work import AgentStates, Block, Chunk, Failure, Outcome, Partial, Report
from purerl.types import PyTree, State

Trim = Callable[[np.ndarray, Pool], None]


def run(engine: Engine, stage: Stage, members: np.ndarray, before: Pool | None, trim: Trim | None = None) -> Pool:
    """Train members through a stage, evaluate them, and fill the engine's measurements.

    A block that fails, such as one for which there is no memory, is cut into two halves, which are tried instead; one
    member that fails alone is given up, as if it had diverged.

    Args:
      engine: the parts that all rungs share.
      stage: the rung.
      members: [A] numbers of the members, in ascending order.
      before: their states after the rung before; None: from the beginning.
      trim: called as `trim(done, pool)` after each block with the members that have finished; it may drop states.

    Returns:
      The pool of their states.

    Raises:
      Enough: a trial is good enough, or the budget is spent; it holds the pool.
    """
    after = Pool()
    try:
        _run(engine, stage, members, before, after, trim)
    except budget.Enough as enough:
        enough.pool = after
        raise
    return after


def _run(
    engine: Engine, stage: Stage, members: np.ndarray, before: Pool | None, after: Pool, trim: Trim | None
) -> None:
    finished = np.empty(0, int)
    places = list(_places(engine, stage, members))
    missing = [place for place in places if not _is_done(engine, place)]
    for place in places:
        if _is_done(engine, place):
            take(engine, stage, place, after)
            finished = np.union1d(finished, place.members)
    budget.check_spent(engine)
    budget.check_reached(engine, members, finished)
    counts = {"total": len(places), "done": len(places) - len(missing)}
    report = _reporter(engine, stage, members, counts)
    while missing:
        todo, missing = (make_block(engine, stage, place, before, after) for place in missing), []
        for block, result in engine.execute(engine.programs, todo, report):
            if isinstance(result, Partial):
                records.record_partial(engine, block, result)
                within.check(engine, stage, block, result, after)
            elif isinstance(result, Failure) and len(np.unique(block.members)) > 1:
                missing += _halves(engine, block, result)
                counts["total"] += 1
            else:
                enter(engine, stage, block, result, after)
                finished = np.union1d(finished, block.members)
                if trim:
                    trim(finished, after)
                budget.check_reached(engine, members, finished)
    if trim:
        trim(finished, after)


class Place(NamedTuple):
    """The name, the group and the members of a block, before its data are gathered."""

    name: str
    group: int
    members: np.ndarray


def _places(engine: Engine, stage: Stage, members: np.ndarray) -> Iterator[Place]:
    """Cut the members of each group into blocks of one width, and those that were split into narrower ones."""
    groups = group_of(engine, members)
    for group in np.unique(groups).tolist():
        mine = members[groups == group]
        width = widths.settle(engine, stage, group, mine)
        name = f"{stage.name}-group{group}"
        whole = [
            Place(f"{name}-block{number:04d}", group, mine[rows])
            for number, rows in enumerate(blocks.into_blocks(len(mine), width))  # [num_blocks, width]
        ]
        unfinished = [place for place in whole if not _is_done(engine, place) and not _split_width(engine, place)]
        narrow = widths.narrower(engine, stage, group, mine) if unfinished else width
        for place in unfinished if narrow < width else []:
            engine.log.add("split", place.name, width=narrow)
        for place in whole:
            yield from _expanded(engine, place)


def _expanded(engine: Engine, place: Place) -> Iterator[Place]:
    """The block itself, or the narrower ones that it was split into."""
    width = _split_width(engine, place)
    if width is None:
        yield place
        return
    real = np.unique(place.members)
    for number, rows in enumerate(blocks.into_blocks(len(real), width)):
        yield from _expanded(engine, Place(f"{place.name}-part{number}", place.group, real[rows]))


def _split_width(engine: Engine, place: Place) -> int | None:
    event = engine.log.find("split", place.name)
    return None if event is None else event["width"]


def _is_done(engine: Engine, place: Place) -> bool:
    return any(engine.log.find(kind, place.name) for kind in ("block", "failed"))


def _halves(engine: Engine, block: Block, failure: Failure) -> list[Place]:
    """Split a block that failed."""
    width = -(-len(np.unique(block.members)) // 2)
    engine.log.add("split", block.name, width=width, message=failure.message)
    engine.monitor.report("train", note=f"{block.name} failed and is tried at width {width}: {failure.message}")
    return list(_expanded(engine, Place(block.name, block.group, block.members)))


def take(engine: Engine, stage: Stage, place: Place, pool: Pool) -> None:
    """Enter a block that an earlier process finished."""
    if engine.log.find("failed", place.name):
        measurements.fill_lost(engine.measured, engine.member_index, stage, np.unique(place.members))
        return
    real = np.unique(place.members)
    steps = len(real) * sum(stage.chunks[place.group]) * engine.programs[place.group].update_steps
    measurements.fill(engine.measured, engine.member_index, stage, real, *records.recall(engine, place.name, steps))
    kept = records.kept_members(engine, place.name)
    if kept is not None:
        pool.add(kept, None, records.kept_path(engine, place.name), packed_like(engine, place.group, len(kept)))
    elif not records.is_dropped(engine, place.name):
        like = packed_like(engine, place.group, len(place.members))
        pool.add(place.members, None, records.states_path(engine, place.name), like)


def enter(engine: Engine, stage: Stage, block: Block, result: Outcome | Failure, pool: Pool) -> None:
    """Record a block that has ended, and enter its measurements; its states stay in memory if there is no directory."""
    if isinstance(result, Failure):
        records.record_failure(engine, block, result.message)
        measurements.fill_lost(engine.measured, engine.member_index, stage, np.unique(block.members))
        engine.monitor.report("train", note=f"{block.name} is given up: {result.message}")
        return
    path = records.record(engine, block, result)
    real = len(np.unique(block.members))
    shown = (block.members[:real], result.curves[:real], result.returns[:real])
    skipped = result.skips.at(slice(real))
    measurements.fill(engine.measured, engine.member_index, stage, *shown, result.seconds, skipped)
    like = packed_like(engine, block.group, len(block.members))
    pool.add(block.members, None if path else result.states, path, like)


def make_block(engine: Engine, stage: Stage, place: Place, before: Pool | None, after: Pool) -> Block:
    """The data of a block; one that an earlier process began continues from its last save.

    Raises:
      Enough: a trial of it was good enough then; its states are in `after`.
    """
    partial = records.recall_partial(engine, place.name, place.group, len(place.members))
    states, progress = partial or (None if before is None else _from(stage, before.gather(place.members)), None)
    elsewhere = hasattr(engine.execute, "num_parallel")  # and may be lost with its machine
    saving = engine.save_seconds if engine.log.directory is not None or elsewhere else float("inf")
    block = Block(
        place.name, place.group, place.members, tuple(stage.chunks[place.group]), data_of(engine, place.members),
        states, engine.eval_key, engine.eval_params, progress, saving,
    )  # fmt: skip
    if partial is not None:
        within.check(engine, stage, block, Partial(*partial), after)
    return block


def _from(stage: Stage, states: PyTree) -> PyTree:
    """The states from which members begin a stage; learning rates that have reached 0 are annealed to its end."""
    if stage.stretch == 1:
        return states
    return states._replace(agent_state=annealed_longer(states.agent_state, stage.stretch))


def _reporter(engine: Engine, stage: Stage, members: np.ndarray, counts: dict[str, int]) -> Report:
    """The function that an executor calls after each chunk; blocks are counted as they begin."""
    begun: dict[str, int] = {}
    returns = np.full((len(members), max(map(len, stage.chunks))), np.nan, np.float32)

    def report(block: Block, chunk: int, curve: np.ndarray | None, states: AgentStates | None = None) -> bool:
        engine.monitor.block = begun.setdefault(block.name, counts["done"] + len(begun))
        engine.monitor.num_blocks = counts["total"]
        if curve is None:
            engine.monitor.report("evaluate")
            return False
        real, first = np.unique(block.members, return_index=True)  # without the repeats that fill the block
        rows = np.searchsorted(members, real)
        if block.progress is not None:
            returns[rows, : block.progress.curves.shape[1]] = block.progress.curves[first]
        returns[rows, chunk] = curve[first]
        trials = engine.member_index.by_trial(returns[:, chunk])  # [K * S] -> [K, S]
        best = np.fmax.reduce(trials.mean(axis=1))  # NaN while a trial lacks seeds
        engine.monitor.report("train", steps_of(engine, block, chunk, curve), float(best))
        call_back(engine, stage, block, chunk, curve, states)
        budget.check_spent(engine)
        return within.may_end(engine, stage, block, returns[rows, : chunk + 1])

    return report


def call_back(
    engine: Engine, stage: Stage, block: Block, chunk: int, curve: np.ndarray, states: AgentStates | None
) -> None:
    """Call the callbacks of the search with a chunk of a block that has ended; raises `Enough` if one returns True."""
    real, first = np.unique(block.members, return_index=True)
    trials, seeds = engine.member_index.decode(real)
    made = sum(block.chunks[: chunk + 1]) * engine.programs[block.group].update_steps
    state_of = None if states is None else _state_of(engine, block, states, first)
    ended = Chunk(trials, seeds, stage.first_step + made, curve[first], state_of)
    if call_all(engine.callbacks, ended):
        raise budget.Enough(f"a callback ended it after {ended.num_steps:,} steps of trial {trials[0]}")


def _state_of(engine: Engine, block: Block, states: AgentStates, rows: np.ndarray) -> Callable[[int], State]:
    """The state of the agent in each of these rows of a block; all of them come to the host at the first call."""
    fetched = functools.cache(states)

    def state_of(row: int) -> State:
        packed = jax.tree.map(lambda leaf: np.array(leaf[rows[row]]), fetched())  # [W, ...] -> [...]
        return unpacked_agent(engine, block.members[rows[row], None], packed)

    return state_of


def steps_of(engine: Engine, block: Block, chunk: int, curve: np.ndarray | None) -> int:
    """Environment steps of a chunk of a block, of its distinct members; 0 for its evaluation."""
    if curve is None:
        return 0
    return len(np.unique(block.members)) * block.chunks[chunk] * engine.programs[block.group].update_steps
