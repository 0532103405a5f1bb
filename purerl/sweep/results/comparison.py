"""Which trials of a search can be compared fairly: those that were evaluated after equally much training."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from purerl.sweep.results.statistics import interquartile_mean, rank_correlation

if TYPE_CHECKING:
    from purerl.sweep.results.result import Result


class Comparison(NamedTuple):
    """Trials evaluated after the same number of updates.

    Attributes:
      trials: [K] which.
      returns: [K, S, E] of each of their agents, and episodes.
      steps: environment steps of each agent until then.
    """

    trials: np.ndarray
    returns: np.ndarray
    steps: int

    @property
    def iqm(self) -> np.ndarray:
        """[K], the interquartile mean over the seeds."""
        return interquartile_mean(self.returns.mean(axis=2, dtype=np.float64))


def comparable(result: Result) -> Comparison:
    """The most trials that were all evaluated after the same training; of equally many, after the most.

    A search without early stopping is compared as a whole at its end; successive halving after its first rung, where
    nobody is stopped yet; Hyperband within what its brackets have in common.
    """
    after = evaluated_after(result)
    lengths = np.unique(after[after > 0])
    counts = [(after == length).any(axis=0).sum() for length in lengths]
    _, length = max(zip(counts, lengths))
    rung, trials = np.nonzero(after == length)
    place = np.argsort(trials)
    rung, trials = rung[place], trials[place]
    return Comparison(trials, result.rung_returns[rung, trials], int(length * result.update_steps))


def evaluated_after(result: Result) -> np.ndarray:
    """[R, P] updates after which a trial was evaluated in each rung; 0 where it did not get so far."""
    after = np.zeros(result.rung_returns.shape[:2], int)
    first = 0
    for bracket in result.settings["brackets"]:
        count = bracket[0][0]
        for r, (_, num_updates) in enumerate(bracket):
            after[r, first : first + count] = num_updates
        first += count
    return np.where(after <= result.num_updates, after, 0)


def seed_agreement(result: Result) -> float:
    """Mean of Spearman's ρ over all pairs of seeds, of the trials trained furthest; NaN with one seed."""
    returns = result.seed_returns[result.num_updates == result.num_updates.max()]
    found = [rank_correlation(a, b) for a, b in itertools.combinations(returns.T, 2)]
    known = [rho for rho in found if not np.isnan(rho)]
    return float(np.mean(known)) if known else float("nan")
