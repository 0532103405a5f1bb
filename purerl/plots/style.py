"""The style that all pictures share: colours, frames, legends, words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
FURTHER = ("#56B4E9", "#7F3C8D", "#6B5B00")
FAINT, DARK, GRID = "#9AA5B1", "#1F2933", "#E4E7EB"
DIVERGED, SKIPPED = "#7B2D26", "#6A3D9A"
MAP = "viridis"

Entries: TypeAlias = list[tuple[Artist, str]]
"""Entries of a legend: a handle and its label."""


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches, with a layout that leaves room for every label."""
    return Figure(figsize=(width, height), layout="constrained")


def frame(axes: Axes, title: str, x: str, y: str) -> None:
    """Set the title and the labels, and keep the frame in the background."""
    axes.set_title(title, loc="left", fontsize=11, color=DARK, fontweight="bold")
    axes.set_xlabel(x, color=DARK)
    axes.set_ylabel(y, color=DARK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=DARK, labelsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def legend(figure: Figure, entries: Entries, columns: int = 4) -> None:
    """A legend under the figure, where it hides nothing; of entries with one label the first is shown."""
    shown: dict[str, Any] = {}
    for handle, label in entries:
        shown.setdefault(label, handle)
    handles, labels = list(shown.values()), list(shown)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def line(color: str, **style: Any) -> Line2D:
    """A handle for a legend that looks like a line, or like a point with `marker="o", linestyle=""`."""
    return Line2D([], [], color=color, **style)


def bar(color: str, alpha: float) -> Patch:
    """A handle for a legend that looks like a band or a bar."""
    return Patch(color=color, alpha=alpha, linewidth=0)


def group_colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for each group, such as the algorithms of a search; they repeat after eight."""
    colors = (*COLORS, *FURTHER)
    return {name: colors[i % len(colors)] for i, name in enumerate(names)}


def crosses(axes: Axes, x: np.ndarray, y: np.ndarray | float | None = None) -> None:
    """Mark members that diverged, at the lower edge if `y` is None: they have no return to be drawn at."""
    _marks(axes, x, y, 0.03, marker="x", gid="diverged", s=26, color=DIVERGED, linewidths=1.2)


def triangles(axes: Axes, x: np.ndarray, y: np.ndarray | float | None = None) -> None:
    """Mark updates that were skipped, above the lower edge if `y` is None."""
    _marks(axes, x, y, 0.07, marker="v", gid="skipped", s=34, facecolor="none", edgecolor=SKIPPED, linewidths=1.4)


def _marks(axes: Axes, x: np.ndarray, y: np.ndarray | float | None, low: float, **style: Any) -> None:
    """Points at (x, y); without y at a height `low` of the axes, 0 to 1. They are drawn whole at the edges."""
    if not len(x):
        return
    transform = axes.get_xaxis_transform() if y is None else axes.transData
    height = np.full(len(x), low) if y is None else np.broadcast_to(y, len(x))
    axes.scatter(x, height, transform=transform, zorder=5, clip_on=False, **style)


def diverged_entry(number: int) -> Entries:
    """The legend's entry for `crosses`; empty if nothing diverged."""
    handle = line(DIVERGED, marker="x", linestyle="", markersize=6)
    return [(handle, f"diverged ({number:,})")] if number else []


def skipped_entry(number: int, label: str = "first update skipped") -> Entries:
    """The legend's entry for `triangles`; empty if no update was skipped."""
    handle = line(SKIPPED, marker="v", linestyle="", markersize=6, markerfacecolor="none", markeredgewidth=1.4)
    return [(handle, f"{label} ({number:,})")] if number else []


def label_points(axes: Axes, ranks: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """The rank beside each point; points that lie close together share one label. Draw the points first."""
    axes.autoscale_view()  # so that the limits are those of the points
    places = axes.transAxes.inverted().transform(axes.transData.transform(np.stack([x, y], axis=1)))  # [K, 2] in [0, 1]
    near: dict[tuple[int, int], list[int]] = {}
    for i in np.argsort(ranks).tolist():
        near.setdefault((round(9 * places[i, 0]), round(12 * places[i, 1])), []).append(i)
    for together in near.values():
        more = f" and {len(together) - 3} more" if len(together) > 4 else ""
        text = ", ".join(f"#{ranks[i]}" for i in (together[:3] if more else together)) + more
        at = (x[together[0]], y[together[0]])
        left = places[together[0], 0] > 0.85  # of the point, where the axes end
        axes.annotate(
            text,
            at,
            xytext=(-7 if left else 7, 6),
            textcoords="offset points",
            fontsize=9,
            ha="right" if left else "left",
        )


def words(name: str) -> str:
    """The name of a hyperparameter as words.

    Examples:
      >>> words("learning_rate")
      'learning rate'
    """
    return name.replace("_", " ")


def number(value: object) -> str:
    """A number in two significant digits; integers, booleans and tuples in full.

    Examples:
      >>> number(0.01234), number(0.00034), number(64), number((64, 64))
      ('0.012', '3.4e-4', '64', '64×64')
    """
    if isinstance(value, float | np.floating):
        value = float(value)
        small = value != 0 and abs(value) < 1e-2
        return f"{value:.1e}".replace("e-0", "e-") if small or abs(value) >= 1e4 else f"{value:.2g}"
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def count(value: float) -> str:
    """A large number in short.

    Examples:
      >>> count(25_000), count(1_200_000)
      ('25k', '1.2M')
    """
    return EngFormatter(sep="", places=None).format_data(value)
