"""How far a result holds: on fresh seeds, and in other environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from purerl.plots.style import COLORS, DARK, FAINT, MAP, Entries, frame, label_points, legend, line, new_figure, words
from purerl.sweep import bootstrap_interval, interquartile_mean
from purerl.sweep.results.tabulated import fresh_columns

if TYPE_CHECKING:
    from purerl.sweep import Result


def optimism(result: Result) -> Figure:
    """Greedy return in the search against that on fresh seeds, for the trials that were trained again.

    Bars are 95% bootstrap intervals over the seeds. On the dotted line both returns are equal; below it the search was
    optimistic.

    Raises:
      ValueError: no trial was trained again, as `search(..., confirm=5)` does.
    """
    if not len(result.fresh_trials):
        raise ValueError("no trial was trained again on fresh seeds: search with, for example, confirm=5")
    table = fresh_columns(result)
    shown = result.fresh_trials[np.isfinite(table["fresh_return"][result.fresh_trials])]  # at least one healthy seed
    if not len(shown):
        raise ValueError("all trials that were trained again diverged")
    places = np.argsort(result.search_order)[shown]
    old, new = result.iqm[shown], table["fresh_return"][shown]
    old_ends = result.interval[shown]
    new_ends = np.stack([table["fresh_low"], table["fresh_high"]], axis=1)[shown]
    figure = new_figure(6.2, 5.4)
    axes = figure.subplots()
    axes.hlines(new, *old_ends.T, color=FAINT, linewidth=1.6, alpha=0.8)
    axes.vlines(old, *new_ends.T, color=FAINT, linewidth=1.6, alpha=0.8)
    every = np.concatenate([old, new, old_ends.reshape(-1), new_ends.reshape(-1)])  # intervals of one seed are NaN
    span = float(np.nanmin(every)), float(np.nanmax(every))
    margin = 0.06 * (span[1] - span[0]) or 0.5
    limits = span[0] - margin, span[1] + margin
    axes.plot(limits, limits, color=DARK, linestyle=":", linewidth=1)
    for place, x, y in sorted(zip(places.tolist(), old, new), reverse=True):
        axes.plot(
            x, y, "o", color=COLORS[place] if place < len(COLORS) else DARK, markeredgecolor="white", markersize=9
        )
    axes.set(xlim=limits, ylim=limits)
    label_points(axes, places + 1, old, new)
    first = np.argmin(places)
    title = f"The search's #{places[first] + 1}: {old[first]:.4g}, on fresh seeds {new[first]:.4g}"
    seeds = f"{result.fresh_returns.shape[1]} fresh seeds"
    frame(axes, title, f"greedy return in the search, {result.num_seeds} seeds", f"greedy return on {seeds}")
    entries: Entries = [
        (line(COLORS[0], marker="o", linestyle="", markersize=9), "a trial (#: rank in the search)"),
        (line(DARK, linestyle=":", linewidth=1), "equal; below it the search was optimistic"),
    ]
    if (~np.isnan(np.concatenate([old_ends, new_ends]))).any():
        entries.append((line(FAINT, linewidth=1.6), "95% intervals over the seeds"))
    legend(figure, entries, columns=2)
    return figure


def robustness(
    returns: np.ndarray, columns: Mapping[str, np.ndarray], labels: Sequence[str] = (), nominal: float | None = None
) -> Figure:
    """Greedy return over one parameter of the environment, a line per agent; over two, the mean over all agents.

    Args:
      returns: [A, Q, E] of `sweep.robustness`.
      columns: the parameters that vary, [Q] by name, as in `sweep.env_grid(...).columns`; one name or two.
      labels: of the agents; up to 5 are shown.
      nominal: the value that they were trained with, marked by a dotted line.

    Raises:
      ValueError: there are neither one nor two columns, or their lengths differ from Q.
    """
    if len(columns) not in (1, 2) or any(len(column) != returns.shape[1] for column in columns.values()):
        raise ValueError(f"columns must hold one or two names with {returns.shape[1]} values each")
    played = returns.mean(axis=2, dtype=np.float64)
    figure = new_figure(6.6, 4.4)
    axes = figure.subplots()
    if len(columns) == 2:
        _draw_table(figure, axes, played, columns)
        return figure
    ((name, values),) = columns.items()
    place = np.argsort(values)
    for i, agent in enumerate(played):
        shown = i < min(len(labels), len(COLORS))
        color, label = (COLORS[i], labels[i]) if shown else (FAINT, "other agents" if labels else "an agent")
        mark = "o" if len(values) == 1 else None
        axes.plot(
            values[place], agent[place], color=color, label=label, linewidth=1.6 if shown else 0.8, alpha=0.85,
            marker=mark,
        )  # fmt: skip
    if len(played) > 1:
        low, high = bootstrap_interval(jax.random.key(0), played.T).T
        axes.fill_between(
            values[place], low[place], high[place], color=DARK, alpha=0.12, linewidth=0, label="its 95% interval"
        )
        axes.plot(
            values[place], interquartile_mean(played.T)[place], color=DARK, linewidth=2, label="interquartile mean"
        )
    if nominal is not None:
        axes.axvline(nominal, color=DARK, linestyle=":", linewidth=1, label="value in training")
    frame(axes, f"{len(played)} agents, {returns.shape[2]} episodes each", words(name), "greedy return")
    if len(values) > 1:
        axes.set_xlim(values.min(), values.max())
    legend(figure, list(zip(*axes.get_legend_handles_labels())), columns=3)
    return figure


def _draw_table(figure: Figure, axes: Axes, played: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    (x, across), (y, up) = columns.items()
    xs, ys = np.unique(across), np.unique(up)
    table = np.full((len(ys), len(xs)), np.nan)
    table[np.searchsorted(ys, up), np.searchsorted(xs, across)] = interquartile_mean(played.T)
    shown = axes.imshow(table, origin="lower", aspect="auto", cmap=MAP)
    frame(axes, f"Interquartile mean of {len(played)} agents", words(x), words(y))
    axes.grid(False)
    for axis, values in ((axes.xaxis, xs), (axes.yaxis, ys)):
        chosen = np.unique(np.linspace(0, len(values) - 1, min(7, len(values))).round().astype(int))
        axis.set_ticks(chosen, [f"{value:.3g}" for value in values[chosen]])
    figure.colorbar(shown, ax=axes, label="greedy return").outline.set_visible(False)  # type: ignore[operator]
