"""The report on population-based training: who learned from whom, and what it is worth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from purerl.reports import pieces
from purerl.reports.page import write_page
from purerl.reports.pieces import short
from purerl.sweep.trials.spaces import Range

if TYPE_CHECKING:
    from purerl.pbt import PBTResult


def write_population_html(
    result: PBTResult,
    path: str | os.PathLike[str],
    *,
    title: str = "Population-based training",
    about: Mapping[str, str] | None = None,
    use: str = "result.schedule()",
) -> Path:
    """Write a population's training as one HTML file that loads nothing else.

    Args:
      result: finished population-based training.
      path: of the file, which is replaced.
      title: its heading.
      about: more lines on how it was made.
      use: how to get the best schedule, and train by it.

    Returns:
      The path.
    """
    from purerl import plots

    lines = "Each line leads from a parent to its child: in colour the ancestors of the best member."
    return write_page(
        path,
        title,
        _summary(result),
        pieces.notes(population_cautions(result)),
        pieces.code("The best schedule", _best(result), use),
        pieces.pictures([(lines, lambda: plots.family(result))]),
        pieces.table(
            f"The {result.population_size:,} members after the last round",
            "<code>began_as</code>: in whose place the learner began; <code>moves</code>: how often it was copied to "
            "another place since. lineage.csv has all rounds.",
            result.member_rows(),
        ),
        pieces.facts(about or {}, result.space, result.settings),
    )


def population_cautions(result: PBTResult) -> list[str]:
    """What a reader should know before believing it, in sentences, the weightiest first."""
    return [*_of_the_best(result), *_of_descent(result), *_of_edges(result)]


def _summary(result: PBTResult) -> str:
    scores, steps = result.lineage.scores[-1], int(result.steps[-1])
    median = np.median(scores[~np.isnan(scores)]) if (~np.isnan(scores)).any() else np.nan
    return pieces.tiles(
        {
            "best score": short(float(scores[result.order[0]])),
            "median score": short(float(median)),
            "members": f"{result.population_size:,}",
            "rounds": f"{result.num_rounds:,}",
            "steps each": f"{steps:,}",
            "time": pieces.minutes(result.seconds),
            "agent-steps a second": pieces.rate(result.population_size * steps / result.seconds),
        }
    )


def _best(result: PBTResult) -> str:
    first = result.member_rows()[0]
    values = ", ".join(f"{name} {short(float(first[name]))}" for name in result.space)
    return (
        f"Member {first['member']} scored {short(first['score'])} in the last round. Its learner began as member "
        f"{first['began_as']}, was copied {first['moves']} times on the way, and ended with {values}."
    )


def _of_the_best(result: PBTResult) -> Iterator[str]:
    scores, episodes = result.lineage.scores[-1], result.settings.get("eval_episodes", "few")
    yield (
        f"The best score is optimistic: it is the highest of {result.population_size:,} on the same {episodes} "
        "episodes. Play that policy on other episodes, and quote that."
    )
    yield (
        "The schedule was chosen together with the luck of those who followed it: train by it on fresh seeds "
        "(pbt.train_schedule) to learn what it is worth by itself."
    )
    equal = int((scores == np.nanmax(scores)).sum()) if (~np.isnan(scores)).any() else 0
    if equal > max(2, result.population_size // 5):
        yield (
            f"{equal} of {result.population_size:,} members share the highest score of the last round: the task does "
            "not tell them apart any more, and which of them comes first means nothing."
        )
    broken = int(np.isnan(result.lineage.scores).sum())
    if broken:
        yield f"A member broke in {broken} rounds (its score or its learner was not finite), and was replaced."


def _of_descent(result: PBTResult) -> Iterator[str]:
    founders = {int(result.ancestry(member)[0]) for member in range(result.population_size)}
    if len(founders) <= max(1, result.population_size // 8):
        names = "one member" if len(founders) == 1 else f"{len(founders)} members"
        yield (
            f"All {result.population_size:,} learners descend from {names} of the first population: what the others "
            "began with was tried for a short while only. Longer rounds choose less hastily."
        )


def _of_edges(result: PBTResult) -> Iterator[str]:
    """Ranges of which the best members ended at one end."""
    best = result.order[: max(4, result.population_size // 5)]
    for name, space in result.space.items():
        if not isinstance(space, Range):
            continue
        values, ends = getattr(result.lineage.hparams, name)[-1, best].astype(float), np.array([space.low, space.high])
        low, high = np.log(ends) if space.log else ends
        places = ((np.log(values) if space.log else values) - low) / (high - low)
        for end, near in (("lower", places < 0.05), ("upper", places > 0.95)):
            if near.mean() > 0.7:
                yield (
                    f"{near.sum()} of the {len(best)} best members ended with {name} at the {end} end of its range: "
                    "the best value may lie outside."
                )
