"""`--initial RUN`: the first members of a population have the hyperparameters of the best trials of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from purerl import presets, runs, sweep
from purerl.commands.options import UsageError
from purerl.commands.options.sweep import Options
from purerl.hparams import python_number
from purerl.pbt.initial import best_trials
from purerl.presets.tasks import Task
from purerl.types import Hparams

Founders: TypeAlias = dict[str, list[float]]
"""Values of the first members, from the best trial on, by the names of hyperparameters."""


def read(options: Options, task: Task, names: Sequence[str]) -> Founders:
    """The values that the best trials of the search `--initial` have of these hyperparameters.

    Raises:
      UsageError, RunError: there is no such search; it has not finished, is of another agent or environment, or
        searched none of these hyperparameters.
    """
    directory = runs.find(options.population.initial or "", options.output.runs_dir)
    _check(directory, task)
    result = sweep.load(directory)
    best = best_trials(result, options.num_trials)
    shared = [name for name in names if name in result.searched]
    if not shared:
        raise UsageError(
            f"--initial {directory} searched {', '.join(result.searched)}, and --space has none of these: "
            f"{', '.join(names)}"
        )
    return {name: list(map(python_number, getattr(result.hparams, name)[best])) for name in shared}


def table(founders: Founders, task: Task) -> Hparams | None:
    """All hyperparameters of the first members, leaves [n]; what was not searched is the preset's."""
    if not founders:
        return None
    hparams, count = presets.hparams(task.preset), len(next(iter(founders.values())))
    columns = {name: np.full(count, value) for name, value in hparams._asdict().items()}
    return hparams._replace(**columns | {name: np.array(values) for name, values in founders.items()})


def _check(directory: Path, task: Task) -> None:
    """Reject what is not a finished search of the same agent and environment."""
    saved = runs.read_config(directory)
    if saved.get("command") != "sweep" or saved["options"].get("schedule") == "pbt":
        raise UsageError(f"--initial {directory} is not a search: name a run of purerl sweep without --schedule pbt")
    theirs, ours = (_told(each) for each in (saved["task"], task.to_json()))
    if theirs != ours:
        raise UsageError(f"--initial {directory} is a search of {theirs}, but this population is of {ours}")
    if not (directory / "sweep.json").is_file():
        raise UsageError(
            f"--initial {directory} has not finished: resume it with purerl sweep --resume {runs.quoted(directory)}"
        )


def _told(task: dict) -> str:  # type: ignore[type-arg]
    settings = " ".join(f"{name}={value}" for name, value in sorted(task["env_settings"].items()))
    return f"{task['preset']['algorithm']} on {task['env']}" + (f" with {settings}" if settings else "")
