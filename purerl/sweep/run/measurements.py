"""Measurements of a search while it runs: one table for all members, which blocks fill as they finish."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from purerl.sweep.run.plan import Plan, Stage
from purerl.sweep.trials.members import MemberIndex


class Measurements(NamedTuple):
    """Measurements of P trials with S seeds each, on the host; the fields are those of `Result`.

    Attributes:
      curves: [P, S, C] mean training return of each chunk.
      returns: [P, S, E] greedy returns after the last rung that a member finished.
      rung_returns: [R, P, S, E] the same after each rung.
      num_updates: [P] updates that a trial has made.
    """

    curves: np.ndarray
    returns: np.ndarray
    rung_returns: np.ndarray
    num_updates: np.ndarray


def empty(plan: Plan, num_trials: int, num_seeds: int, num_episodes: int) -> Measurements:
    """Measurements before anything has run: NaN, and 0 updates."""
    num_rungs = max(len(bracket) for bracket in plan.brackets)
    shapes = ((len(plan.steps),), (num_episodes,))
    curves, returns = (np.full((num_trials, num_seeds, *shape), np.nan, np.float32) for shape in shapes)
    return Measurements(
        curves, returns, np.repeat(np.full_like(returns, np.nan)[None], num_rungs, 0), np.zeros(num_trials, int)
    )


def fill(
    measured: Measurements,
    index: MemberIndex,
    stage: Stage,
    members: np.ndarray,
    curves: np.ndarray,
    returns: np.ndarray,
) -> None:
    """Enter the measurements of some members in a stage; the arrays change in place.

    Args:
      measured: to be filled.
      index: of the members.
      stage: the rung that they have finished.
      members: [W]; repeats hold the same numbers again.
      curves: [W, C'] training returns of the chunks of the members' own group, which may be more or fewer than the
        stage has points; a point then takes the chunk that it lies in.
      returns: [W, E] greedy returns.
    """
    trial, seed = index.decode(members)
    num_points = len(stage.points)
    chunk = (2 * np.arange(num_points) + 1) * curves.shape[1] // (2 * max(num_points, 1))
    measured.curves[trial[:, None], seed[:, None], stage.points] = curves[:, chunk]  # [W, C'] -> [W, points]
    measured.returns[trial, seed] = measured.rung_returns[stage.rung, trial, seed] = returns
    measured.num_updates[trial] = stage.num_updates
