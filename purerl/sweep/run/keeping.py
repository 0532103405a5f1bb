"""Callbacks of a search that keep the best agent on the way."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence

import numpy as np

from purerl import checkpoint
from purerl.distributed import is_main
from purerl.sweep.run.work import Callback, Chunk
from purerl.types import State


def renumbered(callbacks: Sequence[Callback], numbers: np.ndarray) -> tuple[Callback, ...]:
    """Callbacks of a search of which trial i is trial `numbers[i]` of a larger one.

    Examples:
      >>> (callback,) = renumbered([lambda chunk: print(chunk.trials)], np.array([16, 17, 18]))
      >>> callback(Chunk(np.array([0, 0, 2]), np.array([0, 1, 0]), 8, np.zeros(3)))
      [16 16 18]
    """
    return tuple(functools.partial(_call_with, numbers, callback) for callback in callbacks)


def _call_with(numbers: np.ndarray, callback: Callback, chunk: Chunk) -> bool | None:
    return callback(chunk._replace(trials=numbers[chunk.trials]))


def when_best(function: Callable[[Chunk, int, State], None], so_far: float = -math.inf) -> Callback:
    """Call a function with the chunk, the row and the agent's state whenever a point of a curve exceeds all before it.

    That point is the best of many, so it is optimistic: evaluate the agent again. Chunks without states are passed
    over.

    Args:
      function: `(chunk, row, state)`; it is called in every process, which must all return.
      so_far: the best point of earlier processes.

    Examples:
      >>> found = []
      >>> callback = when_best(lambda chunk, row, state: found.append((int(chunk.trials[row]), state)))
      >>> for curve in ([3.0, 5.0], [float("nan"), 4.0], [6.0, 1.0]):
      ...     callback(Chunk(np.arange(2), np.zeros(2, int), 8, np.array(curve), lambda row: f"state {row}"))
      >>> found
      [(1, 'state 1'), (0, 'state 0')]
    """
    best = so_far

    def callback(chunk: Chunk) -> None:
        nonlocal best
        points = np.nan_to_num(chunk.curve, nan=-np.inf)
        row = int(points.argmax())
        if chunk.state_of is not None and points[row] > best:
            best = float(points[row])
            function(chunk, row, chunk.state_of(row))

    return callback


def save_best(directory: str | os.PathLike[str]) -> Callback:
    """Save the state of the agent with the highest point of a learning curve so far, in place of the one before.

    With `curve="eval_return"` it is the best of all greedy evaluations. A checkpoint in the directory, of this search
    before it was resumed, is replaced by a better one only.

    Args:
      directory: a checkpoint, which `checkpoint.restore` reads; its metadata holds `trial`, `seed`, `num_steps` and the
        point, `value`.
    """

    def save(chunk: Chunk, row: int, state: State) -> None:
        details = {"trial": int(chunk.trials[row]), "seed": int(chunk.seeds[row]), "value": float(chunk.curve[row])}
        if is_main():
            checkpoint.save(directory, state, details | {"num_steps": chunk.num_steps}, overwrite=True)

    return when_best(save, checkpoint.read_metadata(directory)["value"] if os.path.isdir(directory) else -math.inf)
