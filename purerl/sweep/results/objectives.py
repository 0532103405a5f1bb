"""Objectives of a search: one number per agent, from its evaluation and its learning curve.

Everything that compares trials, such as ranks, rungs and Pareto fronts, uses these numbers, so a search can look for
the fastest learner as well as for the highest return.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from purerl.sweep.results.statistics import interquartile_mean, quantile


class Evidence(NamedTuple):
    """Measurements of P trials with S seeds each, from which an objective is computed.

    Attributes:
      returns: [P, S, E] greedy returns; NaN for an agent that diverged.
      curves: [P, S, C] learning curves; NaN if no episode ended in a chunk, and after the end of the training.
      steps: [C] environment steps of an agent at the end of each chunk.
      seconds: [P, S] seconds of training, each agent's share of its block.
      made: [P, S] environment steps that each agent made in this time; None: all of them.
    """

    returns: np.ndarray
    curves: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
    made: np.ndarray | None = None


class Measure(Protocol):
    """Computes an objective. It is a function, so that a user's own objective is as good as a built-in one."""

    def __call__(self, evidence: Evidence, /) -> np.ndarray:
        """[P, S], one number per agent; infinite if a threshold was never reached."""


class Objective(NamedTuple):
    """What a search optimises.

    Attributes:
      name: its column in tables.
      measure: the number of each agent.
      maximize: whether larger is better.
      quantile: in (0, 1), of the scores of a trial's seeds from the worst; None takes their interquartile mean.
    """

    name: str
    measure: Measure
    maximize: bool = True
    quantile: float | None = None


def final_return() -> Objective:
    """The mean greedy return after training."""
    return Objective("return", lambda evidence: evidence.returns.mean(axis=2, dtype=np.float64))


def percentile(q: float) -> Objective:
    """The q-th percentile over the seeds of the greedy return: 10 asks for a trial that hardly ever fails.

    Raises:
      ValueError: `q` is not between 0 and 100.
    """
    if not 0 < q < 100:
        raise ValueError(f"percentile = {q} must lie between 0 and 100")
    return Objective(f"return_percentile_{q:g}", final_return().measure, quantile=q / 100)


def area() -> Objective:
    """The area under the learning curve, divided by its length; see `area_under`."""
    return Objective("area", lambda evidence: area_under(evidence.curves, evidence.steps))


def curve_end(share: float = 0.1) -> Objective:
    """The mean of the last `share` of the curve, such as a success rate with `search(curve="episode_end/success")`."""

    def measure(evidence: Evidence) -> np.ndarray:
        known = ~np.isnan(evidence.curves)
        left = np.cumsum(known[..., ::-1], axis=-1)[..., ::-1]  # known points from here to the end, [P, S, C]
        last = known & (left <= np.maximum(1, np.ceil(share * known.sum(axis=-1, keepdims=True))))
        total = np.sum(evidence.curves, axis=-1, where=last, dtype=np.float64)
        return np.where(last.any(axis=-1), total / np.maximum(last.sum(axis=-1), 1), np.nan)

    return Objective("curve_end", measure)


def steps_to(threshold: float) -> Objective:
    """Environment steps until the learning curve first reaches a threshold; the fewest win.

    Raises:
      ValueError: the threshold is not finite.
    """
    _check_finite(threshold)
    name = f"steps_to_{threshold:g}"
    return Objective(name, lambda evidence: steps_until(evidence.curves, evidence.steps, threshold), maximize=False)


def seconds_to(threshold: float) -> Objective:
    """Seconds of training until the learning curve first reaches a threshold; the fewest win.

    Raises:
      ValueError: the threshold is not finite.
    """
    _check_finite(threshold)

    def measure(evidence: Evidence) -> np.ndarray:
        until = steps_until(evidence.curves, evidence.steps, threshold)
        made = evidence.steps[-1] if evidence.made is None else np.maximum(evidence.made, 1)
        return until / made * evidence.seconds

    return Objective(f"seconds_to_{threshold:g}", measure, maximize=False)


def _check_finite(threshold: float) -> None:
    if not math.isfinite(threshold):
        raise ValueError(f"threshold = {threshold} must be finite")


def of_curve(
    function: Callable[[np.ndarray, np.ndarray], float], name: str = "objective", *, maximize: bool = True
) -> Objective:
    """A function of one agent's learning curve.

    Args:
      function: from its known points, returns [c] and steps [c], to a number; it is not called without points.
      name: its column in tables.
      maximize: whether larger is better.

    Examples:
      >>> best_ever = of_curve(lambda returns, steps: returns.max(), "best_ever")
      >>> curves = np.array([[[1.0, 5.0, 2.0]]])
      >>> best_ever.measure(Evidence(np.zeros((1, 1, 1)), curves, np.arange(3), np.zeros((1, 1)))).tolist()
      [[5.0]]
    """

    def measure(evidence: Evidence) -> np.ndarray:
        made = np.full(evidence.curves.shape[:2], np.nan)
        for place in np.ndindex(made.shape):
            known = ~np.isnan(evidence.curves[place])
            if known.any():
                made[place] = function(evidence.curves[place][known], evidence.steps[known])
        return made

    return Objective(name, measure, maximize)


_PLAIN = {"return": final_return, "area": area, "curve": curve_end}
_OF_A_NUMBER = {"steps": steps_to, "seconds": seconds_to, "percentile": percentile}


def parse(text: str) -> Objective:
    """An objective from its text: `return`, `area`, `curve`, `steps:475`, `seconds:475` or `percentile:10`.

    Raises:
      ValueError: it is none of these.

    Examples:
      >>> parse("steps:475").name, parse("steps:475").maximize
      ('steps_to_475', False)
    """
    kind, _, number = text.partition(":")
    if kind in _PLAIN and not number:
        return _PLAIN[kind]()
    if kind not in _OF_A_NUMBER:
        known = ", ".join([*_PLAIN, *(f"{name}:NUMBER" for name in _OF_A_NUMBER)])
        raise ValueError(f"there is no objective {text!r}: take {known}")
    try:
        return _OF_A_NUMBER[kind](float(number))
    except ValueError as error:
        raise ValueError(f"objective {text!r}: {error}") from None


def score(objective: Objective, evidence: Evidence) -> np.ndarray:
    """[P, S], the objective of each agent with its sign changed if it is minimised, so that larger is always better.

    NaN for an agent that diverged, -inf for one that never reached a threshold.
    """
    values = np.asarray(objective.measure(evidence), np.float64)
    values = values if objective.maximize else -values
    healthy = np.isfinite(evidence.returns).all(axis=2) & (values < np.inf)
    return np.where(healthy, values, np.nan)


def over_seeds(objective: Objective, scores: np.ndarray) -> np.ndarray:
    """One number per trial, [..., S] to [...]: the interquartile mean, or the objective's quantile of the scores.

    It is NaN if a score is.
    """
    if objective.quantile is None:
        return interquartile_mean(scores)
    return quantile(scores, objective.quantile)


def pareto_front(values: np.ndarray, maximize: Sequence[bool]) -> np.ndarray:
    """Which trials no other one beats: none is at least as good in every objective and better in one.

    Args:
      values: [P, K] of K objectives; a trial with NaN is never on the front.
      maximize: for each objective whether larger is better.

    Returns:
      bool [P].

    Examples:
      >>> returns_and_steps = np.array([[500.0, 9.0], [480.0, 3.0], [470.0, 4.0]])
      >>> pareto_front(returns_and_steps, [True, False]).tolist()
      [True, True, False]
    """
    values = np.where(maximize, values, -np.asarray(values, np.float64))
    known = ~np.isnan(values).any(axis=1)
    front = known.copy()
    order = np.lexsort(-values.T[::-1])  # from the best first objective down: only earlier ones can beat later ones
    kept: list[int] = []
    for trial in order[known[order]].tolist():
        rivals = values[kept]
        beaten = (rivals >= values[trial]).all(axis=1) & (rivals > values[trial]).any(axis=1)
        front[trial] = not beaten.any()
        if front[trial]:
            kept.append(trial)
    return front


def area_under(curves: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Area under learning curves over their length, [..., C] to [...]; NaN without a point.

    A chunk in which no episode ended takes the value before it, and those before the first value take that one.

    Examples:
      >>> area_under(np.array([np.nan, 2.0, 4.0, np.nan]), np.array([10, 20, 30, 40])).item()
      2.6666666666666665
    """
    known = ~np.isnan(curves)
    places = np.arange(curves.shape[-1])
    before = np.maximum.accumulate(np.where(known, places, -1), axis=-1)  # the last known point up to each
    first = np.where(known.any(axis=-1), known.argmax(axis=-1), 0)[..., None]
    filled = np.take_along_axis(curves, np.where(before < 0, first, before), axis=-1)
    last = np.where(known, places, -1).max(axis=-1, keepdims=True)
    weight = np.where(places <= last, np.diff(steps, prepend=0), 0)
    total = np.sum(np.nan_to_num(filled) * weight, axis=-1, dtype=np.float64)
    return np.where(known.any(axis=-1), total / np.maximum(weight.sum(axis=-1), 1), np.nan)


def steps_until(curves: np.ndarray, steps: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """Steps at which learning curves first reach a threshold, [..., C] to [...]; infinite if they never do.

    The threshold is a number, or one per curve, [..., 1].

    Examples:
      >>> steps_until(np.array([[1.0, 5.0, 4.0], [1.0, np.nan, 2.0]]), np.array([10, 20, 30]), 4.5).tolist()
      [20.0, inf]
    """
    reached = np.nan_to_num(curves, nan=-np.inf) >= threshold
    return np.where(reached.any(axis=-1), steps[reached.argmax(axis=-1)].astype(np.float64), np.inf)
