"""Which processes work on an Optuna study: each holds a lock file beside its storage that dies with it.

Trials carry the name of their worker, so that only those of dead workers are asked for again. Workers on several
machines need a file system with locks that hold between them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def working_on(storage: str | os.PathLike[str] | None) -> Iterator[str]:
    """Be one of the workers of a storage while the context lasts; without a storage there are no others.

    Yields:
      The name of this worker.
    """
    name = uuid.uuid4().hex
    if storage is None:
        yield name
        return
    path = _path(storage, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield name
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_alive(storage: str | os.PathLike[str] | None, name: str | None) -> bool:
    """Whether a worker still holds its lock; False without a name."""
    if storage is None or name is None:
        return False
    try:
        descriptor = os.open(_path(storage, name), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    _path(storage, name).unlink(missing_ok=True)
    return False


def _path(storage: str | os.PathLike[str], name: str) -> Path:
    return Path(f"{os.fspath(storage)}.workers") / name
