"""Finished blocks in the journal: their measurements and the folder of their states."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from purerl import checkpoint
from purerl.distributed import is_main
from purerl.sweep.run import journal
from purerl.sweep.run.engine import Engine
from purerl.sweep.run.executors import Block, Outcome


def record(engine: Engine, block: Block, outcome: Outcome) -> Path | None:
    """Write a block to the disk: its states first, since its line in the journal says that all of it is there."""
    path = states_path(engine, block.name)
    if path is not None and is_main():
        checkpoint.save(path, outcome.states, overwrite=True)
    real = len(np.unique(block.members))
    engine.log.add(
        "block",
        block.name,
        seconds=outcome.seconds,
        elapsed=engine.monitor.seconds(),
        curves=journal.encode(outcome.curves[:real]),
        returns=journal.encode(outcome.returns[:real]),
    )
    return path


def recall(
    engine: Engine, name: str, group: int, members: np.ndarray, chunks: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The measurements of a block that an earlier process finished, and its steps for the monitor.

    Returns:
      The training returns of its chunks [A, C] and its greedy returns [A, E], for its distinct members.
    """
    event = engine.log.find("block", name)
    assert event is not None
    steps = len(np.unique(members)) * sum(chunks) * engine.programs[group].update_steps
    engine.monitor.skip(steps, event["elapsed"])
    return journal.decode(event["curves"]), journal.decode(event["returns"])


def forget(engine: Engine, stage: str) -> None:
    """Delete the states that a rung left on the disk, when they are no longer needed."""
    if engine.blocks_folder is not None and is_main():
        for path in engine.blocks_folder.glob(f"{stage}-*"):
            shutil.rmtree(path, ignore_errors=True)


def states_path(engine: Engine, name: str) -> Path | None:
    """The checkpoint of a block's states; None without a directory."""
    return None if engine.blocks_folder is None else engine.blocks_folder / name
