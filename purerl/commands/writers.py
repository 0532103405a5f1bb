"""Where training runs and searches log: runs always in metrics.csv, and both in what --log names."""

from __future__ import annotations

from collections.abc import Mapping
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
    from purerl.sweep import Result


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
    """Log the best trials of a finished search, each as one run of its own, and say which.

    A row per chunk holds the mean over the seeds of the training return; the last one also `eval_return`, the trial's
    return. The settings of a run are those of the search, the trial's own and its rank.
    """
    logged = []
    for rank in range(1, min(top, result.num_trials) + 1):
        trial = result.select(rank)
        part = f"trial_{trial.number}"
        own = compared.own(task, several, trial)
        settings = own.task.to_json() | {
            "hparams": own.hparams, "searched": trial.settings, "trial": trial.number, "rank": rank
        }  # fmt: skip
        logs = logging.tee(*[
            service(name, directory / name / part, f"{directory.name}-{part}", settings, 0, group=directory.name)
            for name in names
        ])  # fmt: skip
        curve = result.curves[trial.number].T.astype(float)  # [S, C] -> [C, S]
        rows = {
            step: {"episode_return": float(np.nanmean(returns))}
            for step, returns in zip(result.steps.tolist(), curve)
            if not np.isnan(returns).all()
        }
        rows[trial.steps] = rows.get(trial.steps, {}) | {"eval_return": trial.iqm}
        for step in sorted(rows):
            logs.write(step, rows[step])
        logs.close()
        logged.append(trial.number)
    return logged


def _writer(name: str, config: Config, directory: Path, seed: int, step: int) -> Writer:
    title = directory.name + (f"-seed{seed}" if config.num_seeds > 1 else "")
    where = directory / name / f"seed_{seed}"
    return service(name, where, title, _settings(config, seed), step, group=directory.name)


def service(
    name: str, where: Path, title: str, settings: dict[str, Any], step: int, group: str | None = None
) -> Writer:
    """The writer of a service.

    Args:
      name: of the service, as --log has it.
      where: its directory; for jsonl the file, without its suffix.
      title, group: as W&B and MLflow show the run.
      settings: of the run.
      step: from which it is resumed; 0: it is new.
    """
    if name == "tensorboard":
        return logging.tensorboard_writer(where, resume_at=step or None, config=settings)
    if name == "wandb":
        return logging.wandb_writer(where, name=title, group=group, config=settings, resume=step > 0)
    if name == "mlflow":
        return logging.mlflow_writer(where, name=title, config=settings, resume=step > 0)
    if name == "jsonl":
        return logging.jsonl_writer(where.with_suffix(".jsonl"), resume_at=step)
    return logging.terminal_writer()


def _settings(config: Config, seed: int) -> dict[str, Any]:
    """All settings of one seed's run, with every hyperparameter."""
    preset = config.task.preset
    settings = config.task.to_json()
    hparams = {name: float(value) for name, value in presets.hparams(preset)._asdict().items()}
    return settings | {"preset": settings["preset"] | {"hparams": hparams}, "seed": config.seed, "seed_index": seed}
