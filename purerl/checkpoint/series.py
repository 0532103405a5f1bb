"""A series of checkpoints of one run, `root/<step>`: the last few are kept, and a damaged one is passed over."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from purerl import files
from purerl.checkpoint.directory import Json, restore, save, verified_metadata
from purerl.checkpoint.errors import CheckpointError
from purerl.checkpoint.manifest import MANIFEST
from purerl.types import PyTree


class Found(NamedTuple):
    """The newest checkpoint of a series that can be used.

    Attributes:
      path: its directory.
      metadata: as it was given to `save_step`.
      damaged: for each newer one that was passed over, the reason in a sentence.
    """

    path: Path
    metadata: dict[str, Json]
    damaged: tuple[str, ...]

    def restore(self, like: PyTree) -> PyTree:
        """The tree; see `checkpoint.restore`."""
        return restore(self.path, like)


def save_step(
    root: str | os.PathLike[str],
    step: int,
    tree: PyTree,
    metadata: Mapping[str, Json] | None = None,
    *,
    keep: int = 3,
) -> Path:
    """Save one of a series of checkpoints as `root/<step>` and delete all but the last `keep` of those up to it.

    Checkpoints of later steps are deleted too: the series has been resumed before them, because they were damaged. So
    is what interrupted saves have left behind.

    Args:
      root: directory of the series.
      step: non-negative number of the checkpoint; an existing one with the same number is replaced.
      tree: as in `save`.
      metadata: as in `save`.
      keep: number of checkpoints to keep, at least 1.

    Returns:
      The directory of this checkpoint.

    Raises:
      ValueError: `step` is negative or `keep` is less than 1.
    """
    if step < 0:
        raise ValueError(f"step = {step} must not be negative")
    if keep < 1:
        raise ValueError(f"keep = {keep} must be at least 1")
    root = Path(root)
    saved = save(root / f"{step:012d}", tree, metadata, overwrite=True)
    numbered = _numbered(root)
    kept = [path for path in numbered if int(path.name) <= step][-keep:]
    for old in numbered:
        if old not in kept:
            files.remove_tree(old)
    files.sweep_leftovers(root)
    return saved


def steps(root: str | os.PathLike[str]) -> list[Path]:
    """The complete checkpoints that `save_step` wrote under `root`, oldest first."""
    return [path for path in _numbered(Path(root)) if (path / MANIFEST).is_file()]


def latest(root: str | os.PathLike[str]) -> Path | None:
    """The newest complete checkpoint that `save_step` wrote under `root`, or None. It may be damaged: see `find`."""
    complete = steps(root)
    return complete[-1] if complete else None


def find(root: str | os.PathLike[str]) -> Found | None:
    """The newest checkpoint under `root` that is complete and undamaged, or None if there is none at all.

    Raises:
      CheckpointError: there are checkpoints, and each is damaged.
    """
    damaged: list[str] = []
    for path in reversed(_numbered(Path(root))):
        try:
            return Found(path, verified_metadata(path)["metadata"], tuple(damaged))
        except CheckpointError as error:
            damaged.append(str(error))
    if damaged:
        raise CheckpointError(f"no checkpoint in {root} can be used: {'; '.join(damaged)}")
    return None


def _numbered(root: Path) -> list[Path]:
    """Directories that are named like checkpoints, complete or not, oldest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if path.name.isdecimal() and path.is_dir() and not path.is_symlink()]
    return sorted(found, key=lambda path: int(path.name))
