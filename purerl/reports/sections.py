"""The parts of the report on a search, each a piece of HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from purerl.reports import pieces
from purerl.reports.pieces import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from purerl.sweep import Result


def summary(result: Result, rows: Sequence[Mapping[str, Any]]) -> str:
    """The search, whose table has these rows, in one line of large numbers."""
    settings, best = result.settings, result.best
    tiles = {
        "best return": short(best.iqm),
        "trials": f"{result.num_trials:,}",
        "seeds each": f"{result.num_seeds}",
        "steps each, at most": f"{int(result.steps[-1]):,}",
        "time": pieces.minutes(settings.get("seconds")),
        "agent-steps a second": pieces.rate(settings.get("steps_per_second")),
    }
    if "fresh_return" in rows[0]:
        fresh = short(rows[0]["fresh_return"])
        tiles = {"best return": tiles.pop("best return"), "the same on fresh seeds": fresh, **tiles}
    return pieces.tiles(tiles)


def best(result: Result, use: str | None) -> str:
    """The trial ranked first, and how to use it."""
    trial = result.best
    interval = "" if np.isnan(trial.interval[0]) else f", 95% interval {' to '.join(map(short, trial.interval))}"
    seeds = ", ".join(map(short, trial.returns.tolist()))
    text = (
        f"Trial {trial.number} returned {short(trial.iqm)} over {result.num_seeds} "
        f"seed{'s' * (result.num_seeds > 1)} ({seeds}){interval}, after {trial.steps:,} steps."
    )
    use = use if use is not None else as_python(trial.hparams, trial.choices)
    return pieces.code("The best trial", text, use)


def as_python(hparams: Any, choices: Mapping[str, Any]) -> str:
    """Hyperparameters as the call that makes them, and what else was chosen as comments."""
    lines = [f"    {name}={value!r}," for name, value in hparams._asdict().items()]
    others = [f"# {name} = {value!r}" for name, value in choices.items()]
    return "\n".join([f"{type(hparams).__name__}(", *lines, ")", *others])


def importances(shares: Mapping[str, float] | str) -> str:
    """Bars: how much of the spread each name accounts for; or why that is not known."""
    if isinstance(shares, str):
        return f"<section><h2>What mattered</h2><p>{escape(shares)}</p></section>"
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="bar"><i style="width:{100 * share:.1f}%"></i></td>'
        f"<td>{share:.0%}</td></tr>"
        for name, share in shares.items()
    )
    return (
        "<section><h2>What mattered</h2><p>Share of the variance of the returns that each name accounts for alone. "
        "What is missing to 100% is the part of combinations, and noise.</p>"
        f'<table class="bars"><tbody>{rows}</tbody></table></section>'
    )


def pictures(result: Result, shares: Mapping[str, float] | str) -> str:
    """All pictures that this search has something for."""
    from purerl import plots

    figures: list[tuple[str, Callable[[], Figure]]] = [
        ("Learning curves of all trials, the best in colour.", lambda: plots.learning_curves(result)),
        ("Return of every trial by rank.", lambda: plots.ranking(result)),
        ("How far the ranking depends on seeds and rungs.", lambda: plots.rank_stability(result)),
    ]
    if len(result.fresh_trials):
        figures.append(("The best trials, trained again on fresh seeds.", lambda: plots.optimism(result)))
    if result.searched:
        figures.append(("Each name that was searched against the return.", lambda: plots.parameters(result)))
        figures.append(("Every trial as a line through its values.", lambda: plots.parallel_coordinates(result)))
    if len(result.searched) > 1:
        x, y = list(result.searched if isinstance(shares, str) else shares)[:2]
        figures.append((f"The return over {x} and {y}.", lambda: plots.landscape(result, x, y)))
    return pieces.pictures(figures)


def trials(rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole table; a click on a heading sorts by it."""
    return pieces.table(
        f"All {len(rows):,} trials",
        "<code>return</code> is the interquartile mean over the seeds of greedy episodes, <code>return_low</code> and "
        "<code>return_high</code> its 95% bootstrap interval.",
        rows,
    )


def facts(result: Result, about: Mapping[str, str]) -> str:
    """What was searched, and how it ran."""
    settings = dict(result.settings)
    rungs = "; ".join(
        ", ".join(f"{count:,} trials to {updates * result.update_steps:,} steps" for count, updates in bracket)
        for bracket in settings.pop("brackets", ())
    )
    return pieces.facts(about, result.space, {"rungs": rungs, **settings})
