"""Resuming a training run: its configuration, after a check that the options ask for the same settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from purerl import presets, runs
from purerl.commands import tasks
from purerl.commands.options import Setup, UsageError, parse_assignments
from purerl.commands.options.train import Options
from purerl.commands.training import Config
from purerl.presets.tasks import Task, task_from_json


def directory(resume: str, name: str | None, runs_dir: str) -> Path:
    """The directory of the run to resume, which is named by --resume RUN, or by --resume and --name.

    Raises:
      UsageError: no run is named, or two are.
      RunError: no such run.
    """
    if resume and name and resume != name:
        raise UsageError(f"--resume {resume} and --name {name} name two runs: leave out --name")
    if not (resume or name):
        raise UsageError("--resume needs the run to resume: --resume RUN")
    return runs.find(resume or name or "", runs_dir)


def config(path: Path, options: Options) -> Config:
    """The configuration of the run in a directory, made longer if `num_steps` says so.

    Raises:
      UsageError: it is not a training run, or an option differs from its settings; it is named.
    """
    saved = runs.read_config(path)
    if saved.get("command") != "train":
        raise UsageError(f"{path} was made by purerl {saved.get('command')}, not by purerl train")
    during = saved.get("eval_every", 0), saved.get("until")  # runs of older versions have neither
    config = Config(task_from_json(saved["task"]), saved["num_seeds"], saved["seed"], *during)
    preset = config.task.preset
    setup = options.setup
    before = {"algorithm": preset.algorithm, "env": config.task.env, "num_envs": preset.num_envs}
    before |= {"rollout_length": preset.rollout_length, "num_seeds": config.num_seeds, "seed": config.seed}
    before |= {"dataset": preset.dataset, "eval_every": config.eval_every}
    wanted = dataclasses.asdict(setup) | {"num_seeds": options.num_seeds, "seed": options.seed}
    wanted["eval_every"] = options.eval_every
    wanted["algorithm"] = presets.canonical(setup.algorithm) if setup.algorithm else None
    wanted["dataset"] = tasks.absolute(setup.dataset) or None
    _check({name: value for name, value in wanted.items() if name in before and value is not None}, before)
    _check_preset(setup, config.task)
    _check(parse_assignments("env-settings", setup.env_settings), config.task.env_settings)
    _check(parse_assignments("hparams", setup.hparams), presets.hparams(preset)._asdict())
    _check(parse_assignments("agent", setup.agent), preset.agent)
    _check(tasks.network_settings(parse_assignments("network", setup.network)), preset.network)
    return _extended(path, config, options)


def _check_preset(setup: Setup, task: Task) -> None:
    """`--preset fast` must be what the run was started with, apart from what other options set."""
    fast = presets.algorithm(task.preset.algorithm).fast.get(task.env)
    left = [name for name in ("num_envs", "rollout_length", "hparams", "agent", "network") if not getattr(setup, name)]
    if setup.preset == "fast" and any(getattr(fast, name, None) != getattr(task.preset, name) for name in left):
        raise UsageError("--preset fast: the run was started with others; a resumed run keeps its settings")


def _check(wanted: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if name not in before or value != before[name]:
            was = f"{name} = {before[name]}" if name in before else f"no {name}"
            raise UsageError(f"the run was started with {was}, not {value}; a resumed run keeps its settings")


def _extended(path: Path, config: Config, options: Options) -> Config:
    """The configuration with more steps or another return to reach, which is saved if anything changed."""
    preset, num_steps = config.task.preset, options.num_steps or config.task.preset.num_steps
    if num_steps < preset.num_steps:
        raise UsageError(
            f"the run was started with num_steps = {preset.num_steps:,}, not {num_steps:,}; a resumed run can only be "
            "made longer"
        )
    if options.until is not None and not config.eval_every:
        raise UsageError("--until needs evaluations, and the run was started without --eval-every")
    longer = config._replace(
        task=config.task._replace(preset=preset._replace(num_steps=num_steps)),
        until=config.until if options.until is None else options.until,
    )
    if longer != config:
        runs.write_config(path, runs.read_config(path) | longer.to_json())
    return longer
