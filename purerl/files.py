"""Files that are whole or unchanged after a crash, JSON under a checksum, and locks that end with their process."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_SEAL = "sha256"


def flush(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add a path to an `OSError` of the body that names none, as when a full disk is noticed in a later write.

    Examples:
      >>> with naming("metrics.csv"):
      ...     raise OSError(28, "No space left on device")
      Traceback (most recent call last):
      OSError: [Errno 28] No space left on device: 'metrics.csv'
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_whole(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file that is, after a crash at any moment, either the new one or the old one.

    Raises:
      OSError: it cannot be written; the old file is unchanged.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_whole(f"{folder}/a.txt", "hello").read_text()
      'hello'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.incomplete")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)
    return path


def sealed(content: Mapping[str, Any]) -> str:
    """JSON whose last field is the SHA-256 of the rest; `unsealed` is the inverse.

    Examples:
      >>> unsealed(sealed({"seed": 3}))
      {'seed': 3}
    """
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, _SEAL: digest}, indent=1) + "\n"


def unsealed(text: str) -> dict[str, Any]:
    """The content of a JSON object that `sealed` wrote. Other JSON objects are accepted, unless they have a `format`.

    Raises:
      ValueError: it is not a JSON object, or a single bit of it has changed.

    Examples:
      >>> unsealed(sealed({"seed": 3}).replace("3", "4", 1))
      Traceback (most recent call last):
      ValueError: it does not match its SHA-256
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    if _SEAL not in content and "format" not in content:
        return content
    content.pop(_SEAL, None)
    if text != sealed(content):
        raise ValueError("it does not match its SHA-256")
    return content


def digest_of(path: str | os.PathLike[str], size: int | None = None) -> str:
    """SHA-256 of a file, or of its first bytes, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        if size is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            digest.update(part)
            size -= len(part)
        return digest.hexdigest()


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a lock file for this process alone, until the body or the process ends.

    Args:
      path: a file that nothing else uses; it is created, holds the number of the process, and stays.

    Raises:
      BlockingIOError: another process holds it; `args[0]` is the number of that process, or "unknown".
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(_NoLocks):
            if not try_lock(descriptor):
                raise BlockingIOError(os.read(descriptor, 20).decode(errors="replace").strip() or "unknown")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


class _NoLocks(OSError):
    """The file system has no locks."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file or directory; False if another process has locked it. It is unlocked when closed.

    Raises:
      OSError: the file system has no locks.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _NoLocks(error.errno, error.strerror) from None
    return True


@contextlib.contextmanager
def temporary_sibling(path: Path) -> Iterator[Path]:
    """A hidden directory beside `path` to prepare its content in. What is left of it at the end is removed.

    It is locked, which tells it from one whose process has died.
    """
    temporary = _hidden(path)
    temporary.mkdir()
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        with contextlib.suppress(_NoLocks):
            try_lock(descriptor)
        yield temporary
    finally:
        try:
            shutil.rmtree(temporary, ignore_errors=True)
        finally:
            os.close(descriptor)


def remove_tree(directory: Path) -> None:
    """Delete a directory that nobody may see half deleted: it is renamed first."""
    hidden = _hidden(directory)
    os.rename(directory, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sweep_leftovers(parent: Path, name: str | None = None) -> None:
    """Delete the hidden siblings of a name (or of all) that dead processes have left in a directory."""
    for leftover in parent.glob(f".{'*' if name is None else glob.escape(name)}.incomplete-*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False if the system cannot (Linux can, on most file systems)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _hidden(path: Path) -> Path:
    return path.parent / f".{path.name}.incomplete-{os.getpid()}-{os.urandom(4).hex()}"
