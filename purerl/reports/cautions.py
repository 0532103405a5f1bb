"""Sentences on how far the results of a search can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from purerl.plots.scales import scale_of

if TYPE_CHECKING:
    from purerl.sweep import Result


def cautions(result: Result) -> list[str]:
    """Sentences, the most important first: what the seeds can tell, how optimistic the best is, what is missing."""
    return [*_of_seeds(result), *_of_the_best(result), *_of_trials(result), *_of_edges(result)]


def _of_seeds(result: Result) -> Iterator[str]:
    count = result.num_seeds
    if count == 1:
        yield (
            "Each trial has one seed, so the influence of chance on its return is unknown, and there are no intervals. "
            "Use two seeds to find candidates and ten to compare them."
        )
        return
    if count < 6:
        yield (
            f"{count} seeds per trial are only a hint: intervals never reach beyond the seeds seen, so they contain "
            f"the median of all possible seeds with a probability of at most {1 - 2.0 ** (1 - count):.0%}."
        )
    agreement = result.seed_agreement()
    if agreement < 0.5:
        yield (
            f"The seeds hardly agree on the order of the trials trained furthest (Spearman's ρ = {agreement:.2f}): "
            "neighbours in the ranking cannot be told apart."
        )


def _of_the_best(result: Result) -> Iterator[str]:
    best, trial = int(result.order[0]), result.best
    if best in result.fresh_trials:
        number = int(result.num_fresh[result.fresh_trials.tolist().index(best)])
        place = int(np.flatnonzero(result.search_order == best)[0]) + 1
        yield (
            f"The best of {result.num_trials:,} trials was selected partly by chance: it returned "
            f"{trial.iqm:.4g} in the search, where it ranked {place}, and {trial.fresh_iqm:.4g} when trained again on "
            f"{number} fresh seeds, by which it ranks now. Quote the second number."
        )
    elif result.num_trials > 1:
        yield (
            f"The return of the best of {result.num_trials:,} trials is optimistic, since it was selected partly by "
            "chance. Search with confirm=5 to train the best trials again on fresh seeds, and quote that return."
        )
    equal = int(result.num_tied[result.search_order[0]])
    if equal > 1:
        told = any(np.isfinite(criterion).any() for criterion in result.criteria.values())
        yield f"{equal} trials tie for the best result of the search: nothing in it tells them apart" + (
            " but the area under their learning curves and how soon these came near their ends, by which they are "
            "ordered."
            if told
            else ", and without learning curves they stay in the order in which they were drawn."
        )
    if np.isnan(result.curves).all():
        yield (
            "The learning curves are empty, because no episode ended while the agents trained. Use an environment with "
            "a time limit (envs.time_limit), or more updates."
        )
    if "stopped" in result.settings:
        yield f"The search was stopped early: {result.settings['stopped']}."


def _of_trials(result: Result) -> Iterator[str]:
    stopped = int((result.num_updates < result.num_updates.max()).sum())
    failed = result.settings.get("failed", {})
    if failed:
        yield f"{len(failed)} blocks could not be run and count as diverged: {next(iter(failed.values()))}."
    if stopped:
        yield (
            f"{stopped:,} of {result.num_trials:,} trials were stopped early. They rank below all that were trained "
            "further, by their return when they were stopped."
        )
    diverged = np.flatnonzero(result.diverged.any(axis=1))
    if diverged.size:
        some = ", ".join(map(str, diverged[:10])) + (", ..." if diverged.size > 10 else "")
        yield (
            f"{diverged.size} trial{'s' * (diverged.size > 1)} diverged: a return or a parameter of at least one seed "
            f"became NaN or infinite (trial{'s' * (diverged.size > 1)} {some}). They rank last."
        )
    yield from _of_skips(result)


def _of_skips(result: Result) -> Iterator[str]:
    """The agents of which updates were skipped, those with the most first."""
    every = np.arange(result.num_trials)
    tables = ((every, "seed", result.skips), (result.fresh_trials, "fresh seed", result.fresh_skips))
    found = [
        (int(count[place, seed]), f"trial {trials[place]}, {kind} {seed}", float(after[place, seed]))
        for trials, kind, (count, after) in tables
        for place, seed in np.argwhere(count).tolist()
    ]
    yield from skipped(found)


def skipped(found: Sequence[tuple[int, str, float]]) -> Iterator[str]:
    """A sentence on skipped updates, from how many of whom, and after how many environment steps; at most five of them.

    Examples:
      >>> print(*skipped([(2, "trial 0, seed 1", 640.0)]))  # doctest: +ELLIPSIS
      2 updates had a gradient that was NaN or infinite, and were skipped: 2 of trial 0, seed 1, the first after 640 ...
    """
    most = sorted(found, key=lambda each: -each[0])[:5]
    some = [f"{count:,} of {who}, the first after {after:,.0f} steps" for count, who, after in most]
    more = len(found) - len(most)
    some += [f"and some of {more:,} other{'s' * (more > 1)}"] if more else []
    total = sum(count for count, _, _ in found)
    verb, s = ("were", "s") if total > 1 else ("was", "")
    if total:
        yield (
            f"{total:,} update{s} had a gradient that was NaN or infinite, and {verb} skipped: {'; '.join(some)}. "
            "Look for NaN or infinity in the rewards and observations."
        )


def _of_edges(result: Result) -> Iterator[str]:
    """Ranges in which the best trials lie at one end."""
    if result.num_trials < 20:
        return
    best = result.order[: max(5, result.num_trials // 20)]
    for name in result.searched:
        scale = scale_of(result, name)
        if scale.categories:
            continue
        places = scale.unit(scale.at[best])
        for end, near in (("lower", places < 0.15), ("upper", places > 0.85)):
            if near.mean() > 0.7:
                yield (
                    f"{near.sum()} of the {len(best)} best trials have {name} at the {end} end of its range: "
                    "the best value may lie outside it."
                )
