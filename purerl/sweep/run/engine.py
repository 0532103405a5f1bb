"""Runs the rungs of a search: blocks that are in the journal are read, the others are done and written to it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import checkpoint
from purerl.distributed import is_main, num_parts
from purerl.sweep.run import blocks, journal, memory, population
from purerl.sweep.run.executors import Executor, Outcome, Report, Work
from purerl.sweep.run.journal import Journal
from purerl.sweep.run.monitor import Monitor
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.population import Members, Program
from purerl.sweep.trials import trials as trials_module
from purerl.sweep.trials.trials import Trials
from purerl.types import PyTree


class Rows(NamedTuple):
    """What the agents of a rung gave back, one row an agent: training returns of each chunk, and greedy returns."""

    curves: np.ndarray
    returns: np.ndarray


class Engine(NamedTuple):
    """Everything that all rungs share.

    Attributes:
      programs: by group of static choices.
      trials: what is tried.
      seed_keys: [S, ...] data of the keys, one a seed.
      eval_key: data of the key of the evaluations.
      log: where finished blocks are written.
      execute: who does the blocks.
      monitor: who counts.
      block_size: most agents in a block.
      limit: bytes that a block may take on a device.
    """

    programs: tuple[Program, ...]
    trials: Trials
    seed_keys: np.ndarray
    eval_key: np.ndarray
    log: Journal
    execute: Executor
    monitor: Monitor
    block_size: int
    limit: float

    @property
    def num_seeds(self) -> int:
        """S."""
        return len(self.seed_keys)


def run_rung(
    engine: Engine,
    name: str,
    agents: np.ndarray,
    chunks: Sequence[Sequence[int]],
    num_points: int,
    before: Pool | None,
    trim: Callable[[Rows, np.ndarray, Pool], None] | None = None,
) -> tuple[Rows, Pool]:
    """Train agents for the chunks of a rung and evaluate them.

    Args:
      engine: what all rungs share.
      name: of the rung.
      agents: [A] numbers of the agents: agent a is seed a % S of trial a // S.
      chunks: updates of each chunk, by group.
      num_points: points of the learning curves in this rung; a group with another number of chunks is drawn out.
      before: the states they go on from; None: from the beginning.
      trim: called as `trim(rows, done, pool)` after each block, `done` being the agents that are; it may drop states.

    Returns:
      Their rows, [A, ...], and the pool of their states.
    """
    rows = _empty_rows(engine, len(agents), num_points)
    after = Pool()
    done: list[_Piece] = []
    todo: list[_Piece] = []
    for group in np.unique(engine.trials.group[agents // engine.num_seeds]).tolist():
        mine = agents[engine.trials.group[agents // engine.num_seeds] == group]
        width = _width(engine, name, group, mine, chunks[group])
        for number, block in enumerate(blocks.into_blocks(len(mine), width)):
            piece = _Piece(f"{name}-group{group}-block{number:04d}", group, mine[block], tuple(chunks[group]))
            (done if engine.log.find("block", piece.name) else todo).append(piece)
    finished = np.empty(0, int)
    for piece in done:
        _recall(engine, piece, agents, rows, after)
        finished = np.union1d(finished, piece.agents)
    works = (_work(engine, piece, before) for piece in todo)
    report = _reporter(engine, agents, max(len(each) for each in chunks), len(done), len(done) + len(todo))
    for work, outcome in engine.execute(engine.programs, works, report):
        path = _record(engine, work, outcome)
        _fill(rows, agents, work.agents, outcome.curves, outcome.returns)
        after.add(work.agents, outcome.states, path, _packed_like(engine, work.group, len(work.agents)))
        finished = np.union1d(finished, work.agents)
        if trim:
            trim(rows, finished, after)
    if trim:
        trim(rows, finished, after)
    return rows, after


def forget(engine: Engine, name: str) -> None:
    """Delete the states that a rung left on the disk, when they are no longer needed."""
    if engine.log.directory is not None and is_main():
        for path in (engine.log.directory / "blocks").glob(f"{name}-*"):
            shutil.rmtree(path, ignore_errors=True)


def agent_states(engine: Engine, pool: Pool, agents: np.ndarray) -> tuple[PyTree, ...]:
    """The agent's own state of each of these agents."""
    states = []
    for agent in agents.tolist():
        program = engine.programs[engine.trials.group[agent // engine.num_seeds]]
        like = population.state_like(program, _members(engine, np.array([agent])))
        state = jax.tree.map(lambda leaf: leaf[0], pool.gather(np.array([agent])).agent_state)
        states.append(population.unpack(state, like.agent_state))
    return tuple(states)


# --- Blocks -----------------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """A block before its data are gathered."""

    name: str
    group: int
    agents: np.ndarray
    chunks: tuple[int, ...]


def _width(engine: Engine, rung: str, group: int, agents: np.ndarray, chunks: Sequence[int]) -> int:
    """The width of a group's blocks in a rung, chosen once and noted in the journal."""
    name = f"{rung}-group{group}"
    known = engine.log.find("width", name)
    if known is None:
        known = _choose_width(engine, name, group, agents, chunks)
        engine.log.add("width", name, **known)
        label = " ".join([rung.replace("bracket0-", ""), trials_module.label(engine.trials.groups[group])]).strip()
        engine.monitor.report("compile", note=_describe_width(label, len(agents), known))
    return int(known["width"])


def _choose_width(engine: Engine, name: str, group: int, agents: np.ndarray, chunks: Sequence[int]) -> dict[str, Any]:
    program, members = engine.programs[group], _members(engine, agents[:1])
    parts = jax.device_count()
    measured = engine.log.find("speed", f"group{group}") if jax.process_count() == 1 else None
    limit_width = engine.log.find("limit", f"group{group}")
    block_size = min(engine.block_size, limit_width["width"]) if limit_width else engine.block_size
    wanted = blocks.choose_width(
        len(agents),
        block_size,
        parts,
        compiled=measured["widths"] if measured else (),
        compile_seconds=measured["compile_seconds"] if measured else 0.0,
        agent_seconds=measured["agent_seconds"] * sum(chunks) if measured else math.inf,
        num_processes=jax.process_count(),
    )

    def measure(width: int) -> float:
        return max(population.block_bytes(program, members, width, updates) for updates in set(chunks))

    width, taken = memory.widest(wanted, num_parts(wanted), engine.limit, measure)
    if width < wanted:
        engine.log.add("limit", f"group{group}", width=width)
        width = blocks.split_agents(len(agents), width, parts, jax.process_count()).shape[1]
    return {"width": width, "devices": num_parts(width), "bytes": taken, "limit": engine.limit}


def _describe_width(label: str, count: int, known: dict[str, Any]) -> str:
    width, devices = known["width"], known["devices"]
    over = f" on {devices} devices" if devices > 1 else ""
    taken, limit = memory.format_bytes(known["bytes"]), memory.format_bytes(known["limit"])
    number = -(-count // width)
    plural = "s" if number > 1 else ""
    return f"{label}: {count:,} agents in {number} block{plural} of {width}{over}, {taken} of {limit} each"


def _work(engine: Engine, piece: _Piece, before: Pool | None) -> Work:
    states = None if before is None else before.gather(piece.agents)
    return Work(
        piece.name, piece.group, piece.agents, _members(engine, piece.agents), states, piece.chunks, engine.eval_key
    )


def _members(engine: Engine, agents: np.ndarray) -> Members:
    trial, seed = np.divmod(agents, engine.num_seeds)
    hparams, env_params = jax.tree.map(lambda leaf: leaf[trial], (engine.trials.hparams, engine.trials.env_params))
    return Members(engine.seed_keys[seed], hparams, env_params)


def _packed_like(engine: Engine, group: int, width: int) -> PyTree:
    (first,) = np.nonzero(engine.trials.group == group)
    members = _members(engine, first[:1] * engine.num_seeds)
    return population.packed_like(population.states_like(engine.programs[group], members, width))


# --- The journal ------------------------------------------------------------------------------------------------------


def _record(engine: Engine, work: Work, outcome: Outcome) -> Path | None:
    """Write a block to the disk: its states first, since its line in the journal says that all of it is there."""
    path = _states_path(engine, work.name)
    if path is not None and is_main():
        checkpoint.save(path, outcome.states, overwrite=True)
    real = len(np.unique(work.agents))
    engine.log.add(
        "block",
        work.name,
        seconds=outcome.seconds,
        elapsed=engine.monitor.seconds(),
        curves=journal.encode(outcome.curves[:real]),
        returns=journal.encode(outcome.returns[:real]),
    )
    _note_speed(engine, work, outcome)
    return path


def _note_speed(engine: Engine, work: Work, outcome: Outcome) -> None:
    """Seconds of one update of one agent, and of a compilation, for the choice of the next rung's width."""
    width, updates = len(work.agents), sum(work.chunks)
    before = engine.log.find("speed", f"group{work.group}")
    if before is not None and width in before["widths"]:
        return
    engine.log.add(
        "speed",
        f"group{work.group}",
        widths=[*(before["widths"] if before else []), width],
        compile_seconds=outcome.compile_seconds,
        agent_seconds=outcome.seconds / (updates * width),
    )


def _recall(engine: Engine, piece: _Piece, agents: np.ndarray, rows: Rows, after: Pool) -> None:
    """A block that was done before: its rows out of the journal, its states when they are asked for."""
    event = engine.log.find("block", piece.name)
    assert event is not None
    curves, returns = journal.decode(event["curves"]), journal.decode(event["returns"])
    real = np.unique(piece.agents)
    _fill(rows, agents, real, curves, returns)
    like = _packed_like(engine, piece.group, len(piece.agents))
    after.add(piece.agents, None, _states_path(engine, piece.name), like)
    steps = len(real) * sum(piece.chunks) * engine.programs[piece.group].update_steps
    engine.monitor.skip(steps, event["elapsed"])


def _states_path(engine: Engine, name: str) -> Path | None:
    return None if engine.log.directory is None else engine.log.directory / "blocks" / name


# --- Rows -------------------------------------------------------------------------------------------------------------


def _empty_rows(engine: Engine, count: int, num_points: int) -> Rows:
    curves = np.full((count, num_points), np.nan, np.float32)
    return Rows(curves, np.full((count, engine.programs[0].eval_episodes), np.nan, np.float32))


def _fill(rows: Rows, agents: np.ndarray, done: np.ndarray, curves: np.ndarray, returns: np.ndarray) -> None:
    """Put a block's rows in their places, each point of a curve from the chunk that it lies in."""
    places = np.searchsorted(agents, done)
    num_points = rows.curves.shape[1]
    chunk = (2 * np.arange(num_points) + 1) * curves.shape[1] // (2 * max(num_points, 1))
    rows.curves[places] = curves[:, chunk]
    rows.returns[places] = returns


def _reporter(engine: Engine, agents: np.ndarray, num_chunks: int, done: int, total: int) -> Report:
    """What an executor calls after each chunk; blocks are counted as they begin."""
    begun: dict[str, int] = {}
    returns = np.full((len(agents), num_chunks), np.nan, np.float32)
    engine.monitor.num_blocks = total

    def report(work: Work, chunk: int, curve: np.ndarray | None) -> None:
        engine.monitor.block = begun.setdefault(work.name, done + len(begun))
        if curve is None:
            engine.monitor.report("evaluate")
            return
        real, first = np.unique(work.agents, return_index=True)
        returns[np.searchsorted(agents, real), chunk] = curve[first]
        best = np.fmax.reduce(returns[:, chunk].reshape(-1, engine.num_seeds).mean(axis=1))
        steps = len(real) * work.chunks[chunk] * engine.programs[work.group].update_steps
        engine.monitor.report("train", steps, float(best))

    return report
