"""From the options of a command to a task, with every mistake found before anything is compiled or saved."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import purerl
from purerl import datasets, presets
from purerl.commands.options import Setup, UsageError, parse_assignments
from purerl.presets import Preset
from purerl.presets.tasks import Task, bare_environment
from purerl.types import Env

_DEFAULT_ALGORITHM, _DEFAULT_ENV = "ppo", "CartPole-v1"


def resolve(setup: Setup, num_steps: int | None = None) -> Task:
    """The task that the options describe, with the preset's settings for what they leave out.

    Raises:
      ValueError: whatever is wrong with them, by name.
    """
    for name in ("env", "algorithm", "dataset"):
        if getattr(setup, name) == "":
            raise UsageError(f"--{name} is empty")
    env_id = env_of(setup)
    env_settings = parse_assignments("env-settings", setup.env_settings)
    _check_env_settings(env_id, env_settings)
    env = bare_environment(env_id, env_settings)
    preset = preset_of(setup, env, num_steps)
    batch = preset.num_envs * preset.rollout_length
    if preset.num_steps < batch:
        raise UsageError(
            f"--num-steps {preset.num_steps:,} is less than the steps of one update, "
            f"{preset.num_envs} environments x {preset.rollout_length} steps = {batch:,}"
        )
    if preset.num_updates >= 2**31:
        raise UsageError(f"--num-steps {preset.num_steps:,} is {preset.num_updates:,} updates; at most are 2^31 - 1")
    presets.hparams(preset)
    presets.rollout(preset)
    if preset.dataset:
        datasets.check_fits(datasets.load(preset.dataset), env)
    if purerl.envs.runs_on_host(env_id):
        env.close()  # type: ignore[attr-defined]  # it was made for its spaces
    return Task(env_id, env_settings, preset)


def check_in_jax(task: Task, command: str) -> None:
    """Reject an environment on the host for a command that runs many agents in one compiled program.

    Raises:
      UsageError: says what trains there.
    """
    if purerl.envs.runs_on_host(task.env):
        raise UsageError(
            f"purerl {command} runs many agents in one compiled program, but {task.env} runs on the host; "
            f"train one agent at a time with purerl train --env {task.env}"
        )


def env_of(setup: Setup) -> str:
    """The id of the environment that the options name."""
    return setup.env or _DEFAULT_ENV


def preset_of(setup: Setup, env: Env, num_steps: int | None) -> Preset:
    """The preset that the options name for an environment, read for its spaces only, with what they set."""
    name = setup.algorithm or _DEFAULT_ALGORITHM
    found = presets.find(name, env_of(setup), env, fast=setup.preset == "fast")
    return _changed(found._replace(algorithm=presets.canonical(name)), setup, num_steps)


def _changed(preset: Preset, setup: Setup, num_steps: int | None) -> Preset:
    """The preset with what the options set."""
    hparams = parse_assignments("hparams", setup.hparams)
    network = network_settings(parse_assignments("network", setup.network))
    return preset._replace(
        num_steps=num_steps or preset.num_steps,
        num_envs=setup.num_envs or preset.num_envs,
        rollout_length=setup.rollout_length or preset.rollout_length,
        hparams=dict(preset.hparams) | hparams,
        anneal=preset.anneal and "anneal_updates" not in hparams,
        agent=dict(preset.agent) | parse_assignments("agent", setup.agent),
        network=dict(preset.network) | network,
        dataset=absolute(setup.dataset),
        precision=setup.precision or preset.precision,
    )


def network_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a network, in which `hidden=32` means one hidden layer."""
    hidden = settings.get("hidden")
    one = isinstance(hidden, int) and not isinstance(hidden, bool)
    return settings | {"hidden": (hidden,)} if one else settings


def _check_env_settings(env_id: str, settings: dict[str, Any]) -> None:
    """Reject numbers that are not finite, and true or false for a number."""
    params = purerl.envs.env_params(env_id) if purerl.envs.has_params(env_id) else None
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--env-settings {name}={value}: the value must be finite")
        default = getattr(params, name, None)
        if isinstance(value, bool) and str(getattr(default, "dtype", "bool")) != "bool":
            raise UsageError(f"--env-settings {name}={str(value).lower()}: the value must be a number")


def absolute(dataset: str | None) -> str:
    """The absolute path of a dataset, so that it is found from any working directory; empty for none."""
    return os.path.abspath(dataset) if dataset else ""


def reject_missing(command: str, name: str, runs_dir: str, holding: str) -> None:
    """Reject a command whose run was not named, with the runs that could be.

    Args:
      command: name of the command.
      name: as typed.
      runs_dir: directory of all runs.
      holding: file that a run must hold.

    Raises:
      UsageError: the name is empty.
    """
    if name:
        return
    found = sorted({path.relative_to(runs_dir).parts[0] for path in Path(runs_dir).glob(f"*/{holding}")})
    known = f"{runs_dir}/ holds {', '.join(found[:8])}" if found else f"{runs_dir}/ holds none yet"
    raise UsageError(f"name a run: purerl {command} RUN ({known})")
