"""When a search stops before its plan ends: it has found what is good enough, or has spent what it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from purerl.sweep.results import objectives
from purerl.sweep.results.rules import Rules, scores_of
from purerl.sweep.run.measurements import Measurements
from purerl.sweep.run.pool import Pool
from purerl.text import format_number

if TYPE_CHECKING:
    from purerl.sweep.run.engine import Engine


class Budget(NamedTuple):
    """Limits of a search; None: no limit. They may differ when it is resumed.

    Attributes:
      until: the objective that is good enough; a trial has it when all of its seeds have been evaluated.
      max_steps: environment steps of all agents.
      max_seconds: time, earlier processes included.
    """

    until: float | None = None
    max_steps: float | None = None
    max_seconds: float | None = None


class Enough(Exception):
    """Ends a search early. `pool` holds the states of the rung that was running, `reached` whether `until` was met."""

    def __init__(self, reason: str, *, reached: bool = False) -> None:
        super().__init__(reason)
        self.pool = Pool()
        self.reached = reached


def check_spent(engine: Engine) -> None:
    """Raise `Enough` if the steps or the time are spent."""
    reason = spent(engine.budget, engine.monitor.steps, engine.monitor.seconds())
    if reason is not None:
        raise Enough(reason)


def spent(budget: Budget, steps: int, seconds: float) -> str | None:
    """Which limit so many steps or seconds have reached, in words; None: neither.

    Examples:
      >>> spent(Budget(max_steps=1e3), 1024, 0.5), spent(Budget(max_seconds=60), 1024, 0.5)
      ('1,024 environment steps have been made; the budget was 1,000', None)
    """
    if budget.max_steps is not None and steps >= budget.max_steps:
        return f"{steps:,} environment steps have been made; the budget was {budget.max_steps:,.0f}"
    if budget.max_seconds is not None and seconds >= budget.max_seconds:
        return f"{seconds:,.0f} s have passed; the budget was {budget.max_seconds:,.0f} s"
    return None


def left(budget: Budget, steps: int, seconds: float) -> Budget:
    """The budget that is left after so many steps and seconds.

    Examples:
      >>> left(Budget(max_steps=1000), 600, 2.0)
      Budget(until=None, max_steps=400, max_seconds=None)
    """
    return budget._replace(
        max_steps=None if budget.max_steps is None else budget.max_steps - steps,
        max_seconds=None if budget.max_seconds is None else budget.max_seconds - seconds,
    )


def check_reached(engine: Engine, members: np.ndarray, finished: np.ndarray) -> None:
    """Raise `Enough` if a trial is good enough.

    Args:
      engine: of the search.
      members: [A] that are trained in this rung, all seeds of each trial.
      finished: those of them that have been evaluated.
    """
    if engine.budget.until is None:
        return
    whole = engine.member_index.by_trial(np.isin(members, finished)).all(axis=1)  # [K]
    trials = engine.member_index.by_trial(engine.member_index.decode(members)[0])[whole, 0]
    good = first_good(engine, engine.measured, trials)
    if good is not None:
        raise reached(engine, good)


def first_good(engine: Engine, measured: Measurements, trials: np.ndarray) -> int | None:
    """The first of these trials [K] that is good enough by these measurements; None if none is."""
    if engine.budget.until is None:
        return None
    good = is_reached(engine.rules, engine.budget.until, scores_of(engine.rules, measured.evidence(trials)))
    return int(trials[good][0]) if good.any() else None


def reached(engine: Engine, trial: int, when: str = "") -> Enough:
    """The end of a search in which a trial is good enough."""
    level = format_number(engine.budget.until or 0.0)
    return Enough(f"trial {trial} reached a {engine.rules.objective.name} of {level}{when}", reached=True)


def is_good(engine: Engine) -> np.ndarray:
    """[P], the trials of a search that are good enough to end it."""
    measured, until = engine.measured, engine.budget.until
    if until is None:
        return np.zeros(len(measured.num_updates), bool)
    return (measured.num_updates > 0) & is_reached(engine.rules, until, scores_of(engine.rules, measured.evidence()))


def is_reached(rules: Rules, until: float, scores: np.ndarray) -> np.ndarray:
    """Which trials are good enough, [P, S] scores to bool [P]."""
    level = until if rules.objective.maximize else -until
    return objectives.over_seeds(rules.objective, scores) >= level
