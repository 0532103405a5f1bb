"""The family tree of population-based training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from purerl.plots.style import (
    COLORS,
    DARK,
    FAINT,
    crosses,
    diverged_entry,
    frame,
    legend,
    new_figure,
    skipped_entry,
    triangles,
    words,
)

if TYPE_CHECKING:
    from purerl.pbt import PBTResult


def family(result: PBTResult) -> Figure:
    """Scores, and a panel for each hyperparameter that changed, against environment steps.

    A line leads from each member's parent in one round to the member in the next: dark if the member is an ancestor of
    one in the last population, faint if its line died out, in colour if it is an ancestor of the best member. Crosses
    mark members that diverged in a round and were replaced after it, triangles members that skipped updates in it.
    """
    count = 1 + len(result.space)
    columns = min(3, count)
    rows = math.ceil(count / columns)
    figure = new_figure(4.3 * columns, 3.7 * rows + 0.4)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    _draw(panels[0], result, result.lineage.scores)
    title = f"{result.population_size} members, {result.num_rounds} rounds"
    frame(panels[0], title, "environment steps of each member", "greedy return")
    for axes, (name, space) in zip(panels[1:], result.space.items()):
        _draw(axes, result, getattr(result.lineage.hparams, name))
        frame(axes, words(name), "environment steps of each member", "")
        axes.set_yscale("log" if getattr(space, "log", False) else "linear")
    for axes in panels[count:]:
        axes.remove()
    broken, skipped = np.isnan(result.lineage.scores), result.skips.number > 0
    steps = np.broadcast_to(result.steps[:, None], broken.shape)
    for axes, values in zip(panels, [None, *(getattr(result.lineage.hparams, name) for name in result.space)]):
        crosses(axes, steps[broken], None if values is None else values[broken])
        known = result.lineage.scores if values is None else values
        triangles(axes, steps[skipped & ~np.isnan(known)], known[skipped & ~np.isnan(known)])
        triangles(axes, steps[skipped & np.isnan(known)])
    marks = diverged_entry(int(broken.sum())) + skipped_entry(int(skipped.sum()), "updates skipped")
    legend(figure, [*zip(*panels[0].get_legend_handles_labels()), *marks], columns=4)
    return figure


def _draw(axes: Axes, result: PBTResult, values: np.ndarray) -> None:
    """One number per round and member, values [R, P], along the lines of descent."""
    steps, parents = result.steps, result.lineage.parents[1:] % result.population_size
    since = np.arange(result.num_rounds - 1)[:, None] - result.rounds_back[1:]  # [R - 1, P], the rounds of the parents
    before = values[since, parents]
    x = np.stack([steps[since], np.broadcast_to(steps[1:, None], since.shape)], axis=2)
    lines = np.stack([x, np.stack([before, values[1:]], axis=2)], axis=3)
    lived = np.zeros(values.shape, bool)
    for member in range(result.population_size):
        lived[result.trained(member)] = True
    kinds = (("died out", ~lived, FAINT), ("ancestors of the last population", lived, DARK))
    for label, chosen, color in kinds:
        some = list(lines[chosen[1:]])
        axes.add_collection(LineCollection(some, colors=color, alpha=0.5, linewidths=0.8, label=label))
    rounds, places = result.trained()
    axes.plot(
        steps[rounds],
        values[rounds, places],
        color=COLORS[0],
        linewidth=2,
        marker="o",
        markersize=3.5,
        label="ancestors of the best",
    )
    axes.autoscale_view()
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
