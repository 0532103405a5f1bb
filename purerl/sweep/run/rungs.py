"""Schedules: how many trials are trained how far before the worse ones stop.

A schedule maps (number of trials, number of updates) to brackets; a bracket is a tuple of rungs, and the trials that
do best in one rung go on to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import numpy as np

from purerl.sweep.results.ranking import rank
from purerl.sweep.results.statistics import bootstrap_interval, interquartile_mean


class Rung(NamedTuple):
    """A stage of a bracket.

    Attributes:
      num_trials: how many trials run in it, at most.
      num_updates: how many updates each of them has made at its end, counted from its beginning.
    """

    num_trials: int
    num_updates: int


Bracket: TypeAlias = tuple[Rung, ...]
Schedule: TypeAlias = Callable[[int, int], tuple[Bracket, ...]]


def full(num_trials: int, num_updates: int) -> tuple[Bracket, ...]:
    """Every trial to the end: random and grid search."""
    return ((Rung(num_trials, num_updates),),)


def successive_halving(eta: int = 4, num_rungs: int = 3) -> Schedule:
    """Synchronous successive halving: rung k trains ⌈P / ηᵏ⌉ trials until ηᵏ u updates, k = 0, ..., K - 1.

    u = ⌊U / ηᴷ⁻¹⌋ for U updates in all, so that all rungs are multiples of one length; where U is none, training ends
    at the largest multiple below it.

    Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter Optimization", figure 3.

    Args:
      eta: by how much the trials shrink and the training grows from rung to rung.
      num_rungs: number of rungs K.

    Returns:
      The schedule, of one bracket.

    Raises:
      ValueError: `eta` is below 2, `num_rungs` is not positive, or (when the schedule is asked) U is below ηᴷ⁻¹.
    """
    _check(eta, num_rungs)

    def schedule(num_trials: int, num_updates: int) -> tuple[Bracket, ...]:
        unit = _unit(num_updates, eta, num_rungs)
        return (tuple(Rung(math.ceil(num_trials / eta**k), unit * eta**k) for k in range(num_rungs)),)

    return schedule


def hyperband(eta: int = 3, num_brackets: int = 3) -> Schedule:
    """Hyperband: brackets of successive halving that trade many trials against long training.

    Bracket s = B - 1, ..., 0 has s + 1 rungs: rung i trains nₛ / ηⁱ trials until u ηᴮ⁻¹⁻ˢ⁺ⁱ updates, with
    u = ⌊U / ηᴮ⁻¹⌋ and nₛ in proportion to ηˢ / (s + 1), so that each bracket costs about the same; together they have P
    trials, rounded up in each.

    Li et al. (2018), "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", algorithm 1, with P
    given in place of its n.

    Args:
      eta: as in `successive_halving`.
      num_brackets: number of brackets B.

    Raises:
      ValueError: as in `successive_halving`.
    """
    _check(eta, num_brackets)

    def schedule(num_trials: int, num_updates: int) -> tuple[Bracket, ...]:
        unit = _unit(num_updates, eta, num_brackets)
        shares = {s: eta**s / (s + 1) for s in reversed(range(num_brackets))}
        counts = {s: math.ceil(num_trials * share / sum(shares.values())) for s, share in shares.items()}
        return tuple(
            tuple(Rung(math.ceil(count / eta**i), unit * eta ** (num_brackets - 1 - s + i)) for i in range(s + 1))
            for s, count in counts.items()
        )

    return schedule


def survivors(
    key: jax.Array, returns: np.ndarray, curves: np.ndarray, count: int, *, stop_clearly_worse: bool = False
) -> np.ndarray:
    """Which trials of a rung go on: the best `count` by the interquartile mean over their seeds.

    With `stop_clearly_worse` those among them stop too whose 95% bootstrap interval lies wholly below that of the
    median survivor. With one seed there are no intervals and none stops by them.

    Args:
      key: typed key, of the bootstrap.
      returns: [P, S, E] of the trials of this rung.
      curves: [P, S, C] their learning curves, which break ties.
      count: how many go on, at most.
      stop_clearly_worse: see above.

    Returns:
      [<= count] indices in ascending order. Trials with NaN never go on; where all have it, the result is empty.
    """
    best = rank(returns, curves)[:count]
    best = best[~np.isnan(interquartile_mean(returns[best].mean(axis=2, dtype=np.float64)))]
    if stop_clearly_worse and len(best) > 1:
        interval = bootstrap_interval(key, returns[best].mean(axis=2, dtype=np.float64))
        best = best[~(interval[:, 1] < interval[len(best) // 2, 0])]
    return np.sort(best)


def _check(eta: int, count: int) -> None:
    if eta < 2:
        raise ValueError(f"eta = {eta} must be at least 2: so many times fewer trials go on from each rung")
    if count < 1:
        raise ValueError(f"{count} rungs or brackets: there must be at least 1")


def _unit(num_updates: int, eta: int, count: int) -> int:
    unit = num_updates // eta ** (count - 1)
    if not unit:
        raise ValueError(
            f"num_updates = {num_updates} is too few for {count} rungs with eta = {eta}: it takes {eta ** (count - 1)}"
        )
    return unit
