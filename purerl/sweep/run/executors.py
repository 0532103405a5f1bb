"""One block of a search as a piece of work: plain data in, plain data out, so that any process can do it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.sweep.run import population
from purerl.sweep.run.population import Members, Program
from purerl.types import PyTree


class Work(NamedTuple):
    """What one block does; all arrays are NumPy's.

    Attributes:
      name: of the block, unique in the search.
      group: index of its program.
      agents: [W] numbers of the agents, the last one repeated where the block was filled up.
      members: what tells them apart, leaves [W].
      states: where they go on from, as `population.pack` returns them; None: from the beginning.
      chunks: updates of each chunk.
      eval_key: data of the key of the evaluation.
    """

    name: str
    group: int
    agents: np.ndarray
    members: Members
    states: PyTree
    chunks: tuple[int, ...]
    eval_key: np.ndarray


class Outcome(NamedTuple):
    """What a block gives back.

    Attributes:
      curves: [W, C] mean training return of each chunk.
      returns: [W, E] returns of the greedy episodes after it.
      states: the states after it, packed.
      seconds: how long it took, without compiling.
      compile_seconds: how long its programs took to compile, now or earlier in this process.
    """

    curves: np.ndarray
    returns: np.ndarray
    states: PyTree
    seconds: float
    compile_seconds: float


Report: TypeAlias = Callable[[Work, int, np.ndarray | None], None]
Executor: TypeAlias = Callable[[tuple[Program, ...], Iterable[Work], Report], Iterator[tuple[Work, Outcome]]]


def local(programs: tuple[Program, ...], works: Iterable[Work], report: Report) -> Iterator[tuple[Work, Outcome]]:
    """Do one piece of work after the other in this process, on its devices.

    Args:
      programs: by group.
      works: what there is to do.
      report: called as `report(work, i, curve)` after chunk i with the training returns in it, [W], and as
        `report(work, num_chunks, None)` before the evaluation.

    Yields:
      Each piece of work with its outcome.
    """
    for work in works:
        yield work, run(programs[work.group], work, report)


def run(program: Program, work: Work, report: Report | None = None) -> Outcome:
    """Train a block for its chunks and evaluate it."""
    compiling = sum(
        population.compile_seconds(program, work.members, len(work.agents), updates) for updates in set(work.chunks)
    )
    begun = time.perf_counter()
    states = _states(program, work)
    curves = np.empty((len(work.agents), len(work.chunks)), np.float32)
    for i, num_updates in enumerate(work.chunks):
        states, curve = population.advance(program, states, num_updates)
        curves[:, i] = population.pack(curve)
        if report:
            report(work, i, curves[:, i])
    if report:
        report(work, len(work.chunks), None)
    eval_key = jax.random.wrap_key_data(jnp.asarray(work.eval_key), impl=program.key_impl)
    returns = population.pack(population.evaluate(program, states, eval_key))
    return Outcome(curves, returns, population.pack(states), time.perf_counter() - begun, compiling)


def _states(program: Program, work: Work) -> Any:
    if work.states is None:
        return population.start(program, work.members)
    return population.to_devices(program, work.members, work.states)
