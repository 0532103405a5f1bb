"""The sections of the report on a search, each a piece of HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from purerl.reports import pieces
from purerl.reports.pieces import short
from purerl.sweep.results.algorithms import algorithms_of, by_algorithm
from purerl.sweep.results.statistics import coverage_limit
from purerl.sweep.trials.algorithms import ALGORITHM, own_fields

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from purerl.sweep import Result, Trial
    from purerl.sweep.results.storage import Row

_MOST_ROWS = 1000  # of the table: a page of 10,000 is slow to open and nobody reads it


def summary(result: Result, rows: Sequence[Row]) -> str:
    """The search in one line of large numbers; `rows` are those of its table."""
    settings, best = result.settings, result.best
    tiles = {
        "best greedy return": short(best.iqm),
        "trials": f"{result.num_trials:,}",
        "seeds per trial": f"{result.num_seeds}",
        "steps per agent, at most": f"{int(result.steps[-1]):,}",
        "time": pieces.minutes(settings.get("seconds")),
        "steps per second, all agents": pieces.rate(settings.get("steps_per_second")),
    }
    if "fresh_return" in rows[0]:
        fresh = short(rows[0]["fresh_return"])
        tiles = {"best greedy return": tiles.pop("best greedy return"), "the same on fresh seeds": fresh, **tiles}
    return pieces.tiles(tiles)


def best(result: Result, use: str | None) -> str:
    """The trial ranked first, and how to train it again."""
    trial = result.best
    interval = "" if np.isnan(trial.interval[0]) else f", {_interval(result)} {' to '.join(map(short, trial.interval))}"
    seeds = ", ".join(map(short, trial.returns.tolist()))
    again = "" if np.isnan(trial.fresh_iqm) else f", and of {short(trial.fresh_iqm)} on fresh seeds"
    text = (
        f"Trial {trial.number} had a greedy return of {short(trial.iqm)} over {result.num_seeds} "
        f"seed{'s' * (result.num_seeds > 1)} ({seeds}){interval}, after {trial.steps:,} steps"
        f"{again}. To train it again:"
    )
    use = use if use is not None else as_python(trial, algorithms_of(result))
    return pieces.code("The best trial", text, use)


def _interval(result: Result) -> str:
    return "95% interval" if coverage_limit(result.num_seeds) >= 0.9 else "range of the seeds"


def policy(result: Result, directory: Path, load: str | None) -> str:
    """How to load the trained policy of the best trial; empty if its state was not kept and `load` is None."""
    if load is None and not len(result.kept):
        return ""
    default = (
        f"result = purerl.sweep.load({str(directory)!r}, agent, env, hparams)\n"
        "action, _ = agent.act(None, result.best.state, obs)"
    )
    text = "The trained agent of the best trial chooses greedy actions without a key:"
    return pieces.code("Load the policy", text, load if load is not None else default)


def again(result: Result, repeat: str | None) -> str:
    """How to repeat the search."""
    text = "The same arguments, with the same key, give the same bits at the same width of the blocks:"
    return pieces.code("Repeat the search", text, repeat if repeat is not None else search_as_python(result))


def search_as_python(result: Result) -> str:
    """The call of `sweep.search` with the sizes, the space and the rungs of a search."""
    settings = result.settings
    names = ("num_seeds", "num_updates", "num_envs", "rollout_length", "eval_max_steps", "num_chunks")
    sizes = {"num_trials": result.num_trials} | {name: settings[name] for name in names if name in settings}
    sizes["eval_episodes"] = result.returns.shape[2]
    if len(result.fresh_trials):
        sizes |= {"confirm": len(result.fresh_trials), "confirm_seeds": result.fresh_returns.shape[1]}
    rungs = ", ".join(
        f"({', '.join(f'Rung({count}, {updates})' for count, updates in bracket)},)" for bracket in settings["brackets"]
    )
    lines = ["from purerl.sweep import Rung, search", "", "result = search("]
    lines += ["    key, agent, env, hparams, space,", *(f"    {name}={value}," for name, value in sizes.items())]
    return "\n".join([*lines, f"    schedule=lambda num_trials, num_updates: ({rungs},),", ")"])


def as_python(trial: Trial, algorithms: Sequence[str]) -> str:
    """The hyperparameters of a trial as the call that makes them, and the other choices as comments."""
    values, algorithm = trial.hparams._asdict(), trial.choices.get(ALGORITHM)
    own = values if algorithm is None else own_fields(values, algorithm, algorithms)
    lines = [f"    {name}={value!r}," for name, value in own.items()]
    others = [f"# {name} = {value!r}" for name, value in trial.choices.items()]
    return "\n".join([f"{type(trial.hparams).__name__}(", *lines, ")", *others])


def algorithms(result: Result) -> str:
    """How the algorithms compare; empty if the search is of one alone."""
    rows = by_algorithm(result)
    if not rows:
        return ""
    return pieces.table(
        "Algorithms",
        "<code>return</code> is that of the best trial of an algorithm, <code>median_return</code> that of its middle "
        "trial among those that can be compared, after <code>median_steps</code> steps: the best of many is "
        "optimistic, and the more so the more trials there are.",
        rows,
    )


def importances(shares: Mapping[str, float] | str, noise: Mapping[str, float]) -> str:
    """Bars with the share of the variance that each name accounts for, pale if chance explains it.

    `shares` is the reason if there are none; `noise` has the share that each name would reach by chance.
    """
    if isinstance(shares, str):
        return f"<section><h2>What mattered</h2><p>{escape(shares)}</p></section>"
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="bar"><i{_pale(share, noise.get(name, 0))} '
        f'style="width:{100 * share:.1f}%"></i></td><td>{share:.0%}</td>'
        f"<td>by chance up to {noise.get(name, 0):.0%}</td></tr>"
        for name, share in shares.items()
    )
    return (
        "<section><h2>What mattered</h2><p>Share of the variance of the greedy returns that each name accounts for "
        "alone. The rest, up to 100%, is due to combinations and noise. A pale bar is no finding: with the returns "
        "shuffled among the trials, one of twenty reaches as much.</p>"
        f'<table class="bars"><tbody>{rows}</tbody></table></section>'
    )


def _pale(share: float, chance: float) -> str:
    return ' class="pale"' if share <= chance else ""


def pictures(result: Result, shares: Mapping[str, float] | str) -> str:
    """All pictures for which this search has data."""
    from purerl import plots

    compared = result.comparable()
    stopped = len({updates for bracket in result.settings["brackets"] for _, updates in bracket}) > 1
    which = f", after the rung that most trials reached ({compared.steps:,} steps)" if stopped else ""
    fresh = "Greedy returns of the best trials, and of the same trials trained again on fresh seeds."
    every = f"Each name that was searched against the greedy return{which}."
    figures: list[tuple[str, Callable[[], Figure]]] = [
        ("Training returns of all trials over time, the best in colour.", lambda: plots.learning_curves(result)),
        ("Greedy return of every trial, by rank.", lambda: plots.ranking(result)),
        ("How much the ranking depends on the seeds, and on the rung.", lambda: plots.rank_stability(result)),
    ]
    if result.pareto is not None:
        beaten = (
            "All trials in the light of several objectives; no other trial beats those on the front in all of them."
        )
        figures.append((beaten, lambda: plots.pareto(result)))
    if len(result.fresh_trials):
        figures.append((fresh, lambda: plots.optimism(result)))
    if result.searched:
        lines = f"Every trial as a line through its values{which}."
        figures.append((every, lambda: plots.parameters(result)))
    if result.searched and not algorithms_of(result):
        figures.append((lines, lambda: plots.parallel_coordinates(result)))
    if len(result.searched) > 1 and not algorithms_of(result):
        x, y = list(result.searched if isinstance(shares, str) else shares)[:2]
        figures.append((f"The greedy return over {x} and {y}{which}.", lambda: plots.landscape(result, x, y)))
    return pieces.pictures(figures)


def trials(rows: Sequence[Row]) -> str:
    """The whole table; a click on a heading sorts by it."""
    shown = "All" if len(rows) <= _MOST_ROWS else f"The best {_MOST_ROWS:,} of"
    return pieces.table(
        f"{shown} {len(rows):,} trials",
        "<code>return</code> is the interquartile mean over the seeds of greedy episodes, <code>return_low</code> and "
        "<code>return_high</code> its bootstrap interval, <code>interval_coverage</code> the highest probability with "
        "which that contains the median of all seeds. trials.csv has all trials.",
        rows[:_MOST_ROWS],
    )


def facts(result: Result, about: Mapping[str, str]) -> str:
    """The spaces that were searched, and how the search ran."""
    settings = dict(result.settings)
    rungs = "; ".join(
        ", ".join(f"{count:,} trials to {updates * result.update_steps:,} steps" for count, updates in bracket)
        for bracket in settings.pop("brackets", ())
    )
    return pieces.facts(about, result.space, {"rungs": rungs, **settings})
