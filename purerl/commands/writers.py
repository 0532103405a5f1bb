"""Where training runs and searches log: runs always in metrics.csv, and both in what --log names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from purerl import logging, presets
from purerl.commands import compared, console, rows
from purerl.commands.options import UsageError
from purerl.commands.training import Config
from purerl.logging import Writer
from purerl.presets.tasks import Task

if TYPE_CHECKING:
    from purerl.sweep import Result, Trial


def check(names: tuple[str, ...]) -> None:
    """Check that the packages of services are installed.

    Raises:
      UsageError: one is missing, or a service is named twice.
    """
    if len(set(names)) < len(names):
        raise UsageError(f"--log names {max(names, key=names.count)} twice")
    for name in names:
        if name in ("tensorboard", "wandb", "mlflow"):
            logging.check_installed(name)


def of_run(
    config: Config, directory: Path, names: tuple[str, ...], step: int, sealed: Mapping[str, Any] | None
) -> list[Writer]:
    """One writer per seed. Rows after `step`, from which the run is resumed, are dropped if the format allows it.

    Args:
      config, directory: of the run.
      names: of the services, from --log.
      step: environment steps of each seed that have been logged.
      sealed: what was saved about metrics.csv with the checkpoint.
    """
    path = directory / "metrics.csv"
    if problem := rows.check_seal(path, sealed):
        console.prose(problem)
    table = logging.csv_writer(path, resume_at=step)

    def writer(seed: int) -> Writer:
        lines = table._replace(write=lambda step, metrics: table.write(step, {"seed": seed} | dict(metrics)))
        return logging.tee(lines, *[_writer(name, config, directory, seed, step) for name in names])

    return [writer(seed) for seed in range(config.num_seeds)]


def of_trials(
    directory: Path, names: tuple[str, ...], task: Task, several: Mapping[str, Task], result: Result, top: int
) -> list[int]:
    """Log the best trials of a search, each as one run of its own, and say which.

    A row per chunk holds the mean over the seeds of the learning curve; the last one also the final figures:
    `eval_return`, the trial's return, its interval, and its return on fresh seeds if it was trained again. The settings
    of a run are those of the search, the trial's own and its rank; beside a CSV file they are a file of JSON.
    """
    logged = []
    for rank, row in enumerate(result.rows()[:top], start=1):
        trial = result.select(rank)
        part = f"trial_{trial.number}"
        own = compared.own(task, several, trial)
        settings = own.task.to_json() | {
            "hparams": own.hparams, "searched": trial.settings, "trial": trial.number, "rank": rank
        }  # fmt: skip
        points = _points(result, trial, row)
        columns = tuple(dict.fromkeys(name for point in points.values() for name in point))
        logs = logging.tee(*[
            service(name, directory / name / part, f"{directory.name}-{part}", settings, 0, directory.name, columns)
            for name in names
        ])  # fmt: skip
        for step in sorted(points):
            logs.write(step, points[step])
        logs.close()
        logged.append(trial.number)
    return logged


_FINAL = {"return": "eval_return", "return_low": "eval_return_low", "return_high": "eval_return_high",
          "fresh_return": "fresh_return"}  # fmt: skip


def _points(result: Result, trial: Trial, row: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """The learning curve of a trial, and its final figures at its last step; figures that are NaN are left out."""
    metric = result.settings.get("curve", "episode_return")
    curve = result.curves[trial.number].T.astype(float)  # [S, C] -> [C, S]
    points = {
        step: {metric: float(np.nanmean(values))}
        for step, values in zip(result.steps.tolist(), curve)
        if not np.isnan(values).all()
    }
    final = {new: row[old] for old, new in _FINAL.items() if not np.isnan(row.get(old, np.nan))}
    goal = result.objective.name
    final |= {f"objective/{goal}": row[goal]} if goal in row and not np.isnan(row[goal]) else {}
    points[trial.steps] = points.get(trial.steps, {}) | final
    return points


def _writer(name: str, config: Config, directory: Path, seed: int, step: int) -> Writer:
    title = directory.name + (f"-seed{seed}" if config.num_seeds > 1 else "")
    where = directory / name / f"seed_{seed}"
    return service(name, where, title, _settings(config, seed), step, group=directory.name)


def service(
    name: str,
    where: Path,
    title: str,
    settings: dict[str, Any],
    step: int,
    group: str | None = None,
    columns: Sequence[str] = (),
) -> Writer:
    """The writer of a service.

    Args:
      name: of the service, as --log has it.
      where: its directory; for jsonl and csv the file, without its suffix.
      title, group: as W&B and MLflow show the run.
      settings: of the run.
      step: from which it is resumed; 0: it is new.
      columns: of a CSV file, beside which the settings are a file of JSON.
    """
    if name == "csv":
        return _csv(where, settings, columns)
    if name == "tensorboard":
        return logging.tensorboard_writer(where, resume_at=step or None, config=settings)
    if name == "wandb":
        return logging.wandb_writer(where, name=title, group=group, config=settings, resume=step > 0)
    if name == "mlflow":
        return logging.mlflow_writer(where, name=title, config=settings, resume=step > 0)
    if name == "jsonl":
        return logging.jsonl_writer(where.with_suffix(".jsonl"), resume_at=step)
    return logging.terminal_writer()


def _csv(where: Path, settings: dict[str, Any], columns: Sequence[str]) -> Writer:
    table, blank = logging.csv_writer(where.with_suffix(".csv")), dict.fromkeys(columns, float("nan"))
    where.with_suffix(".json").write_text(json.dumps(settings, indent=1, default=str) + "\n", encoding="utf-8")
    return table._replace(write=lambda step, metrics: table.write(step, blank | dict(metrics)))


def _settings(config: Config, seed: int) -> dict[str, Any]:
    """All settings of one seed's run, with every hyperparameter."""
    preset = config.task.preset
    settings = config.task.to_json()
    hparams = {name: float(value) for name, value in presets.hparams(preset)._asdict().items()}
    return settings | {"preset": settings["preset"] | {"hparams": hparams}, "seed": config.seed, "seed_index": seed}
