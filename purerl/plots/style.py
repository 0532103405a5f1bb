"""What all pictures share: colours, the frame, words and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
FAINT, DARK, GRID = "#9AA5B1", "#1F2933", "#E4E7EB"
MAP = "viridis"


def new_figure(width: float, height: float) -> Figure:
    """A figure whose parts make room for each other, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def frame(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, labels, and a frame that stays in the background."""
    axes.set_title(title, loc="left", fontsize=11, color=DARK, fontweight="bold")
    axes.set_xlabel(x, color=DARK)
    axes.set_ylabel(y, color=DARK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=DARK, labelsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def words(name: str) -> str:
    """The name of a hyperparameter as words."""
    return name.replace("_", " ")


def number(value: Any) -> str:
    """Two significant digits, as 0.012 or 3.4e-4; whole numbers, booleans and tuples as they are."""
    if isinstance(value, float | np.floating):
        value = float(value)
        small = value != 0 and abs(value) < 1e-2
        return f"{value:.1e}".replace("e-0", "e-") if small or abs(value) >= 1e4 else f"{value:.2g}"
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def count(value: float) -> str:
    """A large number in short, as 25k or 1.2M."""
    return EngFormatter(sep="", places=None).format_data(value)
