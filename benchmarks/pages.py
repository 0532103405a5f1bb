"""The record as a page and as pictures."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from benchmarks.driving import OURS
from benchmarks.records import Record

_LABELS = {
    "rejax": "rejax 0.1.3", "plain": "single file", "sb3": "Stable-Baselines3", "sbx": "sbx", "gymnax": "gymnax",
    "numpy": "NumPy", "scipy": "SciPy", "flashbax": "flashbax", "rlax": "rlax", "uncached": "uncached",
    "before": "before",
}  # fmt: skip

Figures: TypeAlias = Mapping[str, Any]


def busy(figures: Figures) -> float:
    """Seconds of processor time in a second."""
    return figures["cpu_seconds_per_million"] * figures["rate"] / 1e6


def peak_share(figures: Figures) -> float:
    """Rate of the program's matrix products over that of bare ones."""
    return figures["operations_per_unit"] * figures["rate"] / figures["peak_rate"]


# Columns of the tables by their heads: the figure without which a row has none, and how it is shown.
_COLUMNS: dict[str, tuple[str, Callable[[Figures], str]]] = {
    "compile": ("compile_seconds", lambda figures: f"{figures['compile_seconds']:.1f} s"),
    "temporary memory": ("temporary_bytes", lambda figures: f"{figures['temporary_bytes'] / 1e6:.4g} MB"),
    "operations": ("operations_per_unit", lambda figures: number(figures["operations_per_unit"])),
    "of the matrix rate": ("operations_per_unit", lambda figures: f"{peak_share(figures):.0%}"),
    "cores busy": ("cpu_seconds_per_million", lambda figures: f"{busy(figures):.1f}"),
}


def lines(name: str, entry: Mapping[str, Any]) -> list[str]:
    """One row as lines for the terminal."""
    ours = entry["sides"][OURS]
    low, high = (number(x) for x in ours["quartiles"])
    told = [
        f"{name}: {number(ours['rate'])} {entry['unit']}/s [{low}, {high}]{_cores(ours)}{_compile(ours)}{_use(ours)}"
    ]
    for side, figures in entry["sides"].items():
        if side != OURS:
            rate = f"{number(figures['rate'])}/s{_cores(figures)}"
            told.append(f"  {ratio(figures)} times {_LABELS[side]}, {rate}{_scores(ours, figures)}")
    return told


def markdown(record: Record) -> str:
    """A table for each group of rows."""
    groups: dict[str, list[str]] = {}
    for name in record:
        groups.setdefault(name.partition("/")[0], []).append(name)
    return "\n".join(_table(group, names, record) for group, names in groups.items() if group != "scaling")


def thresholds(sides: Mapping[str, Figures]) -> str:
    """The table of `results/threshold.json`."""
    rows = [
        (
            name,
            f"{each['median_steps']:,.0f}",
            f"{each['median_seconds']:.2f} s",
            f"{each['compile_seconds']:.1f} s",
            f"{each['seeds_that_reached_it']} of {len(each['steps'])}",
        )
        for name, each in sides.items()
    ]
    head = ("time to a return of 475 on CartPole-v1", "steps", "after compiling", "compile", "seeds that reached it")
    return f"## threshold\n\n{_cells(head)}\n{'|---' * len(head)}|\n" + "\n".join(map(_cells, rows)) + "\n"


def _table(group: str, names: list[str], record: Record) -> str:
    unit = record[names[0]]["unit"]
    columns = (f"{unit} per second", "purerl", "times the peer's", *_COLUMNS, "score")
    rows = [_row(name.partition("/")[2], record[name]) for name in names]
    return f"## {group}\n\n{_cells(columns)}\n{'|---' * len(columns)}|\n" + "\n".join(rows) + "\n"


def _row(name: str, entry: Mapping[str, Any]) -> str:
    ours = entry["sides"][OURS]
    peers = {side: figures for side, figures in entry["sides"].items() if side != OURS}
    times = "; ".join(f"{_LABELS[side]} **{ratio(figures)}**{_cores(figures)}" for side, figures in peers.items())
    scores = [
        f"{'' if side == OURS else _LABELS[side] + ' '}{figures['score']:.4g}"
        for side, figures in entry["sides"].items()
        if _known(figures)
    ]
    figures = [show(ours) if ours.get(key) else "" for key, show in _COLUMNS.values()]
    return _cells([name, f"{number(ours['rate'])}{_cores(ours)}", times, *figures, ", ".join(scores)])


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def ratio(figures: Figures) -> str:
    """The median with the least and the greatest."""
    middle, low, high = figures["ratio"]
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def number(value: float) -> str:
    """Three digits and a prefix: 12.3k."""
    return EngFormatter(places=None, sep="")(float(f"{value:.3g}"))


def _cores(figures: Figures) -> str:
    gain = f" ({figures['one_core_gain']:.2f} times all cores)" if "one_core_gain" in figures else ""
    return f" on one core{gain}" if figures.get("one_core") else ""


def _compile(figures: Figures) -> str:
    return f", compiled in {figures['compile_seconds']:.1f} s" if "compile_seconds" in figures else ""


def _use(figures: Figures) -> str:
    share = f", {peak_share(figures):.0%} of the matrix rate" if figures.get("operations_per_unit") else ""
    return f"{share}, {busy(figures):.1f} cores busy"


def _known(figures: Figures) -> bool:
    score = figures.get("score")
    return score is not None and math.isfinite(score)


def _scores(ours: Figures, theirs: Figures) -> str:
    if not (_known(ours) and _known(theirs)):
        return ""
    return f"; return {ours['score']:.4g} and {theirs['score']:.4g}"


def _decades(values: list[float]) -> tuple[float, float]:
    """The powers of ten around all values."""
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))


def scaling(record: Record, directory: pathlib.Path) -> None:
    """Steps per second and memory against environments and agents, as `scaling.png`, once those rows are measured."""
    if not any(name.startswith("scaling/") for name in record):
        return
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2, sharex="col")
    for column, what in enumerate(("environments", "agents")):
        found = {int(name.rpartition("/")[2]): record[name] for name in record if name.startswith(f"scaling/{what}/")}
        sizes = sorted(found)
        ours = [found[size]["sides"][OURS] for size in sizes]
        rates, memory = grid[0][column], grid[1][column]
        rates.plot(sizes, [each["rate"] for each in ours], "o-", color="#0072b2")
        rates.fill_between(sizes, *zip(*[each["quartiles"] for each in ours]), color="#0072b2", alpha=0.2)
        memory.plot(sizes, [each["temporary_bytes"] for each in ours], "o-", color="#d55e00")
        rates.set_title(f"against {what}", loc="left", fontsize=10)
        memory.set_xlabel(f"number of {what}")
        memory.set_xscale("log", base=2)
        memory.set_yscale("log")
        memory.set_ylim(*_decades([each["temporary_bytes"] for each in ours]))
        rates.set_ylim(bottom=0)
        for axes, unit in ((rates, ""), (memory, "B")):
            axes.yaxis.set_major_formatter(EngFormatter(unit, sep="" if not unit else " "))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.spines[["top", "right"]].set_visible(False)
    grid[0][0].set_ylabel("environment steps/s")
    grid[1][0].set_ylabel("temporary memory")
    figure.savefig(directory / "scaling.png", dpi=150)
