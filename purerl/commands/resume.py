"""Going on with a training run: its configuration, after a check that the options ask for nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from purerl import presets
from purerl.commands import runs
from purerl.commands.options import Setup, UsageError, parse_assignments
from purerl.commands.training import Config
from purerl.presets import Preset


def config(directory: Path, setup: Setup, *, num_steps: int | None, num_seeds: int | None, seed: int | None) -> Config:
    """The configuration of the run in a directory, made longer where `num_steps` says so.

    Raises:
      UsageError: there is no training run, or an option differs from its settings (it is named).
    """
    saved = runs.read_config(directory)
    if saved.get("command") != "train":
        raise UsageError(f"{directory} was made by purerl {saved.get('command')}, which has nothing to resume")
    config = Config(runs.task_from_json(saved["task"]), saved["num_seeds"], saved["seed"])
    preset = config.task.preset
    before = {"algorithm": preset.algorithm, "env": config.task.env, "num_envs": preset.num_envs}
    before |= {"rollout_length": preset.rollout_length, "num_seeds": config.num_seeds, "seed": config.seed}
    before["dataset"] = preset.dataset
    wanted = dataclasses.asdict(setup) | {"num_seeds": num_seeds, "seed": seed}
    wanted["dataset"] = runs.absolute(setup.dataset) or None
    _check({name: value for name, value in wanted.items() if name in before and value is not None}, before)
    _check(parse_assignments("env-settings", setup.env_settings), config.task.env_settings)
    _check(parse_assignments("hparams", setup.hparams), _hparams(preset))
    _check(parse_assignments("agent", setup.agent), preset.agent)
    _check(parse_assignments("network", setup.network), preset.network)
    return _extended(directory, config, num_steps)


def _check(wanted: dict[str, Any], before: Any) -> None:
    for name, value in wanted.items():
        if name not in before or value != before[name]:
            was = f"{name} = {before[name]}" if name in before else f"no {name}"
            raise UsageError(f"the run was started with {was}, not {value}: a resumed run keeps its settings")


def _hparams(preset: Preset) -> dict[str, Any]:
    return presets.hparams(preset)._asdict()


def _extended(directory: Path, config: Config, num_steps: int | None) -> Config:
    preset = config.task.preset
    if num_steps is None or num_steps == preset.num_steps:
        return config
    if preset.anneal or num_steps < preset.num_steps:
        why = "the learning rate falls to 0 by then" if preset.anneal else "a resumed run can only become longer"
        raise UsageError(f"the run was started with num_steps = {preset.num_steps:,}, not {num_steps:,}: {why}")
    config = config._replace(task=config.task._replace(preset=preset._replace(num_steps=num_steps)))
    runs.write_json(directory / "config.json", runs.read_config(directory) | config.to_json())
    return config
