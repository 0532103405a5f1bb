"""The ranking of a search, and how far it can be relied on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from purerl.plots.style import COLORS, DARK, FAINT, count, frame, new_figure
from purerl.sweep import interquartile_mean, rank_interval
from purerl.sweep.results.statistics import rank_correlation

if TYPE_CHECKING:
    from purerl.sweep import Result


def ranking(result: Result, top: int = 5) -> Figure:
    """Return of every trial in the order of their ranks: interquartile mean, its 95% interval, and each seed.

    Dotted lines part trials that were trained further from those that were stopped earlier.
    """
    figure = new_figure(7.5, 4.3)
    axes = figure.subplots()
    places, order = np.arange(1, result.num_trials + 1), result.order
    iqm, (low, high) = result.iqm[order], result.interval[order].T
    width = float(np.clip(250 / len(places), 0.8, 8))
    axes.vlines(places, low, high, color=FAINT, alpha=0.45, linewidth=width, label="95% interval")
    seeds = axes.plot(places, result.seed_returns[order], "_", color=FAINT, markersize=min(width, 4) + 2)
    seeds[0].set_label("a seed")
    axes.plot(places, iqm, "o", color=DARK, markersize=np.clip(width, 2, 5), label="interquartile mean")
    for color, place in reversed(list(zip(COLORS, places[:top].tolist()))):
        axes.plot(place, iqm[place - 1], "o", color=color, markeredgecolor="white", markersize=8)
    frame(axes, f"{result.num_trials:,} trials by rank", "rank", f"return of {result.returns.shape[2]} greedy episodes")
    _part_by_training(axes, result)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def rank_stability(result: Result, top: int = 20) -> Figure:
    """How the ranking moves: from seed to seed, and with early stopping from rung to rung.

    Left, the best trials: the rank that each seed alone would give them among those trained as far, and the 95%
    bootstrap interval of the rank by all seeds (`sweep.rank_interval`). Right, where there are rungs: the trials of the
    last one, ranked among themselves after each. ρ is Spearman's correlation, 1 for the same order.

    Args:
      result: a finished search.
      top: how many of the best trials are shown on the left.
    """
    rungs = _rung_scores(result)
    figure = new_figure(10.5 if len(rungs) > 1 else 7.0, 4.8)
    panels = np.atleast_1d(figure.subplots(1, min(len(rungs), 2)))
    _draw_seeds(panels[0], result, top)
    if len(rungs) > 1:
        _draw_rungs(panels[1], result, rungs)
    return figure


def _draw_seeds(axes: Axes, result: Result, top: int) -> None:
    far = np.flatnonzero(result.num_updates == result.num_updates.max())
    returns = result.seed_returns[far]
    ranks = rankdata(np.where(np.isnan(returns), np.inf, -returns), axis=0)
    interval = rank_interval(jax.random.key(0), returns)
    shown = [np.flatnonzero(far == trial)[0] for trial in result.order[: min(top, len(far))]]
    places = np.arange(1, len(shown) + 1)
    low, high = interval[shown].T
    axes.hlines(places, low, high, color=FAINT, alpha=0.5, linewidth=6, label="95% interval of the rank")
    dots = axes.plot(ranks[shown], places, "o", color=COLORS[1], markersize=4, alpha=0.7, markeredgewidth=0)
    dots[0].set_label("rank by one seed")
    axes.plot(places, places, color=DARK, linestyle=":", linewidth=1)
    axes.invert_yaxis()
    agreement = result.seed_agreement()
    agreed = "all are alike" if np.isnan(agreement) else f"ρ = {agreement:.2f}"
    title = f"Between seeds: {agreed}" if result.num_seeds > 1 else "One seed: no telling"
    frame(axes, title, f"rank among the {len(far):,} trained furthest", "rank in the search")
    axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[attr-defined,call-arg]
    axes.set_ylim(len(shown) + 0.7, 0.3)
    axes.legend(frameon=True, framealpha=0.8, edgecolor="none", fontsize=8.5, loc="best")


def _draw_rungs(axes: Axes, result: Result, rungs: list[tuple[int, np.ndarray]]) -> None:
    """Lines from rung to rung of the trials that all of the rungs have."""
    steps = [updates * result.update_steps for updates, _ in rungs]
    scores = np.stack([score for _, score in rungs])
    all_of_it = np.flatnonzero(~np.isnan(scores).any(axis=0))
    ranks = rankdata(-scores[:, all_of_it], axis=1)
    colors = dict(zip(result.order[: len(COLORS)].tolist(), COLORS))
    for trial, line in zip(all_of_it.tolist(), ranks.T):
        best = trial in colors
        axes.plot(
            range(len(steps)), line, "-o", color=colors.get(trial, FAINT), alpha=1 if best else 0.45,
            linewidth=2 if best else 0.9, markersize=5 if best else 2.5, zorder=3 if best else 2,
        )  # fmt: skip
    rhos = [rank_correlation(a, b) for a, b in itertools.pairwise(scores)]
    values = ", ".join("?" if np.isnan(rho) else f"{rho:.2f}" for rho in rhos)
    frame(
        axes, f"Between rungs: ρ = {values}", "evaluated after so many steps", f"rank among the last {len(all_of_it)}"
    )
    axes.set_xticks(range(len(steps)), [count(each) for each in steps])
    axes.set_xlim(-0.15, len(steps) - 0.85)
    axes.invert_yaxis()


def _rung_scores(result: Result) -> list[tuple[int, np.ndarray]]:
    """(updates, interquartile means [P]) after each rung of the bracket with the most rungs."""
    bracket = max(result.settings["brackets"], key=len)
    after = result.evaluated_after()
    scores = interquartile_mean(result.rung_returns.mean(axis=3, dtype=np.float64))
    return [(updates, np.where(after[r] == updates, scores[r], np.nan)) for r, (_, updates) in enumerate(bracket)]


def _part_by_training(axes: Axes, result: Result) -> None:
    far = result.num_updates[result.order]
    ends = [*np.flatnonzero(np.diff(far)).tolist(), len(far) - 1]
    if len(ends) == 1:
        return
    begin = 0
    for end in ends:
        if end < len(far) - 1:
            axes.axvline(end + 1.5, color=DARK, linestyle=":", linewidth=0.9)
        axes.annotate(
            f"{count(int(far[end]) * result.update_steps)}", ((begin + end) / 2 + 1, 1.0), ha="center", va="bottom",
            xycoords=axes.get_xaxis_transform(), fontsize=8.5, color=DARK,
        )  # fmt: skip
        begin = end + 1
    axes.set_title(axes.get_title("left") + ", and the steps they trained", loc="left", pad=18, fontsize=11,
                   color=DARK, fontweight="bold")  # fmt: skip
