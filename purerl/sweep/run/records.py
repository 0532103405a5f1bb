"""Blocks in the journal and on the disk: finished ones, partial ones, and those that failed.

sweep directory/journal                   a line per finished block, with its measurements
sweep directory/blocks/<block>/           states of a finished block
sweep directory/blocks/<block>.partial/   checkpoints of a running one, the last two
sweep directory/kept/<block>/             states of the best members of a block when the search ends, and may grow
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from purerl import checkpoint
from purerl.distributed import is_main, wait_for_all
from purerl.sweep.results import skips
from purerl.sweep.results.skips import Skips
from purerl.sweep.run import journal
from purerl.sweep.run.engine import Engine, packed_like
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.programs import Updates
from purerl.sweep.run.work import Block, Outcome, Partial, Progress
from purerl.types import PyTree


def record(engine: Engine, block: Block, outcome: Outcome) -> Path | None:
    """Write a block to the disk: its states first, since its line in the journal says that all of it is there."""
    path = states_path(engine, block.name)
    if path is not None and is_main():
        checkpoint.save(path, outcome.states, overwrite=True)
    if path is not None:
        wait_for_all()  # the other processes read what the main one has written
    real = len(np.unique(block.members))
    engine.log.add(
        "block",
        block.name,
        members=block.members[:real].tolist(),
        seconds=outcome.seconds,
        elapsed=engine.monitor.seconds(),
        curves=journal.encode(outcome.curves[:real]),
        returns=journal.encode(outcome.returns[:real]),
        **_encoded(outcome.skips.at(slice(real))),
    )
    if path is not None and is_main():
        shutil.rmtree(_partial_path(path), ignore_errors=True)
    return path


def record_failure(engine: Engine, block: Block, message: str) -> None:
    """Write down that the members of a block cannot be trained; they count as diverged."""
    engine.log.add("failed", block.name, members=np.unique(block.members).tolist(), message=message)


def record_partial(engine: Engine, block: Block, partial: Partial) -> None:
    """Write how far a block has come, so that it can be continued from there."""
    path = states_path(engine, block.name)
    if path is None or not is_main():
        return
    curves, (value, weight, skipped), seconds, found, returns = partial.progress
    about: dict[str, Any] = {
        "curves": journal.encode(curves),
        "value": journal.encode(value),
        "weight": journal.encode(weight),
        "share": journal.encode(skipped),
        **_encoded(found),
    }
    about |= {} if returns is None else {"returns": journal.encode(returns)}
    done = sum(block.chunks[: curves.shape[1]]) + value.shape[1]
    about |= {"seconds": seconds, "members": block.members.tolist()}
    checkpoint.save_step(_partial_path(path), done, partial.states, about, keep=2)


def recall_partial(engine: Engine, name: str, group: int, width: int) -> tuple[PyTree, Progress] | None:
    """The states and the progress of a block that an earlier process was training; None if it had not begun."""
    path = states_path(engine, name)
    latest = None if path is None else checkpoint.latest(_partial_path(path))
    if latest is None:
        return None
    about = checkpoint.read_metadata(latest)
    curves, value, weight = (journal.decode(about[each]) for each in ("curves", "value", "weight"))
    share = journal.decode(about["share"]) if "share" in about else np.zeros_like(value)
    returns = journal.decode(about["returns"]) if "returns" in about else None
    states = checkpoint.restore(latest, packed_like(engine, group, width))
    skipped = skipped_in(about, width)
    return states, Progress(curves, Updates(value, weight, share), about["seconds"], skipped, returns)


def recall(engine: Engine, name: str, num_steps: int) -> tuple[np.ndarray, np.ndarray, float, Skips]:
    """The measurements of a block that an earlier process finished; its steps are told to the monitor.

    Returns:
      The points of its learning curves [A, C] and its greedy returns [A, E], for its distinct members; its seconds; and
      the updates [A] that were skipped.
    """
    event: Any = engine.log.find("block", name)
    engine.monitor.skip(num_steps, event["elapsed"])
    curves, returns = (journal.decode(event[each]) for each in ("curves", "returns"))
    return curves, returns, event["seconds"], skipped_in(event, len(curves))


def _encoded(found: Skips) -> dict[str, Any]:
    """Skipped updates as JSON data; nothing if there are none."""
    return {"skipped": [journal.encode(each) for each in found]} if found.number.any() else {}


def skipped_in(event: Mapping[str, Any], width: int) -> Skips:
    """The skipped updates [W] of a block from its line in the journal, which has them only if there are any."""
    return Skips(*map(journal.decode, event["skipped"])) if "skipped" in event else skips.none(width)


def forget(engine: Engine, stage: str) -> None:
    """Delete the states that a rung left on the disk, when they are no longer needed."""
    folder = engine.log.directory
    if folder is not None and is_main():
        for path in (*folder.glob(f"blocks/{stage}-*"), *folder.glob(f"kept/{stage}-*")):
            shutil.rmtree(path, ignore_errors=True)


def keep(engine: Engine, pool: Pool) -> None:
    """When a search ends, keep the states of these members, and nothing else of their blocks."""
    for name, members, states in pool.by_name():
        path = kept_path(engine, name)
        if path is not None and kept_members(engine, name) is None:
            if is_main():
                checkpoint.save(path, states, overwrite=True)
            engine.log.add("kept", name, members=members.tolist())


def kept_members(engine: Engine, name: str) -> np.ndarray | None:
    """The members of a block whose states were kept when the search ended, and are still there; None: none."""
    event, path = engine.log.find("kept", name), kept_path(engine, name)
    return None if event is None or path is None or not path.exists() else np.array(event["members"], int)


def is_dropped(engine: Engine, name: str) -> bool:
    """Whether the states of a block were dropped when the search ended."""
    path = states_path(engine, name)
    return path is not None and engine.log.find("end") is not None and not path.exists()


def kept_path(engine: Engine, name: str) -> Path | None:
    """The checkpoint of the kept states of a block; None without a directory."""
    return None if engine.log.directory is None else engine.log.directory / "kept" / name


def states_path(engine: Engine, name: str) -> Path | None:
    """The checkpoint of a block's states; None without a directory."""
    return None if engine.blocks_folder is None else engine.blocks_folder / name


def _partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
