"""Updates that changed nothing, because their gradient was NaN or infinite: how many, and after how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Skips(NamedTuple):
    """The skipped updates of members, leaves [...].

    Attributes:
      number: how many were skipped, at least in part.
      after: environment steps of the member before the first of them; NaN: none was skipped.
    """

    number: np.ndarray
    after: np.ndarray

    def at(self, index: slice | np.ndarray | tuple[slice, ...]) -> Skips:
        """Those of some of the members, views if they are given by slices."""
        return Skips(self.number[index], self.after[index])


def none(shape: int | Sequence[int]) -> Skips:
    """Nothing was skipped."""
    return Skips(np.zeros(shape, int), np.full(shape, np.nan))


def counted(number: np.ndarray | None, after: np.ndarray | None, shape: Sequence[int]) -> Skips:
    """Those that a result has; none if it is from a version that did not count them."""
    return none(shape) if number is None or after is None else Skips(number, after)


def of_updates(share: np.ndarray, update_steps: int, first_step: int = 0) -> Skips:
    """The skipped ones among U updates of W members, from the metric `loss/skipped`, [W, U] to [W].

    Args:
      share: fraction of the gradient steps that were skipped; NaN: the update made none.
      update_steps: environment steps of one update.
      first_step: environment steps before the first update.

    Examples:
      >>> found = of_updates(np.array([[0, 0, 0.5, 1], [0, 0, 0, 0]]), 10, first_step=100)
      >>> found.number.tolist(), found.after.tolist()
      ([2, 0], [120.0, nan])
    """
    skipped = np.nan_to_num(share) > 0
    after = first_step + update_steps * np.argmax(skipped, axis=1).astype(np.float64)
    return Skips(skipped.sum(axis=1), np.where(skipped.any(axis=1), after, np.nan))


def by_trial(found: Skips) -> Skips:
    """The sum over the seeds, and the steps before the first of all, [P, S] to [P].

    Examples:
      >>> by_trial(Skips(np.array([[1, 2], [0, 0]]), np.array([[30.0, 20.0], [np.nan, np.nan]])))
      Skips(number=array([3, 0]), after=array([20., nan]))
    """
    return Skips(found.number.sum(axis=-1), np.fmin.reduce(found.after, axis=-1, initial=np.nan))


def joined(before: Skips, later: Skips) -> Skips:
    """All of the same members; the first is the one after the fewest steps.

    Examples:
      >>> joined(Skips(np.array([2]), np.array([30.0])), none(1))
      Skips(number=array([2]), after=array([30.]))
    """
    return Skips(before.number + later.number, np.fmin(before.after, later.after))
