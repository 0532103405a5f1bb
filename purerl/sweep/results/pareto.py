"""Several objectives at once: the trials that no other one beats in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from purerl.sweep.results import objectives
from purerl.sweep.results.objectives import Objective

if TYPE_CHECKING:
    from purerl.sweep.results.result import Result

COSTS = ("steps", "seconds", "parameters")


class Front(NamedTuple):
    """P trials in the light of K objectives.

    Attributes:
      names: of the objectives.
      maximize: whether larger is better, for each.
      values: [P, K] as they are measured; NaN if a seed diverged, infinite if a threshold was never reached.
      trials: [F] the trials on the Pareto front, from the best to the worst in the first objective.
    """

    names: tuple[str, ...]
    maximize: tuple[bool, ...]
    values: np.ndarray
    trials: np.ndarray


def check(goals: Sequence[Objective | str]) -> None:
    """Check the names of objectives and costs.

    Raises:
      TypeError, ValueError: one is unknown.
    """
    for goal in goals:
        if isinstance(goal, str) and goal not in COSTS:
            try:
                objectives.parse(goal)
            except ValueError as error:
                raise ValueError(f"{error}; or a cost: {', '.join(COSTS)}") from None
        elif not isinstance(goal, str | Objective):
            raise TypeError(f"{goal!r} must be a text, or a sweep.Objective")


def about(goals: Sequence[Objective | str]) -> list[dict[str, Any]]:
    """The names and the directions of objectives and costs, as a result stores them."""
    made = [objectives.parse(goal) if isinstance(goal, str) and goal not in COSTS else goal for goal in goals]
    return [
        {"name": goal, "maximize": False} if isinstance(goal, str) else {"name": goal.name, "maximize": goal.maximize}
        for goal in made
    ]


def front(result: Result, goals: Sequence[Objective | str] = ()) -> Front:
    """The Pareto front of a search.

    Args:
      result: a finished search.
      goals: objectives as in `search`, or costs, of which less is better: "steps", environment steps that each agent
        was trained; "seconds" of training; "parameters", learned numbers of an agent. Without any: the objective of
        the search and those of its argument `pareto`.

    Raises:
      TypeError, ValueError: an objective is unknown, none is given and the search had one only, or the parameters were
        not counted, as for results of earlier versions.

    Examples:
      >>> from purerl.sweep.results import pareto
      >>> pareto.COSTS
      ('steps', 'seconds', 'parameters')
    """
    if not goals:
        if result.pareto is None:
            raise ValueError('the search had one objective: name others, such as front(result, ["return", "seconds"])')
        goals_of = result.settings["pareto"]
        names, maximize = zip(*((goal["name"], goal["maximize"]) for goal in goals_of))
        return _front(names, maximize, result.pareto)
    check(goals)
    names, maximize = zip(*((goal["name"], goal["maximize"]) for goal in about(goals)))
    return _front(names, maximize, values_of(result, goals))


def values_of(result: Result, goals: Sequence[Objective | str]) -> np.ndarray:
    """[P, K] the objectives and costs of each trial, as they are measured."""
    return np.stack([_values(result, goal) for goal in goals], axis=1)


def rows(result: Result) -> list[dict[str, Any]]:
    """The front as a table, from the best to the worst in the first objective: rank, trial, objectives, settings."""
    found = front(result)
    rank = np.argsort(result.order) + 1
    settings = {name: result.values(name).tolist() for name in result.searched}
    return [
        {"rank": int(rank[trial]), "trial": int(trial)}
        | dict(zip(found.names, found.values[trial].tolist()))
        | {name: column[trial] for name, column in settings.items()}
        for trial in found.trials.tolist()
    ]


def _front(names: Any, maximize: Any, values: np.ndarray) -> Front:
    on = np.flatnonzero(objectives.pareto_front(values, maximize))
    first = values[on, 0] * (-1 if maximize[0] else 1)
    return Front(tuple(names), tuple(maximize), values, on[np.argsort(first, kind="stable")])


def _values(result: Result, goal: Objective | str) -> np.ndarray:
    """[P] an objective or a cost; NaN for a trial of which a seed diverged."""
    lost = np.isnan(result.seed_returns).any(axis=1)
    if isinstance(goal, str) and goal not in COSTS:
        goal = objectives.parse(goal)
    if isinstance(goal, Objective):
        scores = objectives.over_seeds(goal, objectives.score(goal, result.evidence))
        return scores if goal.maximize else -scores
    if goal == "steps":
        cost = result.trial_steps.astype(np.float64)
    elif goal == "seconds":
        cost = result.evidence.seconds.mean(axis=1)
    elif "parameters" in result.settings:
        cost = np.array(result.settings["parameters"], np.float64)[result.trials.group]
    else:
        raise ValueError("the parameters of the agents of this search were not counted")
    return np.where(lost, np.nan, cost)
