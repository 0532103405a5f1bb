"""A result for the terminal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from purerl.checkpoint import Json
from purerl.sweep.results.algorithms import algorithms_of
from purerl.sweep.results.result import Result
from purerl.sweep.results.statistics import coverage_limit
from purerl.sweep.results.storage import Row
from purerl.sweep.trials.algorithms import ALGORITHM, own_name, owner
from purerl.text import plural

if TYPE_CHECKING:
    from rich.table import Table


def table(result: Result, top: int = 10, width: int | None = None) -> Table:
    """The best trials as a table for `rich.print`: rank, return with its interval, return of each seed, parameters.

    Headers and numbers are never cut. If the table is too wide, borders go and long headers are broken; then the seeds,
    the intervals, the steps and finally the last parameters are left out, which the caption says.

    Args:
      result: a finished search.
      top: number of rows.
      width: columns of the terminal; None takes those of this one.
    """
    width = shutil.get_terminal_size().columns if width is None else width
    columns = _columns(result, result.rows()[:top])
    dropped: list[str] = []
    if _width(columns, compact=False) <= width:
        return _build(result, columns, dropped, compact=False)
    while _width(columns, compact=True) > width and any(column.optional for column in columns):
        last = max(columns, key=lambda column: column.optional)
        columns = [column for column in columns if column is not last]
        dropped.insert(0, last.header)
    return _build(result, columns, dropped, compact=True)


class _Column(NamedTuple):
    """A column. Of several that are `optional`, the one with the largest number is left out first; 0 never is."""

    header: str
    cells: list[str]
    style: str
    optional: int


def _columns(result: Result, rows: Sequence[Row]) -> list[_Column]:
    last = len(result.searched)
    columns = [
        _Column("#", [f"{row['rank']}{'=' * (row.get('tied', 1) > 1)}" for row in rows], "dim", 0),
        _Column("return", [_return(row) for row in rows], "bold", 0),
        _Column(_interval_name(result), [_interval(row) for row in rows], "", last + 3),
        _Column("seeds", [_seeds(row, result.num_seeds) for row in rows], "", last + 4),
    ]
    goal = result.objective.name
    if len(result.fresh_trials):
        columns.insert(2, _Column("fresh seeds", [_fresh(row) for row in rows], "bold", 0))
    if goal != "return":
        columns.insert(1, _Column(goal, [_short(row[goal]) for row in rows], "bold", 0))
    if any(row.get("tied", 1) > 1 for row in rows):
        columns += [_Column(name, [_short(row[name]) for row in rows], "", last + 2) for name in _criteria(rows)]
    if len(set(result.num_updates.tolist())) > 1:
        columns.append(_Column("steps", [f"{row['steps']:,}" for row in rows], "", last + 1))
    for place, (name, cells) in enumerate(_searched(result, rows).items()):
        columns.append(_Column(name, cells, "cyan", place))
    return columns


def _searched(result: Result, rows: Sequence[Row]) -> dict[str, list[str]]:
    """What was searched; of several algorithms, hyperparameters of one name are one column, whatever their owner."""
    names = algorithms_of(result)
    if not names:
        return {name: [_short(row[name], digits=3) for row in rows] for name in result.searched}
    columns = {ALGORITHM: [str(row[ALGORITHM]) for row in rows]}
    for name in (each for each in result.searched if each != ALGORITHM):
        own = own_name(name, owner(name, names)) or name
        cells = columns.setdefault(own, ["-"] * len(rows))
        for i, row in enumerate(rows):
            mine = owner(name, names) in (None, row[ALGORITHM])
            cells[i] = _short(row[name], digits=3) if mine else cells[i]
    return columns


def _build(result: Result, columns: list[_Column], dropped: list[str], compact: bool) -> Table:
    from rich import box
    from rich.table import Table

    style = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)} if compact else {"box": box.HEAVY_HEAD}
    words = {"title": _title(result), "title_justify": "left", "caption": _caption(result, dropped)}
    shown = Table(**words, header_style="bold", **style)  # type: ignore
    for column in columns:
        header = _broken(column.header) if compact else column.header
        shown.add_column(header, justify="right", style=column.style, no_wrap=True)
    for cells in zip(*(column.cells for column in columns)):
        shown.add_row(*cells)
    return shown


def _width(columns: list[_Column], compact: bool) -> int:
    """Width of the table: each column has spaces beside it, one if compact, and borders around and between."""
    lines = [[*(_broken(c.header) if compact else c.header).split("\n"), *c.cells] for c in columns]
    return 1 + sum((2 if compact else 3) + max(map(len, each)) for each in lines)


def _broken(header: str) -> str:
    """A long name on several lines.

    Examples:
      >>> _broken("learning_rate").split("\\n"), _broken("steps")
      (['learning_', 'rate'], 'steps')
    """
    return header if len(header) <= 7 else re.sub(r"(?<=[_.])(?=.)| ", "\n", header)


def _title(result: Result) -> str:
    most = "at most " if len(set(result.num_updates.tolist())) > 1 else ""
    sizes = f"{plural(result.num_trials, 'trial')} x {plural(result.num_seeds, 'seed')}"
    return f"{sizes}, {most}{result.steps[-1]:,} steps each"


def _caption(result: Result, dropped: list[str]) -> str:
    episodes = result.returns.shape[2]
    sentences = [f"Return: interquartile mean over the seeds, each the mean of {episodes} greedy episodes."]
    if _interval_name(result) not in dropped and result.num_seeds > 1:
        sentences.append(_about_interval(result.num_seeds))
    tied = int(result.num_tied[result.order[0]])
    if tied > 1:
        by = ", then ".join(_CRITERIA[name] for name in result.criteria)
        sentences.append(f"{tied} trials tie for the best result (=): they are ordered by {by}.")
    if len(result.fresh_trials):
        sentences.append("Trials that were trained again rank by their return on fresh seeds.")
    if "stopped" in result.settings:
        sentences.append(f"Stopped early: {result.settings['stopped']}.")
    diverged = int(result.diverged.any(axis=1).sum())
    if diverged:
        sentences.append(f"{diverged} of {result.num_trials} trials diverged.")
    again = result.fresh_trials[result.fresh_skips.number.any(axis=1)]
    skipped = np.union1d(np.flatnonzero(result.skips.number.any(axis=1)), again).size
    if skipped:
        sentences.append(f"{skipped} of {result.num_trials} trials had updates that were skipped: NaN or infinity.")
    if dropped:
        sentences.append(f"Too wide to be shown: {', '.join(dropped)}.")
    return " ".join(sentences)


_CRITERIA = {
    "area": "the area under the learning curve",
    "threshold": "the steps until it comes near its end",
}


def _interval_name(result: Result) -> str:
    """The header of the interval: with few seeds it is their range, whatever the bootstrap calls it."""
    return "95% interval" if coverage_limit(result.num_seeds) >= 0.9 else "range"


def _about_interval(num_seeds: int) -> str:
    covers = coverage_limit(num_seeds)
    if covers >= 0.9:
        return "Interval: bootstrap over the seeds."
    return (
        f"Range of {num_seeds} seeds: it contains the median of all seeds with a probability of {covers:.0%} at most."
    )


def _criteria(rows: Sequence[Row]) -> list[str]:
    return [name for name in ("area", "steps_to_threshold") if name in rows[0]]


def _fresh(row: Row) -> str:
    lost = row.get("fresh_diverged", 0)
    return f"{_short(row['fresh_return'])} ({lost:.0f} diverged)" if lost > 0 else _short(row["fresh_return"])


def _return(row: Row) -> str:
    return "diverged" if row.get("diverged") else _short(row["return"])


def _interval(row: Row) -> str:
    return "-" if np.isnan(row["return_low"]) else f"{_short(row['return_low'])} - {_short(row['return_high'])}"


def _seeds(row: Row, count: int) -> str:
    shown = " ".join(_short(row[f"return_seed_{seed}"]) for seed in range(min(count, 4)))
    return shown + " ..." * (count > 4)


def _short(value: Json, digits: int = 4) -> str:
    """A number in few characters: `digits` significant ones, NaN as a dash, anything else as it is."""
    if isinstance(value, bool | int | str | tuple):
        return str(value)
    if np.isnan(value):
        return "-"
    return f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:.{digits - 1}e}"
