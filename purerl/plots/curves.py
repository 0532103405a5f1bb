"""Learning curves of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from purerl.plots.landscapes import draw_parameter
from purerl.plots.style import COLORS, DARK, FAINT, count, frame, new_figure, number, words
from purerl.sweep import bootstrap_interval, interquartile_mean

if TYPE_CHECKING:
    from purerl.sweep import Result

_BANDS = 3  # more of them hide each other


def sweep_figure(result: Result, parameter: str | None = None, top: int = 5) -> Figure:
    """The whole search at a glance: learning curves of all trials, and one hyperparameter against the return.

    Args:
      result: a finished search.
      parameter: which name; None takes the first that was searched.
      top: how many of the best trials to highlight, at most 5; each has one colour in both panels.

    Raises:
      ValueError: `parameter` was not searched, or nothing was.
    """
    figure = new_figure(11, 4.8)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.3, 1))
    _draw_curves(left, result, top)
    draw_parameter(right, result, parameter or next(iter(result.searched), ""), top)
    right.set_ylabel("")
    _add_legend(figure, left, columns=3)
    return figure


def learning_curves(result: Result, top: int = 5) -> Figure:
    """Training return against environment steps: every trial faint, the median, the best ones in colour with a band.

    A trial that was stopped ends where it was; dotted lines mark the ends of rungs. The line of a highlighted trial is
    the interquartile mean over its seeds. The bands, of the first three, are the range of their seeds, or from five
    seeds on the 95% bootstrap interval.

    Args:
      result: a finished search.
      top: how many of the best trials to highlight, at most 5.
    """
    figure = new_figure(7.5, 4.8)
    axes = figure.subplots()
    _draw_curves(axes, result, top)
    _add_legend(figure, axes, columns=2)
    return figure


def _draw_curves(axes: Axes, result: Result, top: int) -> None:
    bridged = bridge(result.curves)
    curves = mean_over_seeds(bridged)
    lines = [np.column_stack([result.steps, curve]) for curve in curves]
    alpha = float(np.clip(20 / len(lines), 0.12, 0.4))
    axes.add_collection(LineCollection(lines, colors=FAINT, alpha=alpha, linewidths=0.8, rasterized=True))
    label = "median of those that run" if len(_rung_ends(result)) else "median of all"
    axes.plot(result.steps, _median(curves), color=DARK, linestyle=(0, (4, 2)), linewidth=1.8, label=label)
    for place, color in reversed(list(enumerate(COLORS[: min(top, result.num_trials)], start=1))):
        _draw_best(axes, result, bridged, place, color)
    for end in _rung_ends(result):
        axes.axvline(end, color=DARK, linestyle=":", linewidth=0.9, zorder=0.5)
    seeds = f"{result.num_seeds} seed{'s' if result.num_seeds > 1 else ''}"
    frame(axes, f"Training: {result.num_trials:,} trials × {seeds}", "environment steps of each agent", "return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, result.steps[-1])
    axes.margins(y=0.04)


def _draw_best(axes: Axes, result: Result, curves: np.ndarray, place: int, color: str) -> None:
    trial = result.order[place - 1]
    seeds = curves[trial].T
    known = ~np.isnan(seeds).all(axis=1)
    low, high = np.full((2, len(seeds)), np.nan)
    if seeds.shape[1] >= 5:
        low, high = bootstrap_interval(jax.random.key(0), seeds, num_resamples=500).T
    elif known.any():
        low[known], high[known] = np.nanmin(seeds[known], axis=1), np.nanmax(seeds[known], axis=1)
    middle = interquartile_mean(seeds)
    line = np.where(np.isnan(middle), mean_over_seeds(curves[trial][None])[0], middle)
    if place <= _BANDS:
        axes.fill_between(result.steps, low, high, color=color, alpha=0.14, linewidth=0)
    axes.plot(result.steps, line, color=color, linewidth=1.9, label=_label(result, place, trial))


def bridge(curves: np.ndarray) -> np.ndarray:
    """[..., C] float64: NaNs between two known values (no episode ended there) on the straight line between these.

    What is before the first known value or after the last stays NaN. The points are equally far from each other.
    """
    bridged = np.array(curves, np.float64)
    points = np.arange(bridged.shape[-1])
    for curve in bridged.reshape(-1, len(points)):
        known = np.flatnonzero(~np.isnan(curve))
        if known.size:
            curve[:] = np.interp(points, known, curve[known], left=np.nan, right=np.nan)
    return bridged


def mean_over_seeds(curves: np.ndarray) -> np.ndarray:
    """[P, S, C] to [P, C]: the mean over the seeds that have a value, NaN where none has."""
    known = ~np.isnan(curves)
    total, number_known = np.sum(curves, axis=1, where=known), known.sum(axis=1)
    return np.where(number_known > 0, total / np.maximum(number_known, 1), np.nan)


def _rung_ends(result: Result) -> list[int]:
    """Environment steps at which trials were stopped; none without early stopping."""
    ends = {num_updates for bracket in result.settings["brackets"] for _, num_updates in bracket[:-1]}
    return sorted(end * result.update_steps for end in ends)


def _median(curves: np.ndarray) -> np.ndarray:
    """[P, C] to [C]: the median over the trials that have a value, NaN where none has."""
    columns = [column[~np.isnan(column)] for column in curves.T]
    return np.array([np.median(column) if column.size else np.nan for column in columns])


def _add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Under the figure, where it hides nothing; the best trial, which is drawn last, comes first."""
    handles: list[Any]
    handles, labels = axes.get_legend_handles_labels()
    handles, labels = handles[:0:-1] + handles[:1], labels[:0:-1] + labels[:1]
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _label(result: Result, place: int, trial: int) -> str:
    values = [f"{words(name)} {number(result.values(name)[trial])}" for name in result.searched[:2]]
    stopped = result.num_updates[trial] < result.settings["num_updates"]
    ended = [f"to {count(result.trial_steps[trial])}"] if stopped else []
    return f"#{place}  " + ", ".join(values + ended)
