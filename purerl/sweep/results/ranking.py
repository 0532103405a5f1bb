"""The order of trials from best to worst."""

from __future__ import annotations

import numpy as np

from purerl.sweep.results.statistics import interquartile_mean


def rank(returns: np.ndarray, curves: np.ndarray, num_updates: np.ndarray | None = None) -> np.ndarray:
    """Rank trials by the interquartile mean of their seeds' returns, among those trained equally far.

    Ties, which are common when many trials solve an easy task, go to the higher mean of the learning curves, so the
    trial that learned faster comes first, and then to the trial drawn first. Trials that were stopped early come after
    those that were trained further, and a trial with NaN comes last among those trained as far.

    Args:
      returns: [P, S, E] evaluation returns.
      curves: [P, S, C] learning curves, NaN if there is no value.
      num_updates: [P] how far each was trained; None: all equally far.

    Returns:
      [P] indices, the best first.

    Examples:
      >>> returns = np.array([1.0, np.nan, 3.0])[:, None, None]
      >>> rank(returns, np.zeros((3, 1, 1))).tolist()
      [2, 0, 1]
    """
    score = interquartile_mean(returns.mean(axis=2, dtype=np.float64))  # [P, S, E] -> [P]
    known = ~np.isnan(curves)
    speed = np.sum(curves, axis=(1, 2), where=known, dtype=np.float64) / np.maximum(known.sum(axis=(1, 2)), 1)
    far = np.zeros(len(returns)) if num_updates is None else num_updates
    return np.lexsort((-speed, np.where(np.isnan(score), np.inf, -score), -far))
