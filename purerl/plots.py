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

    Raises:
      ValueError: `parameter` was not searched, or nothing was.
    """
    names = _searched(result)
    if parameter is not None and parameter not in names:
        raise ValueError(f"parameter = {parameter!r} was not searched; {', '.join(names)} were")
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.3, 1))
    _draw_curves(left, result, top)
    _draw_parameter(right, result, parameter or names[0], top)
    _style(right, f"Greedy policy after {_steps(result.steps[-1])} steps", x=_words(parameter or names[0]), y="")
    _add_legend(figure, left, columns=3)
    return figure


def learning_curves(result: Result, top: int = 5) -> Figure:
    """Training return against environment steps: every trial faint, the median of all, the best ones in colour."""
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    axes = figure.subplots()
    _draw_curves(axes, result, top)
    _add_legend(figure, axes, columns=2)
    return figure


def ranking(result: Result, top: int = 5) -> Figure:
    """Return of every trial in the order of their ranks: interquartile mean, its 95% interval, and each seed."""
    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes = figure.subplots()
    places, order = np.arange(1, result.num_trials + 1), result.order
    iqm, (low, high) = result.iqm[order], result.interval[order].T
    width = float(np.clip(250 / len(places), 0.8, 8))
    axes.vlines(places, low, high, color=_FAINT, alpha=0.45, linewidth=width, label="95% interval")
    seeds = axes.plot(places, result.seed_returns[order], "_", color=_FAINT, markersize=min(width, 4) + 2)
    seeds[0].set_label("a seed")
    axes.plot(places, iqm, "o", color=_DARK, markersize=np.clip(width, 2.5, 5), label="interquartile mean")
    for color, place in zip(COLORS, places[:top]):
        axes.plot(place, iqm[place - 1], "o", color=color, markeredgecolor="white", markersize=8)
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    _style(axes, f"{result.num_trials} trials by rank", "rank", f"return of {result.returns.shape[2]} greedy episodes")
    return figure


def parameters(result: Result, top: int = 5) -> Figure:
    """A panel for each hyperparameter that was searched: its value in every trial against the trial's return."""
    names = _searched(result)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.9 * columns, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names):
        _draw_parameter(axes, result, name, top)
        _style(axes, "", _words(name), "return" if axes in panels[:, 0] else "")
    for axes in panels.flat[len(names) :]:
        axes.remove()
    return figure


def _draw_curves(axes: Axes, result: Result, top: int) -> None:
    curves = _mean_over_seeds(result.curves)
    best = result.order[: min(top, len(COLORS))]
    axes.plot(result.steps, curves.T, color=_FAINT, alpha=0.35, linewidth=0.8)
    axes.plot(result.steps, _median(curves), color=_DARK, linestyle=(0, (4, 2)), linewidth=1.8, label="median of all")
    for color, place, trial in reversed(list(zip(COLORS, range(1, len(best) + 1), best))):
        axes.plot(result.steps, curves[trial], color=color, linewidth=2, label=_label(result, place, trial))
    title = f"Training: {result.num_trials} trials × {result.num_seeds} seeds, one program"
    _style(axes, title, "environment steps of each agent", "return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, result.steps[-1])


def _add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Under the figure, where it hides nothing; the best trial, which is drawn last, comes first."""
    handles, labels = axes.get_legend_handles_labels()
    handles, labels = handles[:0:-1] + handles[:1], labels[:0:-1] + labels[:1]
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _draw_parameter(axes: Axes, result: Result, name: str, top: int) -> None:
    values, iqm = result.values(name), result.iqm
    seeds = result.seed_returns
    axes.vlines(values, seeds.min(axis=1), seeds.max(axis=1), color=_FAINT, alpha=0.5, linewidth=1)
    axes.plot(values, iqm, "o", color=_FAINT, markeredgecolor="white", markeredgewidth=0.5, markersize=5.5)
    for color, trial in zip(COLORS, result.order[:top]):
        axes.plot(values[trial], iqm[trial], "o", color=color, markeredgecolor="white", markersize=8)
    if getattr(result.space.get(name), "log", False):
        axes.set_xscale("log")


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
    values = [f"{_words(name)} {_number(result.values(name)[trial])}" for name in result.searched[:2]]
    return f"#{place}  " + ", ".join(values)


def _searched(result: Result) -> tuple[str, ...]:
    if not result.searched:
        raise ValueError("nothing was searched: all trials have the same hyperparameters")
    return result.searched


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float) -> str:
    """Two significant digits, as 0.012 or 3.4e-4."""
    return f"{value:.2g}" if value == 0 or abs(value) >= 1e-2 else f"{value:.1e}".replace("e-0", "e-")


def _steps(count: float) -> str:
    return EngFormatter(sep="").format_data(count)
