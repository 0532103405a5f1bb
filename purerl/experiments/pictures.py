"""Figures of `purerl rlhf`: reward against KL, diversity, Goodhart's curve, clicks, and learning from comparisons."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    """True and learned reward of every method against √KL to the SFT model."""
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


def diversity_figure(points: Sequence[Point]) -> Figure:
    """Entropy, distinct bigrams and self-similarity of the completions of every policy."""
    policies = [(point.method, point.diversity) for point in points if point.diversity is not None]
    names = [name for name, _ in policies]
    panels = (
        ("Entropy, nats per token", [found.token_entropy for _, found in policies]),
        ("Distinct pairs of neighbours", [found.distinct_2 for _, found in policies]),
        ("Self-similarity", [found.self_similarity for _, found in policies]),
    )
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, 3), panels):
        bars = axes.bar(names, values, color=[_PROXY if name == "sft" else _TRUE for name in names])
        axes.bar_label(bars, fmt="%.2f", padding=2)
        axes.set(title=title, ylim=(0, 1.12 * max(values)))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Completions of the same prompt, before (orange) and after optimising the reward")
    return figure


def goodhart_figure(curve: Goodhart) -> Figure:
    """True and learned reward against √KL as β falls; the maximum of the true one is marked."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    x, true, proxy = np.sqrt(curve.kl), np.asarray(curve.true_reward), np.asarray(curve.proxy_reward)
    axes.plot(x, proxy, color=_PROXY, label="learned reward")
    axes.plot(x, true, color=_TRUE, label="true reward")
    peak = int(true.argmax())
    axes.scatter(x[peak], true[peak], color=_TRUE)
    label = f"best at β = {float(curve.beta[peak]):.2g}"
    axes.annotate(label, (x[peak], true[peak]), (0, 8), textcoords="offset points", ha="center")
    _finish(axes, "Overoptimisation of a learned reward", "√KL to the reference (√nats)", "mean reward")
    return figure


def clicks_figure(curve: BiasCurve) -> Figure:
    """Cosine between learned and true weights against the bias, with and without correction."""
    from purerl.preferences.clicks import alignment

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, weights, color in [("corrected", curve.corrected, _TRUE), ("naive", curve.naive, _PROXY)]:
        axes.plot(curve.bias, alignment(weights, curve.true), color=color, marker="o", label=name)
    title = "Preferences from clicks on lists ordered by an irrelevant feature"
    _finish(
        axes, title, "position bias b: position k is examined with probability k^(-b)", "cosine to the true weights"
    )
    return figure


def control_figure(rounds: Round, true: np.ndarray, learned: np.ndarray) -> Figure:
    """True reward of the policy against the number of labels, and learned against true reward of single steps.

    Args:
      rounds: leaves [num_rounds].
      true, learned: [B] rewards of the same steps.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(rounds.num_labels, rounds.true_reward, color=_TRUE, marker="o", label="explorer")
    _finish(left, "True reward of the policy", "labels", "true reward per step")
    right.scatter(true, learned, s=4, alpha=0.3, color=_PROXY, edgecolors="none", label="steps of the last policy")
    title = f"Correlation {float(rounds.correlation[-1]):.2f}"
    _finish(right, title, "true reward of a step", "learned reward, standardised")
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=150)


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="#E4E7EB")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
