"""The rules of a search: what is optimised, and how ties are broken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from purerl.sweep.results import objectives, ranking
from purerl.sweep.results.objectives import Evidence, Objective
from purerl.sweep.results.ranking import Criterion

DEFAULT_TIES: tuple[Criterion, ...] = ("area", "threshold")


class Rules(NamedTuple):
    """How trials are compared.

    Attributes:
      objective: what is optimised.
      ties: criteria that break ties, in the order in which they decide.
      threshold: of the criterion "threshold"; None: see `ranking.criteria`.
    """

    objective: Objective
    ties: tuple[Criterion, ...] = DEFAULT_TIES
    threshold: float | None = None


def make(objective: Objective | str, ties: tuple[Criterion, ...], threshold: float | None) -> Rules:
    """Checked rules.

    Raises:
      TypeError, ValueError: the objective is unknown, or a criterion is.
    """
    if isinstance(objective, str):
        objective = objectives.parse(objective)
    if not isinstance(objective, Objective):
        raise TypeError(f"objective = {objective!r} must be a text, or a sweep.Objective")
    for name in ties:
        if name not in DEFAULT_TIES:
            raise ValueError(f"ties = {name!r} must be 'area' or 'threshold'")
    return Rules(objective, tuple(ties), threshold)


def scores_of(rules: Rules, evidence: Evidence) -> np.ndarray:
    """[P, S], the objective of each agent, larger if better."""
    return objectives.score(rules.objective, evidence)


def order_of(rules: Rules, evidence: Evidence, num_updates: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The trials from best to worst and their scores, [P] and [P]; see `ranking.rank`."""
    score = objectives.over_seeds(rules.objective, scores_of(rules, evidence))
    ties = ranking.criteria(evidence, rules.ties, rules.threshold)
    return ranking.rank(score, ties, num_updates), score
