"""A result as rows: one dict per trial, from best to worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from purerl.hparams import python_number
from purerl.sweep.results.pareto import front
from purerl.sweep.results.skips import Skips, by_trial
from purerl.sweep.results.statistics import bootstrap_interval, coverage_limit, interquartile_mean
from purerl.sweep.trials.algorithms import active

if TYPE_CHECKING:
    from purerl.sweep.results.result import Result


def rows(result: Result) -> list[dict[str, Any]]:
    """The table of trials; see `Result.rows` for its columns."""
    columns: dict[str, np.ndarray] = {"trial": np.arange(result.num_trials)}
    columns |= {name: _searched(result, name) for name in result.searched}
    columns |= _objective(result) | _returns(result) | {"steps": result.trial_steps}
    if result.diverged.any():
        columns |= {"diverged": result.diverged.sum(axis=1), "diverged_after": _last_known_steps(result)}
    columns |= _columns(result.skips)
    tied = result.num_tied
    if (tied > 1).any():
        columns = {"tied": tied} | columns | _criteria(result)
    columns |= fresh_columns(result) | _front(result, set(columns))
    columns |= {f"return_seed_{seed}": column for seed, column in enumerate(result.seed_returns.T)}
    order = result.order[: (result.num_updates > 0).sum()]  # without trials that a search which was stopped left out
    ranked = {"rank": range(1, len(order) + 1)} | {name: _plain(each[order]) for name, each in columns.items()}
    return [dict(zip(ranked, row)) for row in zip(*ranked.values())]


def _searched(result: Result, name: str) -> np.ndarray:
    """[P] the values of a searched name; NaN in the trials of other algorithms than the one that it belongs to."""
    values, mine = result.values(name), active(result.trials.columns, name)
    if mine.all():
        return values
    return np.array([python_number(value) if own else np.nan for value, own in zip(values, mine)], object)


def _front(result: Result, known: set[str]) -> dict[str, np.ndarray]:
    """Further objectives, and whether a trial is on the Pareto front; empty if there is one objective."""
    if result.pareto is None:
        return {}
    found = front(result)
    values = {name: column for name, column in zip(found.names, found.values.T) if name not in known}
    return values | {"on_front": np.isin(np.arange(result.num_trials), found.trials)}


def fresh_columns(result: Result) -> dict[str, np.ndarray]:
    """The columns on fresh seeds, [P] by name: NaN for trials that were not trained again; empty without fresh seeds.

    Returns and intervals are over the seeds that did not diverge. Seeds that did, and skipped updates, have columns if
    there are any.
    """
    if not len(result.fresh_trials):
        return {}
    table = np.full((4, result.num_trials), np.nan)
    returns = result.fresh_returns.mean(axis=2, dtype=np.float64)
    for trial, each, count in zip(result.fresh_trials.tolist(), returns, result.num_fresh.tolist()):
        healthy = each[:count][np.isfinite(each[:count])]
        table[3, trial] = count - healthy.size
        if healthy.size:
            table[:3, trial] = interquartile_mean(healthy), *bootstrap_interval(jax.random.key(0), healthy)
    columns = dict(zip(("fresh_return", "fresh_low", "fresh_high", "fresh_diverged"), table))
    columns = columns if np.nansum(table[3]) else {name: columns[name] for name in list(columns)[:3]}
    return columns | {f"fresh_{name}": _of_fresh(result, each) for name, each in _columns(result.fresh_skips).items()}


def _of_fresh(result: Result, values: np.ndarray) -> np.ndarray:
    """Values of the trials that were trained again, [K], among all, [P]; NaN for the others."""
    column = np.full(result.num_trials, np.nan)
    column[result.fresh_trials] = values
    return column


def _last_known_steps(result: Result) -> np.ndarray:
    """[P] steps of the last known training return of the member that diverged first; NaN if none of a trial's did."""
    known = np.isfinite(result.curves)  # [P, S, C]
    last = np.where(known, result.steps, 0).max(axis=2, initial=0)  # [P, S]
    first = np.where(result.diverged, last, np.inf).min(axis=1)
    return np.where(np.isfinite(first), first, np.nan)


def _columns(found: Skips) -> dict[str, np.ndarray]:
    """Skipped updates and the steps before the first, [P, S] to [P]; empty if there are none."""
    return dict(zip(("skipped", "skipped_after"), by_trial(found))) if found.number.any() else {}


def _objective(result: Result) -> dict[str, np.ndarray]:
    """The objective as it was measured, unless it is the return."""
    objective = result.objective
    return {} if objective.name == "return" else {objective.name: result.score * (1 if objective.maximize else -1)}


def _returns(result: Result) -> dict[str, np.ndarray]:
    low, high = result.interval.T
    covers = np.full(result.num_trials, coverage_limit(result.num_seeds) if result.num_seeds > 1 else np.nan)
    return {"return": result.iqm, "return_low": low, "return_high": high, "interval_coverage": covers}


def _criteria(result: Result) -> dict[str, np.ndarray]:
    """The criteria that break ties, as they are measured: the fewest steps to a threshold are the best."""
    found = result.criteria
    return {("steps_to_threshold" if name == "threshold" else name): np.abs(each) if name == "threshold" else each
            for name, each in found.items()}  # fmt: skip


def _plain(column: np.ndarray) -> list[Any]:
    exact = column.dtype in (np.float64, np.int64, np.bool_)
    return column.tolist() if exact else [python_number(value) for value in column]
