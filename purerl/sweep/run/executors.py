"""A block of a search as plain data in and plain data out, so that any process can execute it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from purerl.loops import LoopState
from purerl.sweep.run import packing, programs
from purerl.sweep.run.programs import MemberData, Program
from purerl.types import PyTree


class Block(NamedTuple):
    """Members that one program trains and evaluates together; all arrays are NumPy's.

    Attributes:
      name: unique in the search.
      group: index of its program.
      members: [W] numbers of the members; the last one is repeated to fill the block.
      chunks: updates of each chunk.
      data: what distinguishes the members, leaves [W].
      states: their states after the previous rung, as `packing.pack` returns them; None: train from the beginning.
      eval_key: data of the key of the evaluation.
    """

    name: str
    group: int
    members: np.ndarray
    chunks: tuple[int, ...]
    data: MemberData
    states: PyTree
    eval_key: np.ndarray


class Outcome(NamedTuple):
    """Measurements and states of the W members of a finished block.

    Attributes:
      curves: [W, C] mean training return of each chunk.
      returns: [W, E] returns of the greedy episodes after it.
      states: the states after it, packed.
      seconds: time that it took, without compiling.
      compile_seconds: time that its programs took to compile, now or earlier in this process.
    """

    curves: np.ndarray
    returns: np.ndarray
    states: PyTree
    seconds: float
    compile_seconds: float


class Report(Protocol):
    """Told about the progress of a block, so that a search can be watched whichever executor runs it."""

    def __call__(self, block: Block, chunk: int, curve: np.ndarray | None, /) -> None:
        """Chunk `chunk` has ended with these training returns, [W]; None: the evaluation begins."""


class Executor(Protocol):
    """Executes the blocks of a rung, in any order and anywhere.

    A search hands over all blocks at once and takes outcomes as they come, so an executor may keep as many in flight as
    its machines allow. A block depends on nothing but its own data: an executor may repeat one that was lost.
    """

    def __call__(
        self, programs: tuple[Program, ...], blocks: Iterable[Block], report: Report, /
    ) -> Iterator[tuple[Block, Outcome]]:
        """Yield each block with its outcome; `programs` are those of the groups."""


def local(programs: tuple[Program, ...], blocks: Iterable[Block], report: Report, /) -> Iterator[tuple[Block, Outcome]]:
    """Execute one block after the other in this process, on its devices.

    Args:
      programs: by group.
      blocks: the blocks of a rung.
      report: see `Report`.

    Yields:
      Each block with its outcome.
    """
    for block in blocks:
        yield block, run(programs[block.group], block, report)


def run(program: Program, block: Block, report: Report | None = None) -> Outcome:
    """Train a block for its chunks and evaluate it."""
    width = len(block.members)
    compiling = sum(programs.compile_seconds(program, block.data, width, updates) for updates in set(block.chunks))
    begun = time.perf_counter()
    states = _states(program, block)  # leaves [W, ...]
    curves = np.empty((width, len(block.chunks)), np.float32)
    for i, num_updates in enumerate(block.chunks):
        states, curve = programs.advance(program, states, num_updates)
        curves[:, i] = packing.pack(curve)
        if report:
            report(block, i, curves[:, i])
    if report:
        report(block, len(block.chunks), None)
    eval_key = jax.random.wrap_key_data(jnp.asarray(block.eval_key), impl=program.key_impl)
    returns = packing.pack(programs.evaluate(program, states, eval_key))
    return Outcome(curves, returns, packing.pack(states), time.perf_counter() - begun, compiling)


def _states(program: Program, block: Block) -> LoopState:
    if block.states is None:
        return programs.start(program, block.data)
    return programs.to_devices(program, block.data, block.states)
