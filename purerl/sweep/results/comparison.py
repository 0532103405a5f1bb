"""Trials that can be compared fairly: those that were evaluated after the same amount of training.

These functions take the arrays of a `Result`, which has a method for each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from purerl.sweep.results.statistics import interquartile_mean, rank_correlation


class Comparison(NamedTuple):
    """Trials evaluated after the same number of updates.

    Attributes:
      trials: [K] the trials.
      returns: [K, S, E] returns of each seed and episode.
      steps: environment steps of each member until then.
    """

    trials: np.ndarray
    returns: np.ndarray
    steps: int

    @property
    def iqm(self) -> np.ndarray:
        """[K], the interquartile mean over the seeds."""
        return interquartile_mean(self.returns.mean(axis=2, dtype=np.float64))


def evaluated_after(
    brackets: Sequence[Sequence[tuple[int, int]]], num_updates: np.ndarray, num_rungs: int
) -> np.ndarray:
    """Updates after which each trial was evaluated in each rung.

    Args:
      brackets: the rungs of each bracket, (number of trials, updates at its end); brackets take the trials in turn.
      num_updates: [P] updates after which each trial ended.
      num_rungs: R, rungs of the longest bracket.

    Returns:
      [R, P]; 0 if the trial did not reach the rung. One that ended within a rung was evaluated there.

    Examples:
      >>> evaluated_after([[(3, 4), (1, 16)]], np.array([4, 16, 4]), 2).tolist()
      [[4, 4, 4], [0, 16, 0]]
    """
    after = np.zeros((num_rungs, len(num_updates)), int)
    first = 0
    for bracket in brackets:
        made, begin = num_updates[first : first + bracket[0][0]], 0
        for r, (_, end) in enumerate(bracket):
            after[r, first : first + len(made)] = np.where(made > begin, np.minimum(made, end), 0)
            begin = end
        first += len(made)
    return after


def comparable(after: np.ndarray, rung_returns: np.ndarray, update_steps: int) -> Comparison:
    """The largest set of trials that were all evaluated after the same training; of equally many, after the most.

    A search without early stopping is compared as a whole at its end; successive halving after its first rung, when no
    trial has been stopped yet; Hyperband within the rungs that its brackets share.

    Args:
      after: [R, P] as `evaluated_after` returns.
      rung_returns: [R, P, S, E].
      update_steps: environment steps of one update.
    """
    lengths = np.unique(after[after > 0])
    counts = [(after == length).any(axis=0).sum() for length in lengths]
    _, length = max(zip(counts, lengths))
    rung, trials = np.nonzero(after == length)  # each trial reached a length in one rung only
    place = np.argsort(trials)
    rung, trials = rung[place], trials[place]
    returns = rung_returns[rung, trials]  # [R, P, S, E] -> [K, S, E]
    return Comparison(trials, returns, int(length * update_steps))


def seed_agreement(seed_returns: np.ndarray) -> float:
    """Mean of Spearman's ρ over all pairs of seeds; NaN with one seed.

    Args:
      seed_returns: [P, S].

    Examples:
      >>> round(seed_agreement(np.array([[1.0, 2.0], [2.0, 5.0], [3.0, 7.0]])), 6)
      1.0
    """
    found = [rank_correlation(a, b) for a, b in itertools.combinations(seed_returns.T, 2)]
    known = [rho for rho in found if not np.isnan(rho)]
    return float(np.mean(known)) if known else float("nan")
