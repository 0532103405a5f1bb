"""The ranking of a search, and how far it can be relied on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from purerl.plots.style import (
    COLORS,
    DARK,
    FAINT,
    Entries,
    bar,
    count,
    crosses,
    diverged_entry,
    frame,
    group_colors,
    legend,
    line,
    new_figure,
)
from purerl.sweep import interquartile_mean, rank_interval
from purerl.sweep.results import statistics
from purerl.sweep.results.algorithms import algorithms_of
from purerl.sweep.trials.algorithms import ALGORITHM
from purerl.text import plural

if TYPE_CHECKING:
    from purerl.sweep import Result


def ranking(result: Result, top: int = 5) -> Figure:
    """Greedy return of every trained trial by rank: the interquartile mean, its 95% interval, and each seed.

    Dotted lines separate trials that were trained further from those that were stopped earlier. Crosses mark trials
    that diverged. In a search over algorithms each has one colour. If the best trials tie, a bracket says how many:
    their order shows only which learned faster.
    """
    figure = new_figure(7.5, 5.0)
    axes = figure.subplots()
    order = result.order[: (result.num_updates > 0).sum()]  # without those that a search which stopped left out
    places = np.arange(1, len(order) + 1)
    iqm, (low, high) = result.iqm[order], result.interval[order].T
    width = float(np.clip(250 / max(len(places), 1), 0.8, 8))
    axes.vlines(places, low, high, color=FAINT, alpha=0.45, linewidth=width)
    axes.plot(places, result.seed_returns[order], "_", color=FAINT, markersize=min(width, 4) + 2)
    groups = group_colors(algorithms_of(result))
    for name, color in groups.items():
        mine = result.values(ALGORITHM)[order] == name
        axes.plot(places[mine], iqm[mine], "o", color=color, markersize=np.clip(width, 3, 6))
    if not groups:
        axes.plot(places, iqm, "o", color=DARK, markersize=np.clip(width, 2, 5))
    for color, place in reversed(list(zip(COLORS, places[:top].tolist()))) if not groups else ():
        axes.plot(place, iqm[place - 1], "o", color=color, markeredgecolor="white", markersize=8)
    diverged = result.diverged[order].any(axis=1)
    crosses(axes, places[diverged])
    title = f"{plural(len(order), 'trial')} by rank"
    frame(axes, title, "rank", f"greedy return, {result.returns.shape[2]} episodes per seed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _separate_by_training(axes, result, order)
    entries: Entries = [(line(color, marker="o", linestyle=""), f"a trial of {name}") for name, color in groups.items()]
    entries = entries or [(line(DARK, marker="o", linestyle=""), "interquartile mean of a trial")]
    if result.num_seeds > 1:
        entries += [(line(FAINT, marker="_", linestyle=""), "a seed"), (bar(FAINT, 0.45), "95% interval")]
    if not groups:
        best = f"the best {min(top, len(places))}"
        entries.append((line(COLORS[0], marker="o", linestyle="", markersize=8), best))
    tied = _num_tied(result)
    if tied > 1:
        axes.axvspan(0.5, tied + 0.5, color=COLORS[4], alpha=0.12, linewidth=0, zorder=0)
        entries.append((bar(COLORS[4], 0.2), f"{tied} trials tie; the one that learned fastest is first"))
    legend(figure, entries + diverged_entry(int(diverged.sum())), columns=2)
    return figure


def rank_stability(result: Result, top: int = 20) -> Figure:
    """How stable the ranking is: from seed to seed, and with early stopping from rung to rung.

    Left, the best trials: the rank that each seed alone would give them among those trained as far, and the 95%
    bootstrap interval of the rank by all seeds (`sweep.rank_interval`). Trials that tie in every seed share one row.
    Right, if there are rungs: the trials of the last one, ranked among themselves after each. ρ is Spearman's
    correlation, 1 for the same order.

    Args:
      result: a finished search.
      top: number of rows on the left.
    """
    rungs = _rung_scores(result)
    figure = new_figure(10.5 if len(rungs) > 1 else 7.0, 5.2)
    panels = np.atleast_1d(figure.subplots(1, min(len(rungs), 2)))
    entries = _draw_seeds(panels[0], result, top)
    if len(rungs) > 1:
        entries += _draw_rungs(panels[1], result, rungs)
    legend(figure, entries, columns=3)
    return figure


def _draw_seeds(axes: Axes, result: Result, top: int) -> Entries:
    far = result.order[result.num_updates[result.order] == result.num_updates.max()]  # from best to worst
    returns = result.seed_returns[far]
    rows = _rows_of_ties(returns)[:top]
    first = np.array([row[0] for row in rows])
    ranks = statistics.mean_ranks(np.where(np.isnan(returns), np.inf, -returns), axis=0)[first]
    low, high = rank_interval(jax.random.key(0), returns)[first].T
    heights = np.arange(1, len(rows) + 1)
    axes.hlines(heights, low, high, color=FAINT, alpha=0.5, linewidth=6)
    axes.plot(ranks, heights, "o", color=COLORS[1], markersize=4, alpha=0.7, markeredgewidth=0)
    middle = [1 + np.mean(row) for row in rows]
    axes.plot(middle, heights, color=DARK, linestyle=":", linewidth=1, marker="." if len(rows) == 1 else None)
    axes.set_ylim(len(rows) + 0.7, 0.3)
    axes.set_xlim(0, max(rows[-1][-1] + 1, ranks.max(), np.nanmax(high, initial=1)) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    agreement = result.seed_agreement()
    words = "all trials tie" if np.isnan(agreement) else f"ρ = {agreement:.2f}"
    title = f"Between seeds: {words}" if result.num_seeds > 1 else "One seed: its ranks cannot be compared"
    frame(axes, title, f"rank among the {len(far):,} trained furthest", "rank in the search")
    chosen = heights if len(rows) <= 20 else heights[:: len(rows) // 10]
    axes.set_yticks(chosen, [_row_label(rows[height - 1]) for height in chosen.tolist()])
    entries: Entries = [(line(COLORS[1], marker="o", linestyle="", markersize=4), "rank by one seed")]
    entries.append((line(DARK, linestyle=":", linewidth=1), "rank in the search"))
    return entries + ([(bar(FAINT, 0.5), "95% interval of the rank")] if result.num_seeds > 1 else [])


def _rows_of_ties(returns: np.ndarray) -> list[list[int]]:
    """Positions [K] of trials with returns [K, S], those that are equal in every seed together."""
    rows: list[list[int]] = []
    for place, each in enumerate(returns):
        if rows and np.array_equal(each, returns[rows[-1][0]]):
            rows[-1].append(place)
        else:
            rows.append([place])
    return rows


def _row_label(row: list[int]) -> str:
    return f"{row[0] + 1}" if len(row) == 1 else f"{row[0] + 1} to {row[-1] + 1}: tied"


def _num_tied(result: Result) -> int:
    """The number of trials that share the highest return, among those trained as far as the best one."""
    best = int(result.order[0])
    equal = result.iqm == result.iqm[best]
    return int((equal & (result.num_updates == result.num_updates[best])).sum())


def _draw_rungs(axes: Axes, result: Result, rungs: list[tuple[int, np.ndarray]]) -> Entries:
    """Lines from rung to rung, for the trials that reached all of them."""
    steps = [updates * result.update_steps for updates, _ in rungs]
    scores = np.stack([score for _, score in rungs])
    whole = np.flatnonzero(~np.isnan(scores).any(axis=0))
    ranks = statistics.mean_ranks(-scores[:, whole], axis=1)
    colors = dict(zip(result.order[: len(COLORS)].tolist(), COLORS))
    for trial, path in zip(whole.tolist(), ranks.T):
        best = trial in colors
        axes.plot(
            range(len(steps)), path, "-o", color=colors.get(trial, FAINT), alpha=1 if best else 0.45,
            linewidth=2 if best else 0.9, markersize=5 if best else 2.5, zorder=3 if best else 2,
        )  # fmt: skip
    rhos = [statistics.rank_correlation(a, b) for a, b in itertools.pairwise(scores)]
    values = ", ".join("?" if np.isnan(rho) else f"{rho:.2f}" for rho in rhos)
    frame(
        axes, f"Between rungs: ρ = {values}", "environment steps at the evaluation", f"rank among the last {len(whole)}"
    )
    axes.set_xticks(range(len(steps)), [count(each) for each in steps])
    axes.set_xlim(-0.15, len(steps) - 0.85)
    axes.invert_yaxis()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    places = {trial: place for place, trial in enumerate(result.order.tolist(), start=1)}
    shown = sorted(places[trial] for trial in whole.tolist() if trial in colors)
    entries: Entries = [(line(COLORS[place - 1], marker="o"), f"#{place}") for place in shown]
    return entries + ([(line(FAINT, marker="o"), "other trials of the last rung")] if len(whole) > len(shown) else [])


def _rung_scores(result: Result) -> list[tuple[int, np.ndarray]]:
    """(updates, interquartile means [P]) after each rung of the bracket with the most rungs."""
    bracket = max(result.settings["brackets"], key=len)
    after = result.evaluated_after()
    scores = interquartile_mean(result.rung_returns.mean(axis=3, dtype=np.float64))
    return [(updates, np.where(after[r] == updates, scores[r], np.nan)) for r, (_, updates) in enumerate(bracket)]


def _separate_by_training(axes: Axes, result: Result, order: np.ndarray) -> None:
    far = result.num_updates[order]
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
    axes.set_title(axes.get_title("left") + ", and the steps that they were trained", loc="left", pad=18, fontsize=11,
                   color=DARK, fontweight="bold")  # fmt: skip
