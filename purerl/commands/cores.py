"""How many CPU cores a command computes on. That is fixed once JAX starts, so it is read off the options alone."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from purerl.runtime import THREADS_VARIABLE, keep_programs_for_one_core

# Environments that are known without being made: a few numbers are observed, and the action is discrete or not.
_DISCRETE = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0")
_CONTINUOUS = ("Pendulum-v1", "MountainCarContinuous-v0")
_LARGEST = 2 * 512 * 64 * 64  # operations of a matrix product; from four times as many on, two cores are faster


def choose(options: Any) -> None:
    """Compute on one core if the options say so, or if they describe one small agent and nothing else was chosen.

    It changes nothing in a process whose JAX has started, and the user's own `PJRT_NPROC` or `NPROC` wins.
    """
    if THREADS_VARIABLE in os.environ or "NPROC" in os.environ or not hasattr(options, "cores"):
        return
    if options.cores == "one" or (options.cores is None and _trains_one_small_agent(options)):
        from purerl import distributed

        with contextlib.suppress(RuntimeError):
            distributed.use_one_core()
            keep_programs_for_one_core()


def told() -> str:
    """That one core is computed on, for the line that announces a command; empty otherwise."""
    return ", on one core" if os.environ.get(THREADS_VARIABLE) == "1" else ""


def _trains_one_small_agent(options: Any) -> bool:
    """Whether it is `purerl train` of one seed that is small. What is wrong is not small: the command says so later."""
    if not hasattr(options, "num_seeds"):
        return False
    with contextlib.suppress(ValueError, TypeError, ArithmeticError, LookupError, OSError):
        num_seeds, env_id, preset = _described(options) if options.resume is None else _saved(options)
        return num_seeds == 1 and is_small(env_id, preset)
    return False


def _saved(options: Any) -> tuple[int, str, Any]:
    """The number of seeds, the environment and the preset of the run to resume."""
    from purerl import runs
    from purerl.commands import resume
    from purerl.presets.tasks import task_from_json

    saved = runs.read_config(resume.directory(options.resume, options.output.name, options.output.runs_dir))
    task = task_from_json(saved["task"])
    return saved["num_seeds"], task.env, task.preset


def _described(options: Any) -> tuple[int, str, Any]:
    """The same of a new run, without making the environment."""
    from purerl import types
    from purerl.commands import tasks

    env_id = tasks.env_of(options.setup)
    space: Any = types.Box(-1.0, 1.0, (1,)) if env_id in _CONTINUOUS else types.Discrete(2)
    like = types.Env(None, None, types.Box(-1.0, 1.0, (4,)), space)  # type: ignore[arg-type]
    return options.num_seeds or 1, env_id, tasks.preset_of(options.setup, like, options.num_steps)


def is_small(env_id: str, preset: Any) -> bool:
    """Whether a gradient's largest matrix product, rows x width x width, is faster on one core than on two."""
    if env_id.removeprefix("gymnasium/") not in (*_DISCRETE, *_CONTINUOUS):
        return False
    steps = preset.num_envs * preset.rollout_length / preset.agent.get("num_minibatches", 1)
    rows = preset.replay["batch_size"] * preset.replay.get("length", 1) if preset.replay else steps
    width = max(preset.network.get("hidden", (64,)), default=1)
    return 2 * rows * width**2 <= _LARGEST
