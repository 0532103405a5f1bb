"""The return over one or two of the names that were searched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from purerl.plots.scales import Scale, dress, scale_of
from purerl.plots.style import COLORS, DARK, FAINT, MAP, count, frame, new_figure, words
from purerl.sweep.results.comparison import Comparison

if TYPE_CHECKING:
    from purerl.sweep import Result

_GRID = 60


def parameters(result: Result, top: int = 5) -> Figure:
    """A panel for each name that was searched: its value against the return, of the trials that can be compared.

    The line is the median near a value, the band the middle half; a bar behind a point is the range of its seeds. The
    `top` trials of the final ranking are in colour.

    Raises:
      ValueError: nothing was searched.
    """
    names = _searched(result)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(max(3.9 * columns, 5.5), 3.4 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names):
        draw_parameter(axes, result, name, top)
        axes.set_title("", loc="left")
        axes.set_ylabel("return" if axes in panels[:, 0] else "")
    for axes in panels.flat[len(names) :]:
        axes.remove()
    figure.suptitle(_title(result, result.comparable()), fontsize=11, fontweight="bold", color=DARK, x=0.01, ha="left")
    return figure


def landscape(result: Result, x: str, y: str | None = None, top: int = 5) -> Figure:
    """The return over one name that was searched, or over two as a smoothed surface under the trials.

    Of the trials that can be compared. The surface is a mean weighted by exp(-d² / 2 h²), d the distance on the axes as
    drawn, and ends where there are no trials near; categories are not smoothed over. Crosses are trials that diverged.

    Args:
      result: a finished search.
      x, y: the names; without `y` the picture is a panel of `parameters`.
      top: how many of the best trials of the final ranking get their rank beside them, or their colour.

    Raises:
      ValueError: a name was not searched.
    """
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    if y is None:
        draw_parameter(axes, result, x, top)
        return figure
    for name in (x, y):
        _check(result, name)
    compared = result.comparable()
    across, up = scale_of(result, x), scale_of(result, y)
    colors: dict[str, Any] = {"cmap": MAP, "vmin": np.nanmin(compared.iqm), "vmax": np.nanmax(compared.iqm)}
    _draw_surface(axes, compared, across, up, colors)
    points = _draw_points(axes, compared, across, up, colors)
    for place, trial in enumerate(result.order[:top], start=1):
        axes.annotate(
            f"#{place}", (across.spread()[trial], up.spread()[trial]), xytext=(5, 4), textcoords="offset points",
            fontsize=8.5, color=DARK, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    frame(axes, _title(result, compared), words(x), words(y))
    axes.grid(False)
    dress(axes.xaxis, across)
    dress(axes.yaxis, up)
    figure.colorbar(points, ax=axes, label="return").outline.set_visible(False)  # type: ignore[operator]
    return figure


def draw_parameter(axes: Axes, result: Result, name: str, top: int) -> None:
    """One name against the return, into axes of one's own.

    Raises:
      ValueError: it was not searched.
    """
    _check(result, name)
    compared = result.comparable()
    scale, iqm, seeds = scale_of(result, name), compared.iqm, compared.returns.mean(axis=2)
    at, size = scale.spread()[compared.trials], float(np.clip(60 / len(iqm) ** 0.5, 2.5, 6))
    alpha = float(np.clip(60 / len(iqm), 0.25, 1))
    axes.vlines(at, seeds.min(axis=1), seeds.max(axis=1), color=FAINT, alpha=0.5 * alpha, linewidth=1)
    axes.plot(at, iqm, "o", color=FAINT, markeredgecolor="white", markeredgewidth=0.4, markersize=size, alpha=alpha)
    _draw_trend(axes, scale, compared.trials, iqm)
    places = dict(zip(compared.trials.tolist(), range(len(iqm))))
    best = [(color, places[trial]) for color, trial in zip(COLORS, result.order[:top].tolist()) if trial in places]
    for color, place in reversed(best):
        axes.plot(at[place], iqm[place], "o", color=color, markeredgecolor="white", markersize=8, zorder=4)
    frame(axes, _title(result, compared), words(name), "return")
    dress(axes.xaxis, scale)


def _draw_trend(axes: Axes, scale: Scale, trials: np.ndarray, iqm: np.ndarray) -> None:
    """The middle and the middle half of what is near; with fewer than 12 trials there is nothing to smooth."""
    known = ~np.isnan(iqm)
    trials, iqm = trials[known], iqm[known]
    if len(trials) < 12:
        return
    inside = scale.unit(scale.at[trials])
    at = scale.positions(np.linspace(inside.min(), inside.max(), _GRID))
    at = np.unique(scale.at[trials]) if scale.categories else at
    low, middle, high = (_weighted_quantile(iqm, _closeness(scale, trials, at), q) for q in (0.25, 0.5, 0.75))
    if scale.categories:
        axes.vlines(at - 0.3, low, high, color=DARK, linewidth=2.2, alpha=0.55)
        axes.plot(at - 0.3, middle, "D", color=DARK, markersize=5)
        return
    axes.fill_between(at, low, high, color=DARK, alpha=0.1, linewidth=0)
    axes.plot(at, middle, color=DARK, linewidth=1.5)


def _draw_surface(axes: Axes, compared: Comparison, across: Scale, up: Scale, colors: dict[str, Any]) -> None:
    known = ~np.isnan(compared.iqm)
    trials, height = compared.trials[known], compared.iqm[known]
    if len(trials) < 12:
        return
    edges = [scale.positions(np.linspace(0, 1, _cells(scale) + 1)) for scale in (across, up)]
    middles = [scale.positions((np.arange(_cells(scale)) + 0.5) / _cells(scale)) for scale in (across, up)]
    x, y = (_closeness(scale, trials, middle) for scale, middle in zip((across, up), middles))
    weights = np.einsum("xk,yk->yxk", x, y)
    total = weights.sum(axis=-1)
    surface = np.where(total > 0.2, weights @ height / np.maximum(total, 1e-12), np.nan)
    axes.pcolormesh(*edges, surface, alpha=0.55, rasterized=True, linewidth=0, **colors)


def _draw_points(axes: Axes, compared: Comparison, across: Scale, up: Scale, colors: dict[str, Any]) -> Any:
    known = ~np.isnan(compared.iqm)
    trials, diverged = compared.trials[known], compared.trials[~known]
    x, y = across.spread(), up.spread()
    axes.plot(x[diverged], y[diverged], "x", color=FAINT, markersize=5)
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
    of = "" if len(compared.trials) == result.num_trials else f"{len(compared.trials):,} trials, "
    return f"{of}greedy policy after {count(compared.steps)} steps"


def _check(result: Result, name: str) -> None:
    if name not in _searched(result):
        raise ValueError(f"parameter = {name!r} was not searched; {', '.join(result.searched)} were")


def _searched(result: Result) -> tuple[str, ...]:
    if not result.searched:
        raise ValueError("nothing was searched: all trials have the same hyperparameters")
    return result.searched
