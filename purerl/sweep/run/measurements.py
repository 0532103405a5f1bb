"""Measurements of a search while it runs: one table for all members, which blocks fill as they finish."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from purerl.sweep.results import skips
from purerl.sweep.results.objectives import Evidence
from purerl.sweep.results.skips import Skips
from purerl.sweep.run.plan import Plan, Stage
from purerl.sweep.trials.members import MemberIndex


class Measurements(NamedTuple):
    """Measurements of P trials with S seeds each, on the host.

    Attributes:
      curves: [P, S, C] mean of the learning curves' metric in each chunk.
      returns: [P, S, E] greedy returns after the last rung that a member finished.
      rung_returns: [R, P, S, E] the same after each rung.
      made: [P, S] updates that a member has made until its last evaluation.
      rungs: [P, S] rungs that a member has finished.
      seconds: [P, S] seconds of training, each agent's share of its blocks.
      skips: [P, S] updates that were skipped.
      steps: [C] environment steps of a member at the end of each chunk.
      update_steps: environment steps of an update at the nominal sizes.
    """

    curves: np.ndarray
    returns: np.ndarray
    rung_returns: np.ndarray
    made: np.ndarray
    rungs: np.ndarray
    seconds: np.ndarray
    skips: Skips
    steps: np.ndarray
    update_steps: int

    @property
    def num_updates(self) -> np.ndarray:
        """[P] updates after which all seeds of a trial were evaluated; 0 if some never were."""
        return self.made.min(axis=1)

    def evidence(self, trials: np.ndarray | slice = slice(None)) -> Evidence:
        """What objectives are computed from, of some of the trials, [K]."""
        made = self.made[trials] * self.update_steps
        return Evidence(self.returns[trials], self.curves[trials], self.steps, self.seconds[trials], made)

    def of_seeds(self, seeds: slice) -> Measurements:
        """The part of some of the seeds; what is entered there is entered here."""
        by_seed = {name: getattr(self, name)[:, seeds] for name in ("curves", "returns", "made", "rungs", "seconds")}
        return self._replace(
            **by_seed, rung_returns=self.rung_returns[:, :, seeds], skips=self.skips.at((slice(None), seeds))
        )

    def fields(self) -> dict[str, Any]:
        """The fields of a `Result`. A trial of which a rung was not finished with all seeds counts as ended before."""
        last = self.rungs.min(axis=1)
        returns = np.where((last > 0)[:, None, None], self.rung_returns[last - 1, np.arange(len(last))], np.nan)
        names = ("curves", "rung_returns", "num_updates", "seconds")
        skipped = dict(zip(("skipped", "skipped_after"), self.skips))
        return {"returns": returns} | {name: getattr(self, name) for name in names} | skipped


def empty(plan: Plan, num_trials: int, num_seeds: int, num_episodes: int) -> Measurements:
    """Measurements before anything has run: NaN, and 0 updates."""
    num_rungs = max(len(bracket) for bracket in plan.brackets)
    curves, returns, rung_returns = (
        np.full(shape, np.nan, np.float32)
        for shape in (
            (num_trials, num_seeds, len(plan.steps)),
            (num_trials, num_seeds, num_episodes),
            (num_rungs, num_trials, num_seeds, num_episodes),
        )
    )
    made, rungs = np.zeros((2, num_trials, num_seeds), int)
    return Measurements(
        curves, returns, rung_returns, made, rungs, np.zeros(made.shape), skips.none(made.shape), plan.steps,
        plan.update_steps,
    )  # fmt: skip


def fill(
    measured: Measurements,
    index: MemberIndex,
    stage: Stage,
    members: np.ndarray,
    curves: np.ndarray,
    returns: np.ndarray,
    seconds: float = 0.0,
    skipped: Skips | None = None,
) -> None:
    """Enter the measurements of some members in a stage; the arrays change in place.

    A member with a return that is not finite has diverged: all its returns become NaN. A point of a learning curve that
    is infinite becomes NaN.

    Args:
      measured: to be filled.
      index: of the members.
      stage: the rung that they have finished.
      members: [W]; repeats hold the same numbers again.
      curves: [W, C'] training returns of the chunks of the members' own group, which may be more or fewer than the
        stage has points; a point then takes the chunk that it lies in.
      returns: [W, E] greedy returns.
      seconds: that the block took.
      skipped: [W] updates that were skipped, with steps from the beginning of the stage; None: it is not known.
    """
    curves = np.where(np.isfinite(curves), curves, np.nan)
    returns = np.where(np.isfinite(returns).all(axis=1, keepdims=True), returns, np.nan)
    trial, seed = index.decode(members)
    num_points = len(stage.points)
    chunk = (2 * np.arange(num_points) + 1) * curves.shape[1] // (2 * max(num_points, 1))
    measured.curves[trial[:, None], seed[:, None], stage.points] = curves[:, chunk]  # [W, C'] -> [W, points]
    measured.returns[trial, seed] = measured.rung_returns[stage.rung, trial, seed] = returns
    measured.made[trial, seed], measured.rungs[trial, seed] = stage.num_updates, stage.rung + 1
    measured.seconds[trial, seed] = measured.seconds[trial, seed] + seconds / len(np.unique(members))
    if skipped is not None:
        before = Skips(*(each[trial, seed] for each in measured.skips))
        later = skipped._replace(after=skipped.after + stage.first_step)
        for table, values in zip(measured.skips, skips.joined(before, later)):
            table[trial, seed] = values


def fill_lost(measured: Measurements, index: MemberIndex, stage: Stage, members: np.ndarray) -> None:
    """Enter members whose training failed in a stage: they count as diverged."""
    curves = np.full((len(members), max(1, len(stage.points))), np.nan, np.float32)
    returns = np.full((len(members), measured.returns.shape[2]), np.nan, np.float32)
    fill(measured, index, stage, members, curves, returns)
