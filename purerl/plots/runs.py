"""Learning curves of a training run, from its table of metrics."""

from __future__ import annotations

import csv
import os

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from purerl.plots.style import COLORS, frame, new_figure


def training_curves(path: str | os.PathLike[str], title: str) -> Figure:
    """The training return against environment steps, one line per seed; the loss if no episode was played.

    Of a rollout that masks steps only those count that its episodes took.

    Args:
      path: `metrics.csv` of a run, with the columns `seed` and `step`.
      title: above the figure.
    """
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown, label, unit = "episode_return", "training return", "environment steps"
    if not any(row[shown] for row in rows):
        losses = [name for name in rows[0] if name.startswith("loss/")]
        shown, label, unit = (losses[0], losses[0], "rows") if losses else (shown, label, unit)
    curves: dict[str, list[tuple[int, float]]] = {}
    taken: dict[str, int] = {}
    for row in rows:
        seed, count = row["seed"], row.get("num_env_steps")
        taken[seed] = taken.get(seed, 0) + int(float(count)) if count else int(row["step"])
        if row[shown]:
            curves.setdefault(seed, []).append((taken[seed], float(row[shown])))
    figure = new_figure(7, 4.3)
    axes = figure.subplots()
    for i, (seed, points) in enumerate(curves.items()):
        marker = "o" if len(points) == 1 else None
        color = COLORS[i % len(COLORS)]
        axes.plot(*zip(*points), color=color, linewidth=1.3, marker=marker, label=f"seed {seed}")
    frame(axes, title, unit, label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if 1 < len(curves) <= 2 * len(COLORS):
        axes.legend(frameon=False, ncols=2)
    return figure
