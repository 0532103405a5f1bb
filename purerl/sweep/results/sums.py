"""SHA-256 sums of the files of a saved search, in `result.sha256` beside them, as `sha256sum` prints them.

A checkpoint among them is listed by its own manifest, so each belongs to this search and not to another.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from purerl import files
from purerl.checkpoint import MANIFEST, CheckpointError, manifest

_NAME = "result.sha256"


def listed(tables: Sequence[str], states: bool) -> list[str]:
    """Names of the files that have a sum: some tables, and the manifests of the checkpoints."""
    checkpoints = ("arrays", "states") if states else ("arrays",)
    return sorted([*tables, *(f"{each}/{MANIFEST}" for each in checkpoints)])


def remove(directory: Path) -> None:
    """Remove the sums of a directory whose files are about to be replaced."""
    (directory / _NAME).unlink(missing_ok=True)


def write(directory: Path, names: Sequence[str]) -> None:
    """Write the sums of these files, last of all: a directory without them has not been saved to its end."""
    sums = {name: files.digest_of(directory / name) for name in names}
    files.write_whole(directory / _NAME, manifest.text_of(sums))


def check(directory: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    """Check files against their sums; nothing is checked if `names` is empty, as in searches of older versions.

    A table that has changed is a warning, since results are read from the checkpoints alone.

    Args:
      directory: of the search.
      names: the files that `write` was given.
      needed: the checkpoints that are to be read, of which a change is an error.

    Raises:
      CheckpointError: a checkpoint that is needed is missing, or is not the one of this search.
    """
    if not names:
        return
    path = directory / _NAME
    sums = manifest.parse(path.read_bytes()) if path.is_file() else None
    for name in names:
        found = (directory / name).is_file()
        problem = "" if found else f"{directory} is damaged: {name} is missing"
        if found and sums is not None and sums.get(name) != files.digest_of(directory / name):
            problem = f"{directory} is damaged: {name} does not match its SHA-256 in {_NAME}"
        if problem and name.partition("/")[0] in needed:
            raise CheckpointError(problem)
        if problem:
            warnings.warn(f"{problem}. The result is read from other files, which are intact", stacklevel=3)
    if sums is None:
        why = "it was removed, or saving was interrupted"
        warnings.warn(f"{path} is missing, so changed tables cannot be noticed: {why}", stacklevel=3)
