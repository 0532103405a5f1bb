"""The order of trials from best to worst, and which of them tie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from purerl.sweep.results.objectives import Evidence, area_under, steps_until
from purerl.sweep.results.statistics import interquartile_mean

Criterion: TypeAlias = Literal["area", "threshold"]


def rank(
    score: np.ndarray,
    ties: Sequence[np.ndarray] = (),
    num_updates: np.ndarray | None = None,
    confirmed: np.ndarray | None = None,
) -> np.ndarray:
    """Rank trials by a score, among those trained equally far.

    Ties, which are common when many trials solve an easy task, go to the higher value of the first of `ties`, then of
    the next, and finally to the trial drawn first. Trials that were stopped early come after those that were trained
    further, and a trial with NaN comes last among those trained as far.

    Args:
      score: [P], larger is better.
      ties: further criteria, each [P], larger is better; see `criteria`.
      num_updates: [P] how far each was trained; None: all equally far.
      confirmed: [P] scores on fresh seeds, NaN for trials that were not trained again. Those that were come first, in
        this order: their first score is that of the best of many, and so is no longer asked.

    Returns:
      [P] indices, the best first.

    Examples:
      >>> rank(np.array([1.0, np.nan, 3.0, 3.0]), [np.array([0.0, 9.0, 1.0, 2.0])]).tolist()
      [3, 2, 0, 1]
    """
    far = np.zeros(len(score)) if num_updates is None else np.asarray(num_updates, float)
    again = () if confirmed is None else _keys(confirmed)
    keys = [key for criterion in reversed(ties) for key in _keys(criterion)]
    return np.lexsort((*keys, *_keys(score), *again, -far))


def _keys(criterion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of `np.lexsort`, the more important one last: NaN after everything else, then from high to low."""
    return np.where(np.isnan(criterion), 0, -criterion), np.isnan(criterion)


def criteria(evidence: Evidence, names: Sequence[Criterion], threshold: float | None = None) -> tuple[np.ndarray, ...]:
    """Criteria that break ties, each [P] and larger if better.

    "area" is the mean over the seeds of the area under the learning curve. "threshold" is minus the steps until the
    learning curve, the mean over the seeds, first reaches a threshold.

    Args:
      evidence: of the trials.
      names: in the order in which they decide.
      threshold: None takes for each trial its own return less a tenth of its size, which is the same for all that tie.

    Raises:
      ValueError: an unknown name.
    """
    found = []
    for name in names:
        if name == "area":
            found.append(area_under(evidence.curves, evidence.steps).mean(axis=1))
        elif name == "threshold":
            own = interquartile_mean(evidence.returns.mean(axis=2, dtype=np.float64))
            own = np.where(np.isfinite(own), own, np.nan)
            level = own - 0.1 * np.abs(own) if threshold is None else np.full(len(own), threshold)
            found.append(-steps_until(evidence.curves.mean(axis=1), evidence.steps, level[:, None]))
        else:
            raise ValueError(f"ties = {name!r} must be 'area' or 'threshold'")
    return tuple(found)


def num_tied(score: np.ndarray, num_updates: np.ndarray) -> np.ndarray:
    """[P], how many trials that were trained as far share each trial's score, itself included; 1 for NaN.

    Examples:
      >>> num_tied(np.array([500.0, 3.0, 500.0, np.nan]), np.array([8, 8, 8, 8])).tolist()
      [2, 1, 2, 1]
    """
    pairs = np.stack([num_updates.astype(np.float64), np.nan_to_num(score, nan=np.inf)], axis=1)
    _, place, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return np.where(np.isnan(score), 1, counts[place.reshape(-1)])
