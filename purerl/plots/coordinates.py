"""All names that were searched side by side, one line per trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure

from purerl.plots.scales import Scale, dress, scale_of
from purerl.plots.style import COLORS, DARK, DIVERGED, MAP, count, legend, line, new_figure, words
from purerl.text import plural

if TYPE_CHECKING:
    from purerl.sweep import Result


def parallel_coordinates(result: Result, best: int = 1) -> Figure:
    """Every trial as a line through its values, coloured by its greedy return; the best lie on top.

    The trials are those that can be compared, see `Result.comparable`. Axes of logarithmic spaces are logarithmic;
    choices are stacked. A line passes the foot of an axis that was not searched in its trial. Trials that diverged are
    dashed; the `best` of the final ranking are drawn thick.

    Raises:
      ValueError: nothing was searched.
    """
    if not result.searched:
        raise ValueError("nothing was searched: all trials have the same hyperparameters")
    compared = result.comparable()
    height = compared.iqm
    low, high = (np.nanmin(height), np.nanmax(height)) if (~np.isnan(height)).any() else (0.0, 1.0)
    scales = [scale_of(result, name) for name in result.searched]
    returns = Scale(
        "greedy return", _of_all(result, compared.trials, height), False, (), _limits(float(low), float(high))
    )
    columns = [*scales, returns]
    figure = new_figure(max(6.5, 1.75 * len(columns)), 4.4)
    host = figure.subplots()
    lines = np.nan_to_num(np.stack([scale.unit(scale.spread()) for scale in columns], axis=1))
    _draw_lines(host, lines, compared.trials, height, Normalize(low, high))
    for place, trial in reversed(list(enumerate(result.order[: min(best, len(COLORS))]))):
        host.plot(lines[trial], color=COLORS[place], linewidth=2.6, zorder=6, label=f"#{place + 1}")
    _dress_host(host, columns)
    entries = [*zip(*host.get_legend_handles_labels())][::-1]
    entries.append((line(to_hex(colormaps[MAP](0.6)), linewidth=1.1), "a trial, coloured by its greedy return"))
    diverged = int(np.isnan(height).sum())
    if diverged:
        entries.append((line(DIVERGED, linewidth=1.1, linestyle="--"), f"diverged ({diverged:,})"))
    legend(figure, entries)
    for i, scale in enumerate(columns):
        _add_axis(host, i, len(columns), scale)
    host.tick_params(axis="y", which="both", left=False, labelleft=False)  # a twin shows those of the host again
    title = f"{plural(len(compared.trials), 'trial')} after {count(compared.steps)} steps each"
    figure.suptitle(title, fontsize=11, fontweight="bold", color=DARK, x=0.01, ha="left")
    return figure


def _draw_lines(host: Axes, lines: np.ndarray, trials: np.ndarray, height: np.ndarray, norm: Normalize) -> None:
    """All lines as two collections, which take a tenth of the time of separate artists."""
    alpha = float(np.clip(40 / len(trials), 0.15, 0.75))
    paths = np.stack(np.broadcast_arrays(np.arange(lines.shape[1]), lines[trials]), axis=2)
    order = np.argsort(height)  # NaN last
    known, diverged = np.split(order, [(~np.isnan(height)).sum()])
    kinds = ((diverged, DIVERGED, "--"), (known, colormaps[MAP](norm(height[known])), "-"))
    for place, color, style in kinds:
        some = LineCollection(list(paths[place]), colors=color, alpha=alpha, linewidths=1.1, linestyles=style)
        some.set_rasterized(True)
        host.add_collection(some, autolim=False)


def _dress_host(host: Axes, columns: list[Scale]) -> None:
    host.set_xlim(0, len(columns) - 1)
    host.set_ylim(0, 1)
    host.set_xticks(range(len(columns)), [_broken(words(scale.name)) for scale in columns], color=DARK, fontsize=9.5)
    host.tick_params(axis="x", length=0, pad=8)
    host.spines[:].set_visible(False)


def _add_axis(host: Axes, i: int, number: int, scale: Scale) -> None:
    axes = host.twinx()
    dress(axes.yaxis, scale)
    axes.spines[["top", "bottom", "left"]].set_visible(False)
    axes.spines["right"].set_position(("axes", i / (number - 1)))
    axes.spines["right"].set_color(DARK)
    axes.tick_params(axis="y", which="both", colors=DARK, labelsize=8)
    axes.set_zorder(host.get_zorder() + 1)
    for label in axes.get_yticklabels(which="both"):
        label.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})


def _of_all(result: Result, trials: np.ndarray, height: np.ndarray) -> np.ndarray:
    at = np.full(result.num_trials, np.nan)
    at[trials] = height
    return at


def _limits(low: float, high: float) -> tuple[float, float]:
    margin = 0.03 * (high - low) or 0.5
    return low - margin, high + margin


def _broken(text: str) -> str:
    """One word per line, since axes are close to each other."""
    return text.replace(" ", "\n")
