"""States of members between two rungs, and of the best ones at the end: in memory, or in checkpoints on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import checkpoint
from purerl.distributed import is_main
from purerl.types import PyTree


class _Source(NamedTuple):
    """Members whose states are rows of a tree with leaves [W, ...], or of the checkpoint of one."""

    members: np.ndarray
    rows: np.ndarray
    states: PyTree | None
    path: Path | None
    like: PyTree

    def read(self, wanted: np.ndarray) -> PyTree:
        """The states of some of the members, in this order."""
        states = jax.device_get(checkpoint.restore(str(self.path), self.like)) if self.states is None else self.states
        rows = self.rows[np.searchsorted(self.members, wanted)]  # the row of each member in the block
        return jax.tree.map(lambda leaf: leaf[rows], states)

    def narrowed(self, wanted: np.ndarray) -> _Source:
        """The source without the other members, whose states are freed."""
        left = np.intersect1d(self.members, wanted)
        rows = self.rows[np.searchsorted(self.members, left)]
        if self.states is None or len(left) in (0, len(self.members)):
            return self._replace(members=left, rows=rows)
        states = jax.tree.map(lambda leaf: leaf[rows], self.states)
        return self._replace(members=left, rows=np.arange(len(left)), states=states)


def _exists(path: Path | None) -> bool:
    return path is not None and path.exists()


class Pool:
    """Packed states by member."""

    def __init__(self) -> None:
        self._sources: list[_Source] = []

    @property
    def members(self) -> np.ndarray:
        """The members whose states it holds, in ascending order."""
        return np.unique(np.concatenate([np.empty(0, int), *(source.members for source in self._sources)]))

    def add(self, members: np.ndarray, states: PyTree | None, path: Path | None, like: PyTree) -> None:
        """Add the states of a block.

        Args:
          members: [W] their numbers; the first of repeats counts.
          states: leaves [W, ...]; None if they are on disk only.
          path: of the checkpoint; None if there is none.
          like: their shapes and dtypes.
        """
        unique, first = np.unique(members, return_index=True)
        self._sources.append(_Source(unique, first, states, path, like))

    def merge(self, other: Pool) -> None:
        """Add all states of another pool."""
        self._sources += other._sources

    def retain(self, wanted: np.ndarray, *, delete: bool = True) -> None:
        """Drop the states of all other members, and the checkpoints that hold none of those wanted.

        Args:
          wanted: the members whose states stay.
          delete: whether to delete these checkpoints; a search that has stopped needs them when it is resumed.
        """
        narrowed = [source.narrowed(wanted) for source in self._sources]
        self._sources = [source for source in narrowed if source.members.size]
        for source in narrowed if delete and is_main() else []:
            if not source.members.size and source.path is not None:
                shutil.rmtree(source.path, ignore_errors=True)

    def drop_lost(self) -> np.ndarray:
        """Drop the members whose checkpoint has been deleted; their numbers, in ascending order."""
        held = self.members
        self._sources = [source for source in self._sources if source.states is not None or _exists(source.path)]
        return np.setdiff1d(held, self.members)

    def by_name(self) -> Iterator[tuple[str, np.ndarray, PyTree]]:
        """The name of each checkpoint, its members that are left, [K], and their states, leaves [K, ...]."""
        for source in self._sources:
            if source.path is not None:
                yield source.path.name, source.members, source.read(source.members)

    def gather(self, members: np.ndarray) -> PyTree:
        """The states of these members, leaves [W, ...].

        Raises:
          KeyError: it does not hold the state of one of them.
        """
        out: Any = None
        missing = np.ones(len(members), bool)
        for source in self._sources:
            here = missing & np.isin(members, source.members)
            if not here.any():
                continue
            found = source.read(members[here])
            if out is None:
                out = jax.tree.map(lambda leaf: np.empty((len(members), *leaf.shape[1:]), leaf.dtype), found)
            for to, leaf in zip(jax.tree.leaves(out), jax.tree.leaves(found)):
                to[here] = leaf  # [K, ...] into [W, ...]
            missing &= ~here
        if missing.any():
            raise KeyError(f"there is no state of member {members[missing][0]}")
        return out
