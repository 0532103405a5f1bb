"""Returns in words, and the command that trains an agent again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from purerl.presets.tasks import Task
from purerl.sweep import bootstrap_interval, interquartile_mean
from purerl.text import format_number


def summary(returns: np.ndarray) -> str:
    """Mean, interquartile mean and its 95% bootstrap interval, over the seeds or, for one seed, over its episodes.

    Args:
      returns: [S, E] of S seeds and E episodes each.
    """
    num_seeds, num_episodes = returns.shape
    values = returns.mean(axis=1) if num_seeds > 1 else returns[0]
    over = f"{num_seeds} seeds" if num_seeds > 1 else f"{num_episodes} episodes"
    mean, middle = format_number(float(values.mean())), format_number(float(interquartile_mean(values)))
    low, high = (format_number(float(end)) for end in bootstrap_interval(jax.random.key(0), values))
    interval = f", 95% interval {low} to {high}" if len(values) > 1 else ""
    return f"mean return {mean}, interquartile mean {middle}{interval} over {over}"


def train_command(task: Task, hparams: Mapping[str, Any], choices: Mapping[str, Any], num_steps: int) -> str:
    """The command that trains a trial of a search again; everything that differs from the preset is included.

    Args:
      task: of the search.
      hparams: the trial's hyperparameters that were searched.
      choices: what else was searched: `env.` parameters and static choices, by name.
      num_steps: environment steps of the trial.
    """
    preset = task.preset
    pairs: dict[str, dict[str, Any]] = {
        "env-settings": dict(task.env_settings), "hparams": {**preset.hparams, **hparams},
        "agent": dict(preset.agent), "network": dict(preset.network),
    }  # fmt: skip
    sizes = {"num_envs": preset.num_envs, "rollout_length": preset.rollout_length}
    for name, value in choices.items():
        part, _, field = name.partition(".")
        if field:
            pairs["env-settings" if part == "env" else part][field] = value
        else:
            sizes[part] = value
    plain = {"algorithm": preset.algorithm, "env": task.env, "dataset": preset.dataset, "num_steps": num_steps} | sizes
    words = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in plain.items() if value]
    words += [
        f"--{part} " + " ".join(shlex.quote(f"{name}={_typed(value)}") for name, value in each.items())
        for part, each in pairs.items()
        if each
    ]
    return " \\\n    ".join(["purerl train", *words])


def _typed(value: Any) -> str:
    """A value as the options take it: 64,64 for a tuple."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) + "," * (len(value) == 1)
    return str(value).lower() if isinstance(value, bool) else str(value)
