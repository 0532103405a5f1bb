"""Pictures of what `purerl rlhf` finds: reward against KL, Goodhart's curve, clicks, and learning from answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from purerl.experiments.goodhart import Goodhart
    from purerl.experiments.language import Point
    from purerl.preferences.clicks import BiasCurve
    from purerl.preferences.control import Round

_TRUE, _PROXY = "#0072B2", "#D55E00"


def frontier_figure(points: Sequence[Point]) -> Figure:
    """True and learned reward of every method's end point against √KL to the SFT model."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for point in points:
        x = math.sqrt(max(point.kl, 0.0))
        axes.plot([x, x], [point.true_reward, point.proxy_reward], color="#9AA5B1", linewidth=1, zorder=1)
        axes.scatter(x, point.true_reward, color=_TRUE, zorder=2)
        axes.scatter(x, point.proxy_reward, facecolors="white", edgecolors=_PROXY, zorder=2)
        axes.annotate(point.method, (x, point.true_reward), (6, -12), textcoords="offset points")
    axes.scatter([], [], color=_TRUE, label="true reward")
    axes.scatter([], [], facecolors="white", edgecolors=_PROXY, label="learned reward")
    axes.margins(x=0.08)  # room for the last name
    _finish(axes, "Reward against distance from the SFT model", "√KL to the SFT model (√nats)", "mean reward")
    return figure


def goodhart_figure(curve: Goodhart) -> Figure:
    """True and learned reward against √KL as β falls, with the peak of the true one marked."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    x, true, proxy = np.sqrt(curve.kl), np.asarray(curve.true_reward), np.asarray(curve.proxy_reward)
    axes.plot(x, proxy, color=_PROXY, label="learned reward")
    axes.plot(x, true, color=_TRUE, label="true reward")
    peak = int(true.argmax())
    axes.scatter(x[peak], true[peak], color=_TRUE)
    label = f"best at β = {float(curve.beta[peak]):.2g}"
    axes.annotate(label, (x[peak], true[peak]), (0, 8), textcoords="offset points", ha="center")
    _finish(axes, "Optimising a learned reward ever harder", "√KL to the reference (√nats)", "mean reward")
    return figure


def clicks_figure(curve: BiasCurve) -> Figure:
    """How well the weights learned from clicks point along the true ones, corrected and not, against the bias."""
    from purerl.preferences.clicks import alignment

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, weights, color in [("corrected", curve.corrected, _TRUE), ("naive", curve.naive, _PROXY)]:
        axes.plot(curve.bias, alignment(weights, curve.true), color=color, marker="o", label=name)
    title = "Preferences from clicks on lists in a worthless order"
    _finish(axes, title, "position bias b: place k is looked at with probability k^(-b)", "cosine to the true weights")
    return figure


def control_figure(rounds: Round, true: np.ndarray, learned: np.ndarray) -> Figure:
    """The policy's true reward as answers come in, and learned against true reward on the last policy's steps.

    Args:
      rounds: leaves [num_rounds].
      true, learned: [B] rewards of the same steps.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(rounds.num_labels, rounds.true_reward, color=_TRUE, marker="o", label="policy in learning")
    _finish(left, "What the hidden reward says of the policy", "answers given", "true reward a step")
    right.scatter(true, learned, s=4, alpha=0.3, color=_PROXY, edgecolors="none", label="steps of the last policy")
    title = f"Correlation {float(rounds.correlation[-1]):.2f}"
    _finish(right, title, "true reward of a step", "learned reward, standardised")
    return figure


def save(figure: Figure, path: Any) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=150)


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="#E4E7EB")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
