"""Checkpoints that are written whole or not at all, and refused when a single bit of them has changed.

A checkpoint is a directory:

    SHA256SUMS      one line per file, as `sha256sum` prints it (so `sha256sum -c SHA256SUMS` checks it by hand)
    metadata.json   its format, the versions of the packages, the caller's metadata, and the path, shape and dtype of
                    every leaf
    arrays/         the leaves, written by orbax; the small ones share an array

Everything is written to a hidden sibling first, flushed to disk, and renamed: a directory under the final name is
complete. Nothing is ever unpickled, and no link is followed.
"""

from __future__ import annotations

from purerl.checkpoint.directory import Json, read_metadata, restore, save
from purerl.checkpoint.errors import CheckpointError
from purerl.checkpoint.manifest import MANIFEST
from purerl.checkpoint.series import Found, find, latest, save_step, steps

__all__ = [
    "MANIFEST", "CheckpointError", "Found", "Json", "find", "latest", "read_metadata", "restore", "save", "save_step",
    "steps",
]  # fmt: skip
