"""Several objectives: the Pareto front among all trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from purerl.plots.style import COLORS, FAINT, Entries, frame, label_points, legend, line, new_figure, words
from purerl.sweep import front

if TYPE_CHECKING:
    from purerl.sweep import Result
    from purerl.sweep.results.objectives import Objective
    from purerl.sweep.results.pareto import Front


def pareto(result: Result, goals: Sequence[Objective | str] = ()) -> Figure:
    """The first objective over each of the others: all trials, and in colour those on the Pareto front.

    With two objectives a line of steps bounds what was reached; the numbers are ranks. Trials without a finite value
    are left out.

    Args:
      result: a finished search.
      goals: as in `sweep.front`.

    Raises:
      TypeError, ValueError: as in `sweep.front`; or there is one objective only.
    """
    found = front(result, goals)
    if len(found.names) < 2:
        raise ValueError(f"{found.names[0]} alone has no Pareto front: name another objective")
    count = len(found.names) - 1
    figure = new_figure(5.6 * min(count, 3) + 0.6, 4.6)
    panels: list[Axes] = np.ravel(figure.subplots(1, count, sharey=True)).tolist()
    ranks = np.argsort(result.order) + 1
    for place, axes in enumerate(panels, start=1):
        _panel(axes, found, place, ranks)
    hidden = int((~np.isfinite(found.values).all(axis=1)).sum())
    entries: Entries = [
        (line(COLORS[1], marker="o", linestyle="", markersize=8), "on the front (#: rank)"),
        (line(FAINT, marker="o", linestyle="", markersize=4), "beaten by another trial"),
    ]
    if count == 1:
        entries.append((line(COLORS[1], linewidth=1.4), "the best for this much or less"))
    if hidden:
        entries.append((line("none", linestyle=""), f"{hidden} trials without a finite value are not shown"))
    legend(figure, entries, columns=2)
    return figure


def _panel(axes: Axes, found: Front, place: int, ranks: np.ndarray) -> None:
    shown = np.isfinite(found.values).all(axis=1)
    x, y = found.values[:, place], found.values[:, 0]
    on = np.array([trial for trial in found.trials.tolist() if shown[trial]], int)
    others = np.setdiff1d(np.flatnonzero(shown), on)
    axes.plot(x[others], y[others], "o", color=FAINT, markersize=4, alpha=0.7)
    if len(found.names) == 2 and len(on):
        _bound(axes, x[on], y[on], found.maximize[place])
    axes.plot(x[on], y[on], "o", color=COLORS[1], markeredgecolor="white", markersize=8)
    known = x[shown]
    if known.size and known.min() > 0 and known.max() / known.min() > 30:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    title = f"{len(found.trials)} of {len(y)} trials on the front" if place == 1 else ""
    less = "more is better" if found.maximize[place] else "less is better"
    if len(on):
        label_points(axes, ranks[on], x[on], y[on])
    up = words(found.names[0]) + ("" if found.maximize[0] else " (less is better)")
    frame(axes, title, f"{words(found.names[place])} ({less})", up if place == 1 else "")


def _bound(axes: Axes, x: np.ndarray, y: np.ndarray, more: bool) -> None:
    """The best value of the first objective among the trials that cost as much or less."""
    order = np.argsort(-x if more else x)
    axes.step(x[order], y[order], where="post", color=COLORS[1], linewidth=1.4, alpha=0.8)
