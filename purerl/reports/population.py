"""The report on population-based training: lineage, the best schedule, and how far to trust them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from purerl.reports import pieces
from purerl.reports.cautions import skipped
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
    repeat: str | None = None,
    load: str | None = None,
    replay: bytes | None = None,
) -> Path:
    """Write population-based training as one self-contained HTML file.

    Args:
      result: finished population-based training.
      path: of the file, which is replaced.
      title: its heading.
      about: further facts on how it was made.
      use: code that gets the best schedule, and trains by it.
      repeat: code that repeats the run; None leaves it out.
      load: code that loads the trained policy; None writes the call of `load_pbt`.
      replay: a GIF of the best agent playing; None leaves it out.

    Returns:
      The path.
    """
    from purerl import plots

    lines = "Each line leads from a parent to its child; the ancestors of the best member are in colour."
    default = (
        f"result = purerl.pbt.load_pbt({str(Path(path).parent)!r}, agent, env, hparams)\n"
        "action, _ = agent.act(None, result.best, obs)"
    )
    policy = "The trained agent of the best member chooses greedy actions without a key:"
    same = "The same arguments, with the same key, give the same bits:"
    return write_page(
        path,
        title,
        _summary(result),
        pieces.notes(population_cautions(result)),
        pieces.code("The best schedule", _best(result), use),
        pieces.replay(replay),
        pieces.code("Load the policy", policy, load if load is not None else default),
        "" if repeat is None else pieces.code("Repeat the run", same, repeat),
        pieces.pictures([(lines, lambda: plots.family(result))]),
        pieces.table(
            f"The {result.population_size:,} members after the last round",
            "<code>began_as</code> is the member in whose place the learner began, <code>moves</code> how often it was "
            "copied to another place since. lineage.csv has all rounds.",
            result.member_rows(),
        ),
        pieces.facts(about or {}, result.space, result.settings),
    )


def population_cautions(result: PBTResult) -> list[str]:
    """Sentences on how far the results can be trusted, the most important first."""
    return [*_of_the_best(result), *_of_skips(result), *_of_descent(result), *_of_edges(result)]


def _summary(result: PBTResult) -> str:
    scores, steps = result.lineage.scores[-1], int(result.steps[-1])
    median = np.median(scores[~np.isnan(scores)]) if (~np.isnan(scores)).any() else np.nan
    return pieces.tiles(
        {
            "best score": short(float(scores[result.order[0]])),
            "median score": short(float(median)),
            "members": f"{result.population_size:,}",
            "rounds": f"{result.num_rounds:,}",
            "steps per member": f"{steps:,}",
            "time": pieces.minutes(result.seconds),
            "steps per second, all members": pieces.rate(result.population_size * steps / result.seconds),
        }
    )


def _best(result: PBTResult) -> str:
    first = result.member_rows()[0]
    values = ", ".join(f"{name} {short(float(first[name]))}" for name in result.space)
    return (
        f"Member {first['member']} scored {short(first['score'])} in the last round. Its learner began as member "
        f"{first['began_as']}, was copied to another place {first['moves']} times, and ended with {values}."
    )


def _of_the_best(result: PBTResult) -> Iterator[str]:
    scores, episodes = result.lineage.scores[-1], result.settings.get("eval_episodes", "few")
    yield (
        f"The best score is optimistic: it is the highest of {result.population_size:,} on the same {episodes} "
        "episodes. Evaluate that policy on other episodes, and quote that return."
    )
    yield (
        "The schedule was selected together with the luck of the members that followed it. Train by it on fresh seeds "
        "(pbt.train_schedule) to learn what the schedule alone is worth."
    )
    equal = int((scores == np.nanmax(scores)).sum()) if (~np.isnan(scores)).any() else 0
    if equal > max(2, result.population_size // 5):
        yield (
            f"{equal} of {result.population_size:,} members tie for the highest score of the last round: the task no "
            "longer tells them apart, and their order is meaningless."
        )
    broken = int(np.isnan(result.lineage.scores).sum())
    if broken:
        members, rounds = (np.isnan(result.lineage.scores).any(axis=axis).sum() for axis in (0, 1))
        yield (
            f"Members diverged {broken} times (a score that is not finite, or NaN in the learner), at {members} of "
            f"{result.population_size:,} places in {rounds} of {result.num_rounds:,} rounds. They ranked last and were "
            "replaced in the next round."
        )


def _of_skips(result: PBTResult) -> Iterator[str]:
    count, after = result.skips
    return skipped([(int(count[r, m]), f"member {m} in round {r}", float(after[r, m])) for r, m in np.argwhere(count)])


def _of_descent(result: PBTResult) -> Iterator[str]:
    founders = {int(result.ancestry(member)[0]) for member in range(result.population_size)}
    if len(founders) <= max(1, result.population_size // 8):
        names = "one member" if len(founders) == 1 else f"{len(founders)} members"
        yield (
            f"All {result.population_size:,} learners descend from {names} of the first population: the initial values "
            "of the others were tried only briefly. Longer rounds select less hastily."
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
                    "the best value may lie outside it."
                )
