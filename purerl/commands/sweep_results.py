"""The output of a finished `purerl sweep`: the best policy, the table, and the figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from purerl import plots, runs, sweep
from purerl.commands import compared, console, searches, writers
from purerl.commands.options import UsageError
from purerl.commands.sweep_jobs import Job, with_choices
from purerl.sweep import Result
from purerl.sweep.results import pareto
from purerl.text import format_number, format_rate, format_seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def finish(job: Job, result: Result) -> None:
    """Save the best policy and play it on other episodes, show the table, and draw the figures last."""
    if np.isnan(result.iqm).all():
        console.console().print(sweep.table(result, top=job.options.top))
        if "stopped" in result.settings:
            raise UsageError(f"stopped before a trial was evaluated: {result.settings['stopped']}")
        raise FloatingPointError(
            "every trial diverged: no return is finite, and no policy was saved. Search lower learning rates"
        )
    played = _keep_best(job, result)
    console.console().print(sweep.table(result, top=job.options.top))
    _say_algorithms(result)
    if result.pareto is not None:
        _say_front(result)
    best = result.best
    own = compared.own(job.task, job.compared, best)
    method = job.options.method
    searches.say_how_to_train_again(own.task, job.directory, method, best.number, own.searched, own.choices, best.steps)
    console.prose(played)
    figures = draw(job.directory, result)
    settings = result.settings
    clock = ", ".join(filter(None, (format_seconds(settings["seconds"]), format_rate(settings["steps_per_second"]))))
    names = ["trials.csv", "curves.csv", "sweep.json", "policy/", *(path.name for path in figures)]
    console.prose(f"{clock}. Saved in {job.directory}: {', '.join(names)}")
    if job.options.log:
        logged = writers.of_trials(job.directory, job.options.log, job.task, job.compared, result, job.options.top)
        console.prose(f"Logged the {len(logged)} best trials to {', '.join(job.options.log)}")
    console.say(f"Play it with: purerl evaluate {runs.quoted(job.directory)}")
    console.say(f"Read about the search with: purerl report {runs.quoted(job.directory)}")


def _say_algorithms(result: Result) -> None:
    """A line per algorithm, if several are compared."""
    rows = sweep.by_algorithm(result)
    names = ("algorithm", "trials", "finished", "rank", "return", "median_return")
    heads = ("algorithm", "trials", "to the end", "best rank", "best return", "median return")
    if rows:
        console.print_table("Algorithms", heads, [[_short(row[name]) for name in names] for row in rows])


def _say_front(result: Result) -> None:
    """The trials that no other one beats in all objectives; at most 20."""
    found, rows = sweep.front(result), pareto.rows(result)
    aims = ", ".join(f"{name} {'up' if up else 'down'}" for name, up in zip(found.names, found.maximize))
    shown = [[_short(value) for value in row.values()] for row in rows[:20]]
    title = f"Pareto front of {aims}: {len(rows)} of {result.num_trials} trials, #: rank"
    console.print_table(title, ["#", *list(rows[0])[1:]] if rows else ["#"], shown)


def _short(value: Any) -> str:
    return format_number(value) if isinstance(value, float) else str(value)


def _keep_best(job: Job, result: Result) -> str:
    """Save the policy of the best trial; its returns on other episodes, in words."""
    best = result.best
    own = compared.own(job.task, job.compared, best)
    chosen = {name: value for name, value in best.choices.items() if not name.startswith("env.")}
    agent, env = compared.env_of(job.agent, job.env, chosen)
    details = {"trial": best.number, "seed_index": best.seed, "returns": best.returns.tolist()}
    if not math.isnan(best.fresh_iqm):
        details["return_on_fresh_seeds"] = best.fresh_iqm
    task, seed = with_choices(job.task, job.compared, chosen), job.options.seed + 1
    hparams = compared.hparams_of(task, own.hparams)
    return searches.keep_best(job.directory, task, agent, env, hparams, best.state, details, seed)


def compare(job: Job, again: Result) -> None:
    """Say whether a trial that was replayed has the returns of then."""
    trial = int(job.options.replay or 0)
    then = sweep.load(job.directory)
    same = bool(np.array_equal(then.returns[trial], again.returns[trial], equal_nan=True))
    returns = ", ".join(format_number(float(each)) for each in again.seed_returns[trial])
    console.prose(f"trial {trial}, trained again with its {again.num_seeds} seeds: returns {returns}")
    if not same:
        before = ", ".join(format_number(float(each)) for each in then.seed_returns[trial])
        raise FloatingPointError(f"in the search they were {before}: another device or version rounds differently")
    console.say("They are those of the search, bit for bit.")


def draw(directory: Path, result: Result) -> list[Path]:
    """Save the figures of a search; one that cannot be drawn is named, and the others are drawn."""
    figures: dict[str, Callable[[Result], Figure]] = {}
    if result.searched:
        figures = {"sweep": plots.sweep_figure, "parameters": plots.parameters}
    figures |= {"learning_curves": plots.learning_curves, "ranking": plots.ranking}
    figures["rank_stability"] = plots.rank_stability
    if result.searched and not sweep.by_algorithm(result):
        figures["parallel_coordinates"] = plots.parallel_coordinates
    if result.pareto is not None:
        figures["pareto"] = plots.pareto
    if len(result.fresh_trials):
        figures["optimism"] = plots.optimism
    paths = []
    for name, draw in figures.items():
        try:
            draw(result).savefig(directory / f"{name}.png", dpi=150)
            paths.append(directory / f"{name}.png")
        except Exception as error:  # the results are saved; no picture is worth more than they are
            console.prose(f"{name}.png could not be drawn: {error}")
    return paths
