"""The members of a search, and how they are numbered."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

Index = TypeVar("Index", int, np.ndarray)


class MemberIndex(NamedTuple):
    """Number the members of a search: seed s of trial p is member p S + s.

    A member is one training run: a trial with one of its S seeds. Blocks, states between rungs and kept agents all go
    by this number, and nothing else computes it.

    Examples:
      >>> index = MemberIndex(num_seeds=3)
      >>> index.encode(2, 1), index.decode(7)
      (7, (2, 1))
      >>> index.of_trials(np.array([0, 2])).tolist()
      [0, 1, 2, 6, 7, 8]
      >>> index.by_trial(np.zeros((6, 4))).shape
      (2, 3, 4)
    """

    num_seeds: int

    def encode(self, trial: Index, seed: Index) -> Index:
        """The members of trials and seeds, [...] and [...] to [...]."""
        return trial * self.num_seeds + seed

    def decode(self, member: Index) -> tuple[Index, Index]:
        """The trials and the seeds of members, [...] to [...] and [...]."""
        trial, seed = divmod(member, self.num_seeds)
        return trial, seed

    def of_trials(self, trials: np.ndarray) -> np.ndarray:
        """All members of some trials, trial by trial, [K] to [K * S]."""
        return self.encode(trials[:, None], np.arange(self.num_seeds)).reshape(-1)

    def by_trial(self, rows: np.ndarray) -> np.ndarray:
        """Rows of `of_trials` with an axis for the seeds, [K * S, ...] to [K, S, ...]."""
        return rows.reshape(-1, self.num_seeds, *rows.shape[1:])
