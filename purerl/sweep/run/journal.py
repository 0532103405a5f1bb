"""The record of a search on disk: an append-only file of checksummed lines, written as things finish.

    sweep directory/journal      one line per event: SHA-256, a space, JSON
    sweep directory/blocks/      states of members that continue in the next rung (see `purerl.checkpoint`)

A line is flushed to the disk before the search continues, so after a crash or a power cut at most the last line is
torn; it is cut off when the journal is opened again. One process at a time holds the journal, by a lock that ends with
the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from purerl.checkpoint import CheckpointError, Json
from purerl.distributed import is_main, wait_for_all
from purerl.sweep.results.encoded import decode, encode

__all__ = ["NAME", "Journal", "decode", "encode", "exists", "in_memory", "opened", "read"]

NAME = "journal"


class Journal:
    """An open journal; see `opened`."""

    def __init__(self, directory: Path | None, descriptor: int | None, events: list[dict[str, Json]]) -> None:
        self.directory = directory
        self._descriptor = descriptor
        self._events = {(event["kind"], event["name"]): event for event in events}

    def find(self, kind: str, name: str = "") -> dict[str, Any] | None:
        """The last event of a kind and name, as it was added."""
        return self._events.get((kind, name))

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """The last event of each name of a kind, by name."""
        return {name: event for (of, name), event in self._events.items() if of == kind}

    def add(self, kind: str, name: str = "", **content: Json) -> None:
        """Append an event (JSON data) and wait until it is on the disk."""
        event = {"kind": kind, "name": name, **content}
        if self._descriptor is not None:
            _write_all(self._descriptor, _line(event))
            os.fsync(self._descriptor)
        self._events[kind, name] = event


@contextlib.contextmanager
def opened(directory: str | os.PathLike[str] | None, *, resume: bool) -> Iterator[Journal]:
    """Open, or begin, the journal of a directory for this process alone; without a directory nothing is written.

    Args:
      directory: of the search; created if it does not exist. With several processes all read it, and the main one
        writes.
      resume: continue the journal that exists.

    Raises:
      FileExistsError: there is a journal and `resume` is not set.
      FileNotFoundError: there is none and `resume` is set.
      BlockingIOError: another process holds it.
      CheckpointError: a line other than the last does not match its checksum.

    Examples:
      >>> with opened(None, resume=False) as log:
      ...     log.add("block", "first", seconds=1.5)
      ...     log.find("block", "first")["seconds"]
      1.5
    """
    if directory is None:
        yield Journal(None, None, [])
        return
    path = Path(directory) / NAME
    if not is_main():
        wait_for_all()
        events, _ = _read(path)
        wait_for_all()
        yield Journal(Path(directory), None, events)
        return
    if path.is_file() and not resume:
        raise FileExistsError(f"{path.parent} already holds a search: pass resume=True to resume it")
    if resume and not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no search to resume")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        _lock(descriptor, path)
        events, length = _read(path)
        os.ftruncate(descriptor, length)
        wait_for_all()  # the others may read now,
        wait_for_all()  # and have read it
        yield Journal(Path(directory), descriptor, events)
    finally:
        os.close(descriptor)


def read(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The events of a journal, oldest first, whether or not another process holds it.

    Raises:
      CheckpointError: there is none, or a line other than the last does not match its checksum.
    """
    path = Path(directory) / NAME
    if not path.is_file():
        raise CheckpointError(f"{directory} holds no search")
    return _read(path)[0]


def exists(directory: str | os.PathLike[str]) -> bool:
    """Whether a search has begun in a directory."""
    return (Path(directory) / NAME).is_file()


def in_memory(log: Journal, *kinds: str) -> Journal:
    """A journal that writes nothing, with the events of some kinds of another one."""
    return Journal(None, None, [event for kind in kinds for event in log.all(kind).values()])


def _lock(descriptor: int, path: Path) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(f"another process is working on the search in {path.parent}") from None


def _line(event: Mapping[str, Json]) -> bytes:
    text = json.dumps(event, separators=(",", ":")).encode("utf-8")
    return hashlib.sha256(text).hexdigest().encode("ascii") + b" " + text + b"\n"


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The events, and the length of the file up to the end of the last whole line."""
    events, length = [], 0
    *lines, torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        digest, _, text = line.partition(b" ")
        if hashlib.sha256(text).hexdigest().encode("ascii") != digest:
            if number == len(lines) and not torn:
                break
            raise CheckpointError(f"{path} is damaged: line {number} does not match its SHA-256")
        events.append(json.loads(text))
        length += len(line) + 1
    return events, length
