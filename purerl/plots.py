"""Pictures of a search, as matplotlib figures that belong to nobody else: no pyplot, no global state, no window.

Colours are those of Okabe and Ito, which people who see colours differently can tell apart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

if TYPE_CHECKING:
    from purerl.sweep import Result

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
_FAINT, _DARK, _GRID = "#9AA5B1", "#1F2933", "#E4E7EB"


def sweep_figure(result: Result, parameter: str | None = None, top: int = 5) -> Figure:
    """The whole search at a glance: learning curves of all trials, and one hyperparameter against the return.

    Args:
      result: a finished search.
      parameter: which hyperparameter; None takes the first that was searched.
      top: how many of the best trials to highlight, at most 5; each has one colour in both panels.
    """
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    _draw_curves(left, result, top)
    _draw_parameter(right, result, parameter or result.searched[0], top)
    right.set_ylabel("")
    right.set_title("Final greedy evaluation", loc="left")
    return figure


def learning_curves(result: Result, top: int = 5) -> Figure:
    """Training return against environment steps: every trial faint, the median of all, the best ones in colour."""
    figure = Figure(figsize=(7, 4.3), layout="constrained")
    _draw_curves(figure.subplots(), result, top)
    return figure


def ranking(result: Result, top: int = 5) -> Figure:
    """Return of every trial in the order of their ranks: interquartile mean, its 95% interval, and each seed."""
    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes = figure.subplots()
    places, order = np.arange(1, result.num_trials + 1), result.order
    iqm, interval = result.iqm[order], result.interval[order]
    axes.vlines(places, interval[:, 0], interval[:, 1], color=_FAINT, linewidth=max(1.0, 120 / len(places) ** 0.9))
    for seed in range(result.num_seeds):
        axes.plot(places, result.seed_returns[order, seed], ".", color=_FAINT, markersize=3)
    axes.plot(places, iqm, "o", color=_DARK, markersize=3.5, label="interquartile mean")
    _style(axes, "Trials by rank", "rank", f"return of {result.returns.shape[2]} greedy episodes")
    return figure


def parameters(result: Result, top: int = 5) -> Figure:
    """A panel for each hyperparameter that was searched: its value in every trial against the trial's return."""
    names = result.searched
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.9 * columns, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes, name in zip(panels, names):
        _draw_parameter(axes, result, name, top)
    for axes in list(panels)[len(names) :]:
        axes.set_visible(False)
    return figure


def _draw_curves(axes: Axes, result: Result, top: int) -> None:
    curves = _mean_over_seeds(result.curves)
    best = result.order[: min(top, len(COLORS))]
    axes.plot(result.steps, curves.T, color=_FAINT, alpha=0.35, linewidth=0.8)
    axes.plot(result.steps, _median(curves), color=_DARK, linestyle=(0, (4, 2)), linewidth=1.8, label="median of all")
    for color, place, trial in reversed(list(zip(COLORS, range(1, len(best) + 1), best))):
        axes.plot(result.steps, curves[trial], color=color, linewidth=2, label=_label(result, place, trial))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:0:-1] + handles[:1], labels[:0:-1] + labels[:1], frameon=False, fontsize=8.5)
    title = f"{result.num_trials} trials × {result.num_seeds} seeds"
    _style(axes, title, "environment steps of each agent", "return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, result.steps[-1])


def _draw_parameter(axes: Axes, result: Result, name: str, top: int) -> None:
    values, iqm = getattr(result.hparams, name), result.iqm
    seeds = result.seed_returns
    axes.vlines(values, seeds.min(axis=1), seeds.max(axis=1), color=_FAINT, alpha=0.5, linewidth=1)
    axes.plot(values, iqm, "o", color=_FAINT, markeredgecolor="white", markeredgewidth=0.5, markersize=5.5)
    for color, trial in zip(COLORS, result.order[:top]):
        axes.plot(values[trial], iqm[trial], "o", color=color, markeredgecolor="white", markersize=8)
    if getattr(result.space.get(name), "log", False):
        axes.set_xscale("log")
    _style(axes, "", name.replace("_", " "), "return")


def _mean_over_seeds(curves: np.ndarray) -> np.ndarray:
    """[P, S, C] to [P, C]: the mean over the seeds that have a value, NaN where none has."""
    known = ~np.isnan(curves)
    total, count = np.sum(curves, axis=1, where=known), known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _median(curves: np.ndarray) -> np.ndarray:
    """[P, C] to [C]: the median over the trials that have a value, NaN where none has."""
    columns = [column[~np.isnan(column)] for column in curves.T]
    return np.array([np.median(column) if column.size else np.nan for column in columns])


def _style(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_DARK, fontweight="bold")
    axes.set_xlabel(x, color=_DARK)
    axes.set_ylabel(y, color=_DARK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_DARK, labelsize=9)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _label(result: Result, place: int, trial: int) -> str:
    values = [f"{name.replace('_', ' ')} {getattr(result.hparams, name)[trial]:.2g}" for name in result.searched[:2]]
    return f"#{place}  " + ", ".join(values)
