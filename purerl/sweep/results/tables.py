"""A result for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from purerl.sweep.results.result import Result

if TYPE_CHECKING:
    from rich.table import Table


def table(result: Result, top: int = 10) -> Table:
    """The best trials as a table for `rich.print`: rank, return with its interval, return of each seed, parameters.

    Args:
      result: a finished search.
      top: number of rows.
    """
    from rich.table import Table

    shown = Table(title=_title(result), title_justify="left", header_style="bold", caption=_caption(result))
    shown.add_column("#", justify="right", style="dim")
    shown.add_column("return", justify="right", style="bold")
    shown.add_column("95% interval", justify="right", no_wrap=True)
    shown.add_column("seeds", justify="right")
    rows, fresh, rungs = result.rows(), len(result.fresh_trials) > 0, len(set(result.num_updates.tolist())) > 1
    for name in ["fresh seeds"] * fresh + ["steps"] * rungs:
        shown.add_column(name, justify="right")
    for name in result.searched:
        shown.add_column(name, justify="right", style="cyan")
    for row in rows[:top]:
        interval = "-" if np.isnan(row["return_low"]) else f"{_short(row['return_low'])} - {_short(row['return_high'])}"
        seeds = " ".join(_short(row[f"return_seed_{seed}"]) for seed in range(min(result.num_seeds, 4)))
        more = " ..." if result.num_seeds > 4 else ""
        extra = [_short(row["fresh_return"])] if fresh else []
        extra += [f"{row['steps']:,}"] if rungs else []
        parameters = [_short(row[name], digits=3) for name in result.searched]
        shown.add_row(str(row["rank"]), _short(row["return"]), interval, seeds + more, *extra, *parameters)
    return shown


def _title(result: Result) -> str:
    most = "at most " if len(set(result.num_updates.tolist())) > 1 else ""
    return f"{result.num_trials} trials x {result.num_seeds} seeds, {most}{result.steps[-1]:,} steps each"


def _caption(result: Result) -> str:
    return (
        f"return: interquartile mean over the seeds, each the mean of {result.returns.shape[2]} greedy episodes; "
        "interval: bootstrap over the seeds"
    )


def _short(value: Any, digits: int = 4) -> str:
    """A number in few characters: numbers with `digits` significant ones, NaN as a dash, all else as it is."""
    if isinstance(value, bool | int | str | tuple):
        return str(value)
    if np.isnan(value):
        return "-"
    return f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:.{digits - 1}e}"
