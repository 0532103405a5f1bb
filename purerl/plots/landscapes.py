"""The greedy return over one or two of the names that were searched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from purerl.plots.scales import Scale, dress, scale_of
from purerl.plots.style import (
    COLORS,
    DARK,
    DIVERGED,
    FAINT,
    MAP,
    Entries,
    bar,
    count,
    crosses,
    diverged_entry,
    frame,
    legend,
    line,
    new_figure,
    words,
)
from purerl.sweep.results.comparison import Comparison
from purerl.sweep.trials.algorithms import active

if TYPE_CHECKING:
    from purerl.sweep import Result

Style: TypeAlias = dict[str, Any]
"""Keywords of matplotlib."""
_GRID = 60
_TREND = 12  # trials below which there is nothing to smooth


def parameters(result: Result, top: int = 5) -> Figure:
    """A panel for each name that was searched: its value against the greedy return, of the trials that can be compared.

    With early stopping that is the rung that most trials reached, which the title names. The line is the median of
    nearby trials, the band the middle half of them; a bar behind a point is the range of its seeds. The `top` trials of
    the final ranking are in colour, and crosses mark trials that diverged.

    Raises:
      ValueError: nothing was searched.
    """
    names = _searched(result)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(max(3.9 * columns, 6.5), 3.4 * rows + 0.7)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    entries: Entries = []
    for axes, name in zip(panels.flat, names):
        entries += draw_parameter(axes, result, name, top)
        axes.set_title("", loc="left")
        axes.set_ylabel("greedy return" if axes in panels[:, 0] else "")
    for axes in panels.flat[len(names) :]:
        axes.remove()
    figure.suptitle(_title(result, result.comparable()), fontsize=11, fontweight="bold", color=DARK, x=0.01, ha="left")
    legend(figure, entries, columns=2 if columns == 1 else 4)
    return figure


def landscape(result: Result, x: str, y: str | None = None, top: int = 5) -> Figure:
    """The greedy return over one name that was searched, or over two as a smoothed surface under the trials.

    The trials are those that can be compared. The surface is a mean weighted by exp(-d² / 2 h²), d the distance on the
    axes as drawn, and ends where no trials are near; categories are not smoothed. Crosses are trials that diverged.

    Args:
      result: a finished search.
      x, y: the names; without `y` the picture is a panel of `parameters`.
      top: number of the best trials of the final ranking that are labelled with their rank, or coloured.

    Raises:
      ValueError: a name was not searched.
    """
    figure = new_figure(6.6, 5.2)
    axes = figure.subplots()
    if y is None:
        legend(figure, draw_parameter(axes, result, x, top), columns=2)
        return figure
    for name in (x, y):
        _check(result, name)
    compared = result.comparable()
    across, up = scale_of(result, x), scale_of(result, y)
    mine = ~np.isnan(across.at + up.at)  # [P], trials in which both were searched
    compared = compared._replace(
        trials=compared.trials[mine[compared.trials]], returns=compared.returns[mine[compared.trials]]
    )
    known = compared.iqm[~np.isnan(compared.iqm)]
    colors: Style = {"cmap": MAP, "vmin": known.min(initial=np.inf), "vmax": known.max(initial=-np.inf)}
    colors |= {} if known.size else {"vmin": 0.0, "vmax": 1.0}
    _draw_surface(axes, compared, across, up, colors)
    points = _draw_points(axes, compared, across, up, colors)
    for place, trial in enumerate(result.order[:top], start=1):
        if not mine[trial]:
            continue
        axes.annotate(
            f"#{place}", (across.spread()[trial], up.spread()[trial]), xytext=(5, 4), textcoords="offset points",
            fontsize=8.5, color=DARK, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    frame(axes, _title(result, compared), words(x), words(y))
    axes.grid(False)
    dress(axes.xaxis, across)
    dress(axes.yaxis, up)
    figure.colorbar(points, ax=axes, label="greedy return").outline.set_visible(False)  # type: ignore[operator]
    entries: Entries = [(line(DARK, marker="o", linestyle=""), "a trial (#: rank in the final ranking)")]
    if len(known) >= _TREND:
        entries.append((bar(FAINT, 0.4), "background: smoothed return"))
    legend(figure, entries + diverged_entry(len(compared.iqm) - len(known)), columns=2)
    return figure


def draw_parameter(axes: Axes, result: Result, name: str, top: int) -> Entries:
    """Draw one name against the greedy return into given axes, and return the entries of its legend.

    Only the trials in which it was searched are drawn: those of its algorithm, and those that meet its condition.

    Raises:
      ValueError: it was not searched.
    """
    _check(result, name)
    compared = result.comparable()
    scale = scale_of(result, name)
    mine = (active(result.trials.columns, name) & ~np.isnan(scale.at))[compared.trials]
    compared = compared._replace(trials=compared.trials[mine], returns=compared.returns[mine])
    iqm, seeds = compared.iqm, compared.returns.mean(axis=2)
    at, size = scale.spread()[compared.trials], float(np.clip(60 / max(len(iqm), 1) ** 0.5, 2.5, 6))
    alpha = float(np.clip(60 / max(len(iqm), 1), 0.25, 1))
    axes.vlines(at, seeds.min(axis=1), seeds.max(axis=1), color=FAINT, alpha=0.5 * alpha, linewidth=1)
    axes.plot(at, iqm, "o", color=FAINT, markeredgecolor="white", markeredgewidth=0.4, markersize=size, alpha=alpha)
    entries: Entries = [(line(FAINT, marker="o", linestyle=""), "a trial, mean over its seeds")]
    if result.num_seeds > 1:
        entries.append((line(FAINT, linewidth=1), "range of the seeds"))
    entries += _draw_trend(axes, scale, compared.trials, iqm)
    places = dict(zip(compared.trials.tolist(), range(len(iqm))))
    best = [(color, places[trial]) for color, trial in zip(COLORS, result.order[:top].tolist()) if trial in places]
    for color, place in reversed(best):
        axes.plot(at[place], iqm[place], "o", color=color, markeredgecolor="white", markersize=8, zorder=4)
    if best:
        label = f"the best {len(best)} of the final ranking" if len(best) > 1 else "the best of the final ranking"
        entries.append((line(COLORS[0], marker="o", linestyle="", markersize=8), label))
    crosses(axes, at[np.isnan(iqm)])
    frame(axes, _title(result, compared), words(name), "greedy return")
    dress(axes.xaxis, scale)
    return entries + diverged_entry(int(np.isnan(iqm).sum()))


def _draw_trend(axes: Axes, scale: Scale, trials: np.ndarray, iqm: np.ndarray) -> Entries:
    """The median and the middle half of nearby trials; empty if there are too few."""
    known = ~np.isnan(iqm)
    trials, iqm = trials[known], iqm[known]
    if len(trials) < _TREND:
        return []
    inside = scale.unit(scale.at[trials])
    at = scale.positions(np.linspace(inside.min(), inside.max(), _GRID))
    at = np.unique(scale.at[trials]) if scale.categories else at
    low, middle, high = (_weighted_quantile(iqm, _closeness(scale, trials, at), q) for q in (0.25, 0.5, 0.75))
    if scale.categories:
        axes.vlines(at - 0.3, low, high, color=DARK, linewidth=2.2, alpha=0.55)
        axes.plot(at - 0.3, middle, "D", color=DARK, markersize=5)
        median = line(DARK, marker="D", markersize=5, linewidth=2.2)
        return [(median, "median and middle half of a category")]
    axes.fill_between(at, low, high, color=DARK, alpha=0.1, linewidth=0)
    axes.plot(at, middle, color=DARK, linewidth=1.5)
    return [(line(DARK, linewidth=1.5), "median of nearby trials"), (bar(DARK, 0.15), "middle half of them")]


def _draw_surface(axes: Axes, compared: Comparison, across: Scale, up: Scale, colors: Style) -> None:
    known = ~np.isnan(compared.iqm)
    trials, height = compared.trials[known], compared.iqm[known]
    if len(trials) < _TREND:
        return
    edges = [scale.positions(np.linspace(0, 1, _cells(scale) + 1)) for scale in (across, up)]
    middles = [scale.positions((np.arange(_cells(scale)) + 0.5) / _cells(scale)) for scale in (across, up)]
    x, y = (_closeness(scale, trials, middle) for scale, middle in zip((across, up), middles))  # [X, K], [Y, K]
    weights = np.einsum("xk,yk->yxk", x, y)
    total = weights.sum(axis=-1)
    surface = np.where(total > 0.2, weights @ height / np.maximum(total, 1e-12), np.nan)
    axes.pcolormesh(*edges, surface, alpha=0.55, rasterized=True, linewidth=0, **colors)


def _draw_points(axes: Axes, compared: Comparison, across: Scale, up: Scale, colors: Style) -> PathCollection:
    known = ~np.isnan(compared.iqm)
    trials, diverged = compared.trials[known], compared.trials[~known]
    x, y = across.spread(), up.spread()
    axes.plot(x[diverged], y[diverged], "x", color=DIVERGED, markersize=6, zorder=3)
    height = compared.iqm[known]
    return axes.scatter(x[trials], y[trials], c=height, s=26, edgecolors="white", linewidths=0.6, zorder=3, **colors)


def _cells(scale: Scale) -> int:
    return len(scale.categories) or _GRID


def _closeness(scale: Scale, trials: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[G, K] weights exp(-d² / 2 h²), h = 0.25 K^(-1/5); of categories 1 for the same one and else 0."""
    if scale.categories:
        return (np.rint(at)[:, None] == scale.at[trials]).astype(float)
    distance = scale.unit(at)[:, None] - scale.unit(scale.at[trials])
    return np.exp(-0.5 * (distance / (0.25 * len(trials) ** -0.2)) ** 2)


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float) -> np.ndarray:
    """[K] values with weights [G, K] to [G]: the smallest value with a share q of the weight at or below it."""
    order = np.argsort(values)
    share = np.cumsum(weights[:, order], axis=1)
    return values[order][np.argmax(share >= q * share[:, -1:], axis=1)]


def _title(result: Result, compared: Comparison) -> str:
    """The trials that a panel shows; with early stopping, the rung after which they were evaluated."""
    ends = sorted({updates * result.update_steps for bracket in result.settings["brackets"] for _, updates in bracket})
    if len(ends) == 1:
        return f"Greedy policy after {count(compared.steps)} steps"
    rung = f"rung {ends.index(compared.steps) + 1} of {len(ends)}"
    return f"{len(compared.trials):,} trials after {count(compared.steps)} steps, {rung}"


def _check(result: Result, name: str) -> None:
    if name not in _searched(result):
        raise ValueError(f"parameter = {name!r} was not searched; {', '.join(result.searched)} were")


def _searched(result: Result) -> tuple[str, ...]:
    if not result.searched:
        raise ValueError("nothing was searched: all trials have the same hyperparameters")
    return result.searched
