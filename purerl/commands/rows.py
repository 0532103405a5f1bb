"""Rows of metrics that are not written yet, and a table that is checked before it is continued.

A row is about a chunk of updates. The metrics of a chunk that is not complete are part of the checkpoint, so a run that
is stopped anywhere and resumed writes the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from purerl import files
from purerl.sweep.run.journal import decode, encode

Arrays: TypeAlias = dict[str, Any]
"""Metrics of some updates on the host, leaves [U] or [U, num_seeds]."""


def joined(parts: Sequence[Arrays]) -> Arrays:
    """Metrics of parts of a chunk, one after the other."""
    names = parts[0] if parts else ()
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def count(parts: Sequence[Arrays]) -> int:
    """Updates that parts of a chunk have."""
    return sum(len(next(iter(part.values()))) for part in parts)


def to_json(parts: Sequence[Arrays]) -> dict[str, Any]:
    """Parts of a chunk as JSON data, bit for bit; `from_json` is the inverse."""
    return {name: encode(array) for name, array in joined(parts).items()}


def from_json(data: Mapping[str, Any]) -> list[Arrays]:
    """Parts of a chunk, joined to one."""
    return [{name: decode(array) for name, array in data.items()}] if data else []


def seal(path: Path) -> dict[str, Any]:
    """Wait until a table is on the disk, and return its size and SHA-256."""
    files.flush(path)
    return {"bytes": path.stat().st_size, "sha256": files.digest_of(path)}


def check_seal(path: Path, sealed: Mapping[str, Any] | None) -> str:
    """Whether a table still begins with what `seal` saw. If not, it is set aside, and the sentence that says so."""
    if sealed is None or (path.is_file() and files.digest_of(path, sealed["bytes"]) == sealed["sha256"]):
        return ""
    if not path.exists():
        return f"{path} is missing: it begins anew here."
    aside = path.rename(path.with_name(f"{path.name}.damaged"))
    return f"{path} does not match its SHA-256: it was renamed {aside.name}, and a new one begins here."
