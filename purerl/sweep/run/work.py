"""A block of a search as plain data in and plain data out, so that any process can execute it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from purerl.sweep.results.skips import Skips
from purerl.sweep.run.programs import MemberData, Updates
from purerl.types import PyTree, State


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
      eval_params: parameters of the environments of the evaluation, see `programs.evaluate`.
      progress: if it was trained in part before, how far; its states are those of then.
      save_seconds: a `Partial` is yielded as often.
    """

    name: str
    group: int
    members: np.ndarray
    chunks: tuple[int, ...]
    data: MemberData
    states: PyTree
    eval_key: np.ndarray
    eval_params: PyTree = None
    progress: Progress | None = None
    save_seconds: float = float("inf")


class Progress(NamedTuple):
    """How far a block has come.

    Attributes:
      curves: [W, C] of the chunks that have ended.
      updates: of the running chunk, leaves [W, U].
      seconds: of training so far.
      skips: [W] of the chunks that have ended; steps count from the beginning of the block.
      returns: [W, E] returns of the greedy episodes after the last chunk that has ended; None if none were played.
    """

    curves: np.ndarray
    updates: Updates
    seconds: float
    skips: Skips
    returns: np.ndarray | None = None


class Partial(NamedTuple):
    """A block that is not finished: its states, packed, from which it can be continued, bit for bit."""

    states: PyTree
    progress: Progress


class Outcome(NamedTuple):
    """Measurements and states of the W members of a finished block.

    Attributes:
      curves: [W, C] mean of the learning curves' metric in each chunk.
      returns: [W, E] returns of the greedy episodes after it.
      states: the states after it, packed.
      seconds: time that it took, without compiling.
      skips: [W] updates that were skipped; steps count from the beginning of the block.
    """

    curves: np.ndarray
    returns: np.ndarray
    states: PyTree
    seconds: float
    skips: Skips


class Failure(NamedTuple):
    """A block that could not be run, such as one that takes more memory than there is."""

    message: str


Result: TypeAlias = Partial | Outcome | Failure


class Chunk(NamedTuple):
    """A chunk of training that has just ended, as the callbacks of a search see it.

    Attributes:
      trials, seeds: [W] of the agents that were trained side by side.
      num_steps: environment steps that each of them has made.
      curve: [W] their points of the learning curves.
      state_of: `state_of(row)` is the state of the agent of a row, a copy, as `evaluate` takes it. It can be asked for
        during the call alone, since training goes on in the same memory. None for a chunk whose states stayed on
        another machine: with Ray, all but the last chunk that a worker sends.
    """

    trials: np.ndarray
    seeds: np.ndarray
    num_steps: int
    curve: np.ndarray
    state_of: Callable[[int], State] | None = None


class Callback(Protocol):
    """A function that the search calls on the host after every chunk: it logs, counts, saves, or ends the search."""

    def __call__(self, chunk: Chunk, /) -> bool | None:
        """True ends the search after the other callbacks of this chunk."""


AgentStates: TypeAlias = Callable[[], PyTree]
"""The agents' own states after a chunk, leaves [W, ...], packed; they are copied to the host if it is called."""


class Report(Protocol):
    """Told about the progress of a block, so that a search can be watched whichever executor runs it."""

    def __call__(
        self, block: Block, chunk: int, curve: np.ndarray | None, states: AgentStates | None = None, /
    ) -> bool:
        """Chunk `chunk` has ended with these points of the learning curves, [W]; None: the evaluation begins.

        True asks for a partial result now, since the search may end with it.
        """
