"""What all schedules of `purerl sweep` share: the space, the directory, going on, and the best policy."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from purerl.commands import console, machines
from purerl.commands.options import Output
from purerl.commands.sweep_options import Options

if TYPE_CHECKING:
    from purerl.commands.runs import Task
    from purerl.types import Agent, Env


def space_of(options: Options, algorithm: str) -> dict[str, Any]:
    """Spaces and constants by name, as typed, or else the table's.

    Raises:
      UsageError: a text that is neither.
    """
    from purerl import presets
    from purerl.commands.options import split_assignments
    from purerl.commands.search_space import parse_spaces

    return parse_spaces(split_assignments("space", options.space) or presets.algorithm(algorithm).space)


def begin(options: Options, task: Task, resume: bool) -> Path:
    """The directory of a search: a new one, or the one to go on in."""
    from purerl.commands import runs

    if resume:
        return runs.directory_of(options.output)
    kind = "pbt" if options.schedule == "pbt" else "sweep"
    config = {"command": "sweep", "task": task.to_json(), "options": dataclasses.asdict(options)}
    return machines.create(options.output, f"{kind}-{task.preset.algorithm}-{task.env}", config)


@contextlib.contextmanager
def going_on(options: Options, directory: Path) -> Iterator[None]:
    """Say, where what follows is interrupted, how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        runs_dir = options.output.runs_dir
        where = f" --runs-dir {runs_dir}" if runs_dir != Output().runs_dir else ""
        console.say(f"\nwhat finished is saved; go on with: purerl sweep --resume --name {directory.name}{where}")
        raise


def keep_best(
    directory: Path, task: Task, agent: Agent, env: Env, hparams: Any, state: Any, details: Mapping[str, Any], seed: int
) -> str:
    """Save the best policy of a search, and play it on episodes that had no part in the choice.

    Args:
      directory: of the search.
      task: of the policy, but for its hyperparameters.
      agent, env: of the task.
      hparams: its hyperparameters.
      state: its state.
      details: what else is to be known about it.
      seed: of the episodes.

    Returns:
      How it did, in words.
    """
    import jax
    import numpy as np

    from purerl import loops, presets
    from purerl.commands import report, runs

    defaults = presets.algorithm(task.preset.algorithm).hparams()()._asdict()
    changed = {name: value for name, value in hparams._asdict().items() if value != defaults[name]}
    task = task._replace(preset=task.preset._replace(hparams=changed, anneal=False))
    runs.save_policy(directory, task, state, {"command": "sweep", **details})
    played = loops.evaluate(
        jax.random.key(seed), agent, env, state, num_episodes=100, max_steps=task.max_episode_steps()
    )
    return f"best policy on fresh episodes: {report.summary(np.asarray(played.episode_return, np.float64)[None])}"
