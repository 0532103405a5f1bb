"""States of agents between two rungs, and of the best ones at the end: in memory, or in checkpoints on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import checkpoint
from purerl.types import PyTree


class _Source(NamedTuple):
    """Agents whose states are rows of a tree with leaves [W, ...], or of the checkpoint of one."""

    agents: np.ndarray
    rows: np.ndarray
    states: PyTree | None
    path: Path | None
    like: PyTree

    def read(self, wanted: np.ndarray) -> PyTree:
        """The states of some of the agents, in this order."""
        states = jax.device_get(checkpoint.restore(str(self.path), self.like)) if self.states is None else self.states
        rows = self.rows[np.searchsorted(self.agents, wanted)]
        return jax.tree.map(lambda leaf: leaf[rows], states)

    def narrowed(self, wanted: np.ndarray) -> _Source:
        """Without the other agents, whose states leave the memory."""
        left = np.intersect1d(self.agents, wanted)
        rows = self.rows[np.searchsorted(self.agents, left)]
        if self.states is None or len(left) in (0, len(self.agents)):
            return self._replace(agents=left, rows=rows)
        states = jax.tree.map(lambda leaf: leaf[rows], self.states)
        return self._replace(agents=left, rows=np.arange(len(left)), states=states)


class Pool:
    """Packed states by agent."""

    def __init__(self) -> None:
        self._sources: list[_Source] = []

    @property
    def agents(self) -> np.ndarray:
        """Whose states there are, in ascending order."""
        return np.unique(np.concatenate([np.empty(0, int), *(source.agents for source in self._sources)]))

    def add(self, agents: np.ndarray, states: PyTree | None, path: Path | None, like: PyTree) -> None:
        """Take over the states of a block.

        Args:
          agents: [W] their numbers; of repeats the first counts.
          states: leaves [W, ...]; None where they are on disk alone.
          path: of the checkpoint; None where there is none.
          like: their shapes and types.
        """
        unique, first = np.unique(agents, return_index=True)
        self._sources.append(_Source(unique, first, states, path, like))

    def merge(self, other: Pool) -> None:
        """Take over all states of another pool."""
        self._sources += other._sources

    def retain(self, wanted: np.ndarray) -> None:
        """Forget all other agents; what is on disk is untouched."""
        narrowed = [source.narrowed(wanted) for source in self._sources]
        self._sources = [source for source in narrowed if source.agents.size]

    def gather(self, agents: np.ndarray) -> PyTree:
        """The states of these agents, leaves [len(agents), ...].

        Raises:
          KeyError: there is no state of one of them.
        """
        out: Any = None
        missing = np.ones(len(agents), bool)
        for source in self._sources:
            here = missing & np.isin(agents, source.agents)
            if not here.any():
                continue
            found = source.read(agents[here])
            if out is None:
                out = jax.tree.map(lambda leaf: np.empty((len(agents), *leaf.shape[1:]), leaf.dtype), found)
            for to, leaf in zip(jax.tree.leaves(out), jax.tree.leaves(found)):
                to[here] = leaf
            missing &= ~here
        if missing.any():
            raise KeyError(f"there is no state of agent {agents[missing][0]}")
        return out
