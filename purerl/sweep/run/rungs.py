"""Schedules: how many trials are trained for how long before the worse ones stop.

A schedule maps (number of trials, number of updates) to brackets; a bracket is a tuple of rungs, and the best trials of
one rung continue in the next. The last rung of a bracket ends after exactly the number of updates asked for, so a
learning rate that is annealed over them reaches its end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from purerl.sweep.results.objectives import Evidence
from purerl.sweep.results.rules import Rules, order_of, scores_of
from purerl.sweep.results.statistics import bootstrap_interval


class Rung(NamedTuple):
    """A stage of a bracket.

    Attributes:
      num_trials: number of trials that run in it, at most.
      num_updates: updates that each of them has made at its end, counted from its beginning.
    """

    num_trials: int
    num_updates: int


Bracket: TypeAlias = tuple[Rung, ...]


class Schedule(Protocol):
    """Decides how the budget of a search is spent, before anything has run.

    It is a function and not a list of rungs, so that the same schedule serves searches of any size. Trials are assigned
    to brackets in the order in which they were drawn.
    """

    def __call__(self, num_trials: int, num_updates: int, /) -> tuple[Bracket, ...]:
        """The brackets of a search with this many trials, the longest of which make this many updates."""


def full(num_trials: int, num_updates: int, /) -> tuple[Bracket, ...]:
    """Train every trial to the end: random and grid search.

    Examples:
      >>> full(64, 100)
      ((Rung(num_trials=64, num_updates=100),),)
    """
    return ((Rung(num_trials, num_updates),),)


def successive_halving(eta: int = 4, num_rungs: int = 3) -> Schedule:
    """Synchronous successive halving: rung k trains ⌈P / ηᵏ⌉ trials until u ηᵏ updates, k = 0, ..., K - 1.

    The last rung ends after exactly U updates, the number asked for. u is U / ηᴷ⁻¹ rounded to an integer, or to a
    divisor of U near it, since rungs that are multiples of one length share their compiled programs.

    Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter Optimization", figure 3.

    Args:
      eta: each rung keeps 1/eta of the trials and trains eta times as long.
      num_rungs: number of rungs K.

    Returns:
      The schedule, of one bracket.

    Raises:
      ValueError: `eta` is below 2, `num_rungs` is not positive, or (when the schedule is called) U is below ηᴷ⁻¹.

    Examples:
      >>> [tuple(rung) for rung in successive_halving(eta=4, num_rungs=3)(64, 31)[0]]
      [(64, 2), (16, 8), (4, 31)]
    """
    _check(eta, num_rungs)

    def schedule(num_trials: int, num_updates: int, /) -> tuple[Bracket, ...]:
        ends = _ends(num_updates, eta, num_rungs)
        return (tuple(Rung(math.ceil(num_trials / eta**k), end) for k, end in enumerate(ends)),)

    return schedule


@dataclasses.dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving; made by `asha`."""

    eta: int
    num_rungs: int

    def __call__(self, num_trials: int, num_updates: int, /) -> tuple[Bracket, ...]:
        """The rungs; how many trials reach each is decided while it runs, and is at most what this says."""
        return successive_halving(self.eta, self.num_rungs)(num_trials, num_updates)


def asha(eta: int = 4, num_rungs: int = 3) -> Asha:
    """Asynchronous successive halving: a trial goes on as soon as it is among the best 1/η of those in its rung so far.

    No worker waits for the end of a rung, which is worth it if blocks run on several devices or machines of different
    speed; trials are promoted that would not be if all of the rung were known. The rungs are those of
    `successive_halving`.

    Li et al. (2020), "A System for Massively Parallel Hyperparameter Tuning", algorithm 2.

    Args:
      eta, num_rungs: as in `successive_halving`.

    Raises:
      ValueError: as in `successive_halving`.
    """
    _check(eta, num_rungs)
    return Asha(eta, num_rungs)


def promotable(order: np.ndarray, healthy: np.ndarray, promoted: np.ndarray, eta: int) -> np.ndarray:
    """The trials of a rung that may go on: among the best ⌊n / η⌋ of its n so far, and not promoted before.

    Args:
      order: [n] the trials of the rung, the best first.
      healthy: [n] bool, in the same order; those that diverged never go on.
      promoted: trials that were promoted out of it before.
      eta: one in so many goes on.

    Returns:
      The trials, the best first.

    Examples:
      >>> promotable(np.array([7, 3, 5, 1, 0]), np.ones(5, bool), np.array([7]), 2).tolist()
      [3]
    """
    best = order[: len(order) // eta][healthy[: len(order) // eta]]
    return best[~np.isin(best, promoted)]


def hyperband(eta: int = 3, num_brackets: int = 3) -> Schedule:
    """Hyperband: brackets of successive halving that trade the number of trials against their length.

    Bracket s = B - 1, ..., 0 has s + 1 rungs: rung i trains ⌊nₛ / ηⁱ⌋ trials until u ηᴮ⁻¹⁻ˢ⁺ⁱ updates, with u as in
    `successive_halving`, the last until U. All brackets cost about the same:

        nₛ = ⌈c ηˢ / (s + 1)⌉,

    with the largest c for which they have at most P trials together; what is left of P goes to the first brackets, one
    each. For P = 143, η = 3 and B = 5 it is the table of the paper for R = 81.

    Li et al. (2018), "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", algorithm 1 and table
    1, with P given in place of the budget, c = B there.

    Args:
      eta: as in `successive_halving`.
      num_brackets: number of brackets B.

    Raises:
      ValueError: as in `successive_halving`, or (when the schedule is called) there are fewer trials than brackets.

    Examples:
      >>> [[tuple(rung) for rung in bracket] for bracket in hyperband(eta=2, num_brackets=2)(8, 100)]
      [[(4, 50), (2, 100)], [(4, 100)]]
    """
    _check(eta, num_brackets)

    def schedule(num_trials: int, num_updates: int, /) -> tuple[Bracket, ...]:
        ends = _ends(num_updates, eta, num_brackets)
        return tuple(
            tuple(Rung(max(1, count // eta**i), ends[num_brackets - 1 - s + i]) for i in range(s + 1))
            for s, count in zip(reversed(range(num_brackets)), _bracket_sizes(num_trials, eta, num_brackets))
        )

    return schedule


def _bracket_sizes(num_trials: int, eta: int, num_brackets: int) -> list[int]:
    """The number of trials of each bracket of Hyperband, from the one with the most rungs to the one with one."""
    if num_trials < num_brackets:
        raise ValueError(f"num_trials = {num_trials} is too few for {num_brackets} brackets: each needs at least one")
    shares = [Fraction(eta**s, s + 1) for s in reversed(range(num_brackets))]
    # ⌈c w⌉ grows only where c w is an integer, and all ⌈c w⌉ together are at most B more than all c w.
    low, high = (Fraction(max(0, count), 1) / sum(shares) for count in (num_trials - num_brackets, num_trials))
    steps = {n / w for w in shares for n in range(math.floor(w * low), math.ceil(w * high) + 1)}
    fits = [c for c in sorted(steps) if sum(max(1, math.ceil(c * share)) for share in shares) <= num_trials]
    counts = [max(1, math.ceil(fits[-1] * share)) for share in shares]
    left = num_trials - sum(counts)
    return [count + (place < left) for place, count in enumerate(counts)]


def describe(brackets: Sequence[Bracket], update_steps: int) -> str:
    """The brackets of a search in words, with their exact numbers.

    Args:
      brackets: as a schedule returns them.
      update_steps: environment steps of one update.

    Examples:
      >>> print(describe(successive_halving(4, 2)(64, 31), 512))
      64 trials to 4,096 steps (8 updates), the best 16 to 15,872 steps (31 updates)
    """
    return "; ".join(
        ", ".join(
            f"{'the best ' * (r > 0)}{rung.num_trials:,} {'trials ' * (r == 0)}to {rung.num_updates * update_steps:,} "
            f"steps ({rung.num_updates:,} updates)"
            for r, rung in enumerate(bracket)
        )
        for bracket in brackets
    )


def survivors(
    key: jax.Array, rules: Rules, evidence: Evidence, count: int, *, stop_clearly_worse: bool = False
) -> np.ndarray:
    """The trials of a rung that continue: the best `count` by the rules of the search.

    With `stop_clearly_worse`, those among them whose 95% bootstrap interval lies entirely below that of the median
    survivor stop too. With one seed there are no intervals, so none stops for this reason.

    Args:
      key: typed key, of the bootstrap.
      rules: of the search.
      evidence: measurements of the trials of this rung.
      count: largest number of trials that continue.
      stop_clearly_worse: see above.

    Returns:
      [<= count] indices in ascending order. Trials with NaN never continue; if all have it, the result is empty.

    Examples:
      >>> from purerl.sweep.results.objectives import final_return
      >>> returns = np.array([3.0, 1.0, np.nan, 2.0])[:, None, None]
      >>> evidence = Evidence(returns, np.zeros((4, 1, 1)), np.array([8]), np.zeros((4, 1)))
      >>> survivors(jax.random.key(0), Rules(final_return()), evidence, 3).tolist()
      [0, 1, 3]
    """
    order, score = order_of(rules, evidence)
    best = order[:count]
    best = best[~np.isnan(score[best])]
    if stop_clearly_worse and len(best) > 1:
        interval = bootstrap_interval(key, scores_of(rules, evidence)[best])
        best = best[~(interval[:, 1] < interval[len(best) // 2, 0])]
    return np.sort(best)


def _check(eta: int, count: int) -> None:
    if eta < 2:
        raise ValueError(f"eta = {eta} must be at least 2: each rung keeps 1/eta of the trials")
    if count < 1:
        raise ValueError(f"{count} rungs or brackets: there must be at least 1")


def _ends(num_updates: int, eta: int, count: int) -> list[int]:
    """The updates after which `count` rungs end, about eta times as many from one to the next, the last at the end."""
    least = eta ** (count - 1)
    if num_updates < least:
        raise ValueError(
            f"num_updates = {num_updates} is too few for {count} rungs with eta = {eta}: use {least} or more"
        )
    unit = _near_divisor(num_updates, num_updates / least)
    return [*(unit * eta**k for k in range(count - 1)), num_updates]


def _near_divisor(total: int, wanted: float) -> int:
    """A divisor of `total` within a fifth of `wanted`, or else the nearest integer."""
    near = [n for n in range(math.ceil(wanted / 1.2), math.floor(1.2 * wanted) + 1) if n and total % n == 0]
    return min(near, key=lambda n: abs(math.log(n / wanted)), default=round(wanted))
