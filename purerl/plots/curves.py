"""Learning curves of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from purerl.plots.landscapes import draw_parameter
from purerl.plots.style import (
    COLORS,
    DARK,
    FAINT,
    Entries,
    bar,
    count,
    crosses,
    diverged_entry,
    frame,
    group_colors,
    legend,
    line,
    new_figure,
    number,
    skipped_entry,
    triangles,
    words,
)
from purerl.sweep import bootstrap_interval, interquartile_mean
from purerl.sweep.results.algorithms import algorithms_of
from purerl.sweep.results.skips import by_trial
from purerl.sweep.trials.algorithms import ALGORITHM, own_name
from purerl.text import plural

if TYPE_CHECKING:
    from purerl.sweep import Result

_BANDS = 3  # more of them hide each other


def sweep_figure(result: Result, parameter: str | None = None, top: int = 5) -> Figure:
    """The whole search in one picture: learning curves of all trials, and one hyperparameter against the greedy return.

    Args:
      result: a finished search.
      parameter: name of the hyperparameter; None takes the first that was searched.
      top: number of the best trials to highlight, at most 5; each has one colour in both panels.

    Raises:
      ValueError: `parameter` was not searched, or nothing was.
    """
    figure = new_figure(11, 5.6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.3, 1))
    entries = _draw_curves(left, result, top)
    first = ALGORITHM if algorithms_of(result) else next(iter(result.searched), "")
    entries += draw_parameter(right, result, parameter or first, top)
    right.set_ylabel("greedy return", color=DARK)
    legend(figure, entries, columns=3)
    return figure


def learning_curves(result: Result, top: int = 5) -> Figure:
    """Training return against environment steps: every trial faint, the median, the best in colour with a band.

    In a search over algorithms each has one colour, in which its best trial is drawn with a band.

    A trial that was stopped ends at that point, and dotted lines mark the ends of rungs; a curve of one point is a dot.
    The line of a highlighted trial is the interquartile mean over its seeds. The bands, of the first three, are the
    range of their seeds, or from five seeds on the 95% bootstrap interval. Crosses mark where trials diverged, and
    triangles the first update of a trial that was skipped because its gradient was NaN or infinite.

    Args:
      result: a finished search.
      top: number of the best trials to highlight, at most 5.
    """
    figure = new_figure(7.5, 5.2)
    axes = figure.subplots()
    legend(figure, _draw_curves(axes, result, top), columns=2)
    return figure


_CURVES = {"episode_return": "training return", "eval_return": "greedy return"}


def _draw_curves(axes: Axes, result: Result, top: int) -> Entries:
    """The panel of learning curves; returns the entries of its legend, the best trial first."""
    bridged = bridge(result.curves)
    curves = mean_over_seeds(bridged)
    alpha = float(np.clip(20 / len(curves), 0.12, 0.4))
    lines = [np.column_stack([result.steps, curve]) for curve in curves]
    groups = group_colors(algorithms_of(result))
    colors = [groups[name] for name in result.values(ALGORITHM).tolist()] if groups else FAINT
    axes.add_collection(LineCollection(lines, colors=colors, alpha=alpha, linewidths=0.8, rasterized=True))
    _draw_single_points(axes, result.steps, curves, alpha)
    median = "median of the trials still running" if len(_rung_ends(result)) else "median of all"
    middle = _median(curves)
    axes.plot(
        result.steps, middle, color=DARK, linestyle=(0, (4, 2)), linewidth=1.8, label=median, marker=_marker(middle)
    )
    best = _best(result, groups, top)
    for place, color in reversed(best):
        _draw_best(axes, result, bridged, place, color, with_band=(place, color) in best[:_BANDS])
    for end in _rung_ends(result):
        axes.axvline(end, color=DARK, linestyle=":", linewidth=0.9, zorder=0.5)
    marks = diverged_entry(_draw_diverged(axes, result, curves)) + skipped_entry(_draw_skipped(axes, result, curves))
    title = f"Training: {plural(result.num_trials, 'trial')} × {plural(result.num_seeds, 'seed')}"
    curve = result.settings.get("curve", "episode_return")
    frame(axes, title, "environment steps of each agent", _CURVES.get(curve, curve))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, 1.02 * result.steps[-1])
    axes.margins(y=0.04)
    of_groups: Entries = [(line(color, linewidth=0.9), f"a trial of {name}") for name, color in groups.items()]
    return _entries(axes, result, [place for place, _ in best], of_groups) + marks


def _best(result: Result, groups: Mapping[str, str], top: int) -> list[tuple[int, str]]:
    """The ranks and colours of the trials that are highlighted: the best ones, or the best of each algorithm."""
    if not groups:
        return list(enumerate(COLORS[: min(top, result.num_trials)], start=1))
    names = result.values(ALGORITHM)[result.order].tolist()
    return sorted((names.index(name) + 1, color) for name, color in groups.items())


def _entries(axes: Axes, result: Result, ranks: list[int], of_groups: Entries) -> Entries:
    handles, labels = axes.get_legend_handles_labels()
    drawn = list(zip(handles, labels))
    trials = of_groups or [(line(FAINT, linewidth=0.9), "a trial, mean over its seeds")]
    entries = [*drawn[:0:-1], drawn[0], *trials]
    if ranks and result.num_seeds > 1:
        which = "95% interval over seeds" if result.num_seeds >= 5 else "range of the seeds"
        last = f" to #{ranks[:_BANDS][-1]}" if len(ranks) > 1 else ""
        entries.append((bar(DARK, 0.2), f"{which}, of #{ranks[0]}{last}"))
    if len(_rung_ends(result)):
        entries.append((line(DARK, linestyle=":", linewidth=0.9), "end of a rung"))
    return entries


def _draw_best(axes: Axes, result: Result, curves: np.ndarray, place: int, color: str, with_band: bool) -> None:
    trial = result.order[place - 1]
    seeds = curves[trial].T  # [S, C] -> [C, S]
    known = ~np.isnan(seeds).all(axis=1)
    low, high = np.full((2, len(seeds)), np.nan)
    if seeds.shape[1] >= 5:
        low, high = bootstrap_interval(jax.random.key(0), seeds, num_resamples=500).T
    elif known.any():
        low[known], high[known] = np.nanmin(seeds[known], axis=1), np.nanmax(seeds[known], axis=1)
    middle = interquartile_mean(seeds)
    height = np.where(np.isnan(middle), mean_over_seeds(curves[trial][None])[0], middle)
    if with_band and known.sum() > 1:
        axes.fill_between(result.steps, low, high, color=color, alpha=0.14, linewidth=0)
    elif with_band:
        axes.vlines(result.steps, low, high, color=color, alpha=0.4, linewidth=3)
    axes.plot(
        result.steps, height, color=color, linewidth=1.9, label=_label(result, place, trial), marker=_marker(height)
    )


def _draw_single_points(axes: Axes, steps: np.ndarray, curves: np.ndarray, alpha: float) -> None:
    """Dots for curves of one known point, of which a line shows nothing."""
    trial, point = np.nonzero(~np.isnan(curves) & ((~np.isnan(curves)).sum(axis=1) == 1)[:, None])
    axes.scatter(steps[point], curves[trial, point], s=12, color=FAINT, alpha=max(0.45, alpha), linewidths=0)


def _draw_diverged(axes: Axes, result: Result, curves: np.ndarray) -> int:
    """A cross at the last known point of each trial that diverged, at the lower edge if there is none; their number."""
    trials = np.flatnonzero(result.diverged.any(axis=1))
    last = np.array([np.max(np.flatnonzero(~np.isnan(curve)), initial=-1) for curve in curves[trials]], int)
    known = last >= 0
    crosses(axes, result.steps[last[known]], curves[trials[known], last[known]])
    crosses(axes, result.steps[np.zeros((~known).sum(), int)])
    return len(trials)


def _draw_skipped(axes: Axes, result: Result, curves: np.ndarray) -> int:
    """A triangle on the curve of each trial where it first skipped an update, or low if it has no value there.

    Returns:
      Their number.
    """
    skipped, after = by_trial(result.skips)
    trials = np.flatnonzero(skipped)
    height = np.array([np.interp(after[trial], result.steps, curves[trial]) for trial in trials])
    known = np.isfinite(height)
    triangles(axes, after[trials[known]], height[known])
    triangles(axes, after[trials[~known]])
    return len(trials)


def _marker(curve: np.ndarray) -> str | None:
    return "o" if (~np.isnan(curve)).sum() == 1 else None


def bridge(curves: np.ndarray) -> np.ndarray:
    """Interpolate over chunks in which no episode ended: NaNs between two known values lie on the line between these.

    NaNs before the first known value and after the last one stay. The points are taken as equally spaced.

    Args:
      curves: [..., C].

    Returns:
      [..., C] float64.

    Examples:
      >>> bridge(np.array([np.nan, 1.0, np.nan, 3.0])).tolist()
      [nan, 1.0, 2.0, 3.0]
    """
    bridged = np.array(curves, np.float64)
    points = np.arange(bridged.shape[-1])
    for curve in bridged.reshape(-1, len(points)):
        known = np.flatnonzero(~np.isnan(curve))
        if known.size:
            curve[:] = np.interp(points, known, curve[known], left=np.nan, right=np.nan)
    return bridged


def mean_over_seeds(curves: np.ndarray) -> np.ndarray:
    """[P, S, C] to [P, C]: the mean over the seeds that have a value, NaN if none has."""
    known = ~np.isnan(curves)
    total, number_known = np.sum(curves, axis=1, where=known), known.sum(axis=1)
    return np.where(number_known > 0, total / np.maximum(number_known, 1), np.nan)


def _rung_ends(result: Result) -> list[int]:
    """Environment steps at which trials were stopped; none without early stopping."""
    ends = {num_updates for bracket in result.settings["brackets"] for _, num_updates in bracket[:-1]}
    return sorted(end * result.update_steps for end in ends)


def _median(curves: np.ndarray) -> np.ndarray:
    """[P, C] to [C]: the median over the trials that have a value, NaN if none has."""
    columns = [column[~np.isnan(column)] for column in curves.T]
    return np.array([np.median(column) if column.size else np.nan for column in columns])


def _label(result: Result, place: int, trial: int) -> str:
    algorithm = result.values(ALGORITHM)[trial] if algorithms_of(result) else None
    own = {name: own_name(name, algorithm) for name in result.searched if name != ALGORITHM}
    values = [f"{words(name)} {number(result.values(key)[trial])}" for key, name in own.items() if name is not None]
    values = ([algorithm] if algorithm else []) + values[:2]
    stopped = result.num_updates[trial] < result.settings["num_updates"]
    ended = [f"to {count(result.trial_steps[trial])}"] if stopped else []
    return f"#{place}  " + ", ".join(values + ended)
