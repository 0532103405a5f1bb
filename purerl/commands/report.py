"""What commands say and draw about returns."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from purerl.sweep import Result


def summary(returns: np.ndarray) -> str:
    """Mean, interquartile mean and its 95% bootstrap interval, over the seeds or, where there is one, its episodes.

    Args:
      returns: [S, E] of S seeds and E episodes each.
    """
    import jax

    from purerl.commands.console import format_number
    from purerl.sweep import bootstrap_interval, interquartile_mean

    num_seeds, num_episodes = returns.shape
    values = returns.mean(axis=1) if num_seeds > 1 else returns[0]
    over = f"{num_seeds} seeds" if num_seeds > 1 else f"{num_episodes} episodes"
    mean, middle = format_number(float(values.mean())), format_number(float(interquartile_mean(values)))
    low, high = (format_number(float(end)) for end in bootstrap_interval(jax.random.key(0), values))
    interval = f", 95% interval {low} to {high}" if len(values) > 1 else ""
    return f"mean return {mean}, interquartile mean {middle}{interval} over {over}"


def draw_run(directory: Path, title: str) -> Path:
    """Draw the learning curves of a training run, one a seed, from its metrics.csv to learning_curve.png."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    from purerl.plots import COLORS

    curves: dict[str, list[tuple[int, float]]] = {}
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["episode_return"]:
                curves.setdefault(row["seed"], []).append((int(row["step"]), float(row["episode_return"])))
    figure = Figure(figsize=(7, 4.3), layout="constrained")
    axes = figure.subplots()
    for i, (seed, points) in enumerate(curves.items()):
        axes.plot(*zip(*points), color=COLORS[i % len(COLORS)], linewidth=1.3, label=f"seed {seed}")
    axes.set_title(title, loc="left")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("training return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if 1 < len(curves) <= len(COLORS):
        axes.legend(frameon=False)
    path = directory / "learning_curve.png"
    figure.savefig(path, dpi=150)
    return path


def draw_sweep(directory: Path, result: Result) -> list[Path]:
    """Draw a search: all of it at a glance, and its parts."""
    from purerl import plots

    figures = {"learning_curves": plots.learning_curves(result), "ranking": plots.ranking(result)}
    if result.searched:
        figures = {"sweep": plots.sweep_figure(result), "parameters": plots.parameters(result)} | figures
    paths = [directory / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values()):
        figure.savefig(path, dpi=150)
    return paths
