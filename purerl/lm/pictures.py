"""Curves of a fine-tuning run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

_PANELS = (("loss/total", "eval/total", "loss"), ("loss/accuracy", "eval/accuracy", "accuracy"))


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `metrics.csv`; empty cells are NaN."""
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = list(csv.reader(file))
    table = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows], float).reshape(-1, len(names))
    return {name: table[:, i] for i, name in enumerate(names)}


def curves(columns: Mapping[str, np.ndarray], after: Mapping[str, float]) -> Figure:
    """Training and held-out curves of the loss, and of the accuracy of pairs if there is one.

    Args:
      columns: of `metrics.csv`.
      after: metrics of held-out rows at the end.
    """
    panels = [panel for panel in _PANELS if panel[0] in columns]
    figure = Figure(figsize=(5 * len(panels), 3.4), layout="constrained")
    for i, (train, held_out, label) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        steps = columns["step"]
        axes.plot(steps, columns[train], color="#9aa5b1", linewidth=1, label="training, each update")
        if held_out in columns:
            known = ~np.isnan(columns[held_out])
            x, y = [*(steps[known] - 1), steps[-1]], [*columns[held_out][known], after[held_out]]
            axes.plot(x, y, color="#c2410c", marker="o", markersize=4, label="held-out rows")
        axes.set_xlabel("updates")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def reinforcement_curves(columns: Mapping[str, np.ndarray]) -> Figure:
    """Reward and KL to the reference of the completions of each update.

    Args:
      columns: of `metrics.csv`.
    """
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for i, (name, label) in enumerate((("rlhf/reward", "reward"), ("rlhf/kl", "KL to the reference, nats"))):
        axes = figure.add_subplot(1, 2, i + 1)
        axes.plot(columns["step"], columns[name], color="#0f766e", linewidth=1.5)
        axes.set_xlabel("updates")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    return figure


def save_curves(metrics: Path, picture: Path, after: Mapping[str, float]) -> None:
    """Draw `metrics.csv`."""
    curves(read_columns(metrics), after).savefig(picture, dpi=150)
