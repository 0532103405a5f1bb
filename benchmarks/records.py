"""The record of the suite: figures by row and side, with the machine, the versions and the day."""

from __future__ import annotations

import datetime
import json
import pathlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

from benchmarks.driving import OURS
from purerl.runtime import num_cores

PATH = pathlib.Path(__file__).parent / "results" / "suite.json"
Record = dict[str, dict[str, Any]]


def load(path: pathlib.Path = PATH) -> Record:
    """The recorded rows by name; none if the file does not exist."""
    return json.loads(path.read_text()) if path.is_file() else {}


def save(record: Record, path: pathlib.Path = PATH) -> None:
    """Write the record, with what is not finite as null."""
    text = json.dumps({name: record[name] for name in sorted(record)}, indent=1)
    path.write_text(text.replace("NaN", "null") + "\n", encoding="utf-8")


def entry(unit: str, sides: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, Any]:
    """The record of one row."""
    device = jax.devices()[0]
    cpu = f"{num_cores()} cores, {platform.machine()}"
    return {
        "unit": unit,
        "rounds": rounds,
        "date": datetime.date.today().isoformat(),
        "machine": cpu if device.platform == "cpu" else f"{device.device_kind}, {cpu}",
        "versions": {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "gymnax")},
        "sides": {side: _rounded(figures) for side, figures in sides.items()},
    }


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _digits(value) for name, value in figures.items()}


def _digits(value: Any) -> Any:
    """Four significant digits."""
    return [_digits(each) for each in value] if isinstance(value, list) else float(f"{value:.4g}")


def verdict(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """One line: purerl's rate now over that of the record, judged only where their quartiles do not overlap."""
    ours, theirs = new["sides"][OURS], old["sides"][OURS]
    ratio = ours["rate"] / theirs["rate"]
    if ours["quartiles"][0] > theirs["quartiles"][1]:
        word = "faster"
    elif ours["quartiles"][1] < theirs["quartiles"][0]:
        word = "slower"
    else:
        word = "within the noise"
    return f"{ratio:.2f} of the record of {old['date']}: {word}"
