"""The record as a page and as pictures."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping
from typing import Any

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


def lines(name: str, entry: Mapping[str, Any]) -> list[str]:
    """One row as lines for the terminal."""
    ours = entry["sides"][OURS]
    low, high = (number(x) for x in ours["quartiles"])
    told = [f"{name}: {number(ours['rate'])} {entry['unit']}/s [{low}, {high}]{_cores(ours)}{_compile(ours)}"]
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


def _table(group: str, names: list[str], record: Record) -> str:
    unit = record[names[0]]["unit"]
    head = f"## {group}\n\n| {unit} per second | purerl | times the peer's | compile | temporary memory | score |\n"
    rows = [_row(name.partition("/")[2], record[name]) for name in names]
    return head + "|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(name: str, entry: Mapping[str, Any]) -> str:
    ours = entry["sides"][OURS]
    peers = {side: figures for side, figures in entry["sides"].items() if side != OURS}
    times = "; ".join(f"{_LABELS[side]} **{ratio(figures)}**{_cores(figures)}" for side, figures in peers.items())
    scores = [
        f"{'' if side == OURS else _LABELS[side] + ' '}{figures['score']:.4g}"
        for side, figures in entry["sides"].items()
        if _known(figures)
    ]
    compile_ = f"{ours['compile_seconds']:.1f} s" if "compile_seconds" in ours else ""
    memory = f"{ours['temporary_bytes'] / 1e6:.4g} MB" if "temporary_bytes" in ours else ""
    return f"| {name} | {number(ours['rate'])}{_cores(ours)} | {times} | {compile_} | {memory} | {', '.join(scores)} |"


def ratio(figures: Mapping[str, Any]) -> str:
    """The median with the least and the greatest."""
    middle, low, high = figures["ratio"]
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def number(value: float) -> str:
    """Three digits and a prefix: 12.3k."""
    return EngFormatter(places=None, sep="")(float(f"{value:.3g}"))


def _cores(figures: Mapping[str, Any]) -> str:
    return " on one core" if figures.get("one_core") else ""


def _compile(figures: Mapping[str, Any]) -> str:
    return f", compiled in {figures['compile_seconds']:.1f} s" if "compile_seconds" in figures else ""


def _known(figures: Mapping[str, Any]) -> bool:
    score = figures.get("score")
    return score is not None and math.isfinite(score)


def _scores(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
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
