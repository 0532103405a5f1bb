"""The part that all schedules of `purerl sweep` share: the space, the directory, resuming, and the best policy."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl import loops, presets, runs
from purerl.commands import console, machines
from purerl.commands.options import UsageError, split_assignments
from purerl.commands.options.sweep import Options, restored
from purerl.commands.summaries import summary, train_command
from purerl.distributed import is_main
from purerl.presets.tasks import Task, file_name, task_from_json
from purerl.sweep.model_search import MODELS
from purerl.sweep.run import journal
from purerl.sweep.trials import parsing
from purerl.sweep.trials.spaces import When, ends
from purerl.text import with_tuples
from purerl.types import Agent, Env, Hparams, State


def space_of(options: Options, task: Task) -> dict[str, Any]:
    """Spaces and constants by name, as typed, or else those of the preset.

    Raises:
      UsageError: a text that is neither, or a number that is not finite.
    """
    return parsed(split_assignments("space", options.space) or presets.algorithm(task.preset.algorithm).space, task)


def parsed(texts: Mapping[str, str], task: Task, owner: str = "") -> dict[str, Any]:
    """The spaces that texts stand for, with numbers that the hyperparameters of the task can have; errors as above.

    Args:
      owner: of several algorithms, what precedes the names as typed, such as "dqn_".
    """
    try:
        space = parsing.parse_spaces(texts)
    except ValueError as error:
        raise UsageError(f"--space {owner}{error}") from error
    defaults = presets.hparams(task.preset)
    for name in filter(defaults._fields.__contains__, space):
        each = space[name].space if isinstance(space[name], When) else space[name]
        for value in ends(each):
            try:
                presets.check_number(name, value, type(defaults)._field_defaults.get(name))
            except ValueError as error:
                raise UsageError(f"--space {owner}{name}: {error}") from error
    return space


def resumed(options: Options) -> tuple[Options, Path]:
    """The options that a search was started with, and its directory.

    Raises:
      RunError: no such run.
      UsageError: no run is named, it is not a search, or other options are given.
    """
    output, named = options.output, options.resume or options.output.name
    if options.resume and output.name and options.resume != output.name:
        raise UsageError(f"--resume {options.resume} and --name {output.name} name two runs: leave out --name")
    if not named:
        raise UsageError("--resume needs the search to resume: --resume RUN")
    directory = runs.find(named, output.runs_dir)
    saved = runs.read_config(directory)
    if saved.get("command") != "sweep":
        raise UsageError(f"{directory} was made by purerl {saved.get('command')}, not by purerl sweep")
    return restored(options, with_tuples(_as_recorded(saved, directory))), directory


def _as_recorded(saved: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The options of a search, with the size in its journal, which is the larger one if it was killed as it grew."""
    options = dict(saved["options"])
    events = journal.read(directory) if journal.exists(directory) else []
    size = next((event for event in reversed(events) if event["kind"] == "size"), None)
    if size is None:
        return options
    for name, default in (("trials", 64), ("seeds", 3)):
        grown = len(size[name]) > 1 and sum(size[name]) > (options.get(f"num_{name}") or default)
        options |= {f"num_{name}": sum(size[name])} if grown else {}
    preset = task_from_json(saved["task"]).preset
    added = sum(size.get("updates", [])[1:]) * preset.num_envs * preset.rollout_length
    return options | ({"add_steps": added} if added > (options.get("add_steps") or 0) else {})


def begin(options: Options, task: Task, directory: Path | None, compared: Mapping[str, Task] | None = None) -> Path:
    """The directory of a search: a new one with its configuration, unless one is resumed."""
    if directory is not None:
        return directory
    config: dict[str, Any] = {"command": "sweep", "task": task.to_json(), "options": dataclasses.asdict(options)}
    config |= {"compared": {name: each.to_json() for name, each in compared.items()}} if compared else {}
    kind = "pbt" if options.schedule == "pbt" else "sweep"
    name = task.name if not compared else f"{'-'.join(compared)}-{file_name(task.env)}"
    return machines.create(options.output, f"{kind}-{name}", config)


def write_size(options: Options, directory: Path) -> None:
    """Write down the size of a search that has grown, once its journal has it."""
    saved = runs.read_config(directory)
    size = {name: getattr(options, name) for name in ("num_trials", "num_seeds", "add_steps")}
    if is_main() and saved["options"] | size != saved["options"]:
        runs.write_config(directory, saved | {"options": saved["options"] | size})


@contextlib.contextmanager
def kept(directory: Path, new: bool) -> Iterator[None]:
    """Say how to resume if the body is interrupted; remove a new directory if it fails before its first result."""
    with runs.removed_if_it_fails(directory, new):
        try:
            yield
        except KeyboardInterrupt:
            if runs.has_progress(directory):
                console.say(f"\nResults so far are saved. Resume with: purerl sweep --resume {runs.quoted(directory)}")
            raise


def keep_best(
    directory: Path,
    task: Task,
    agent: Agent,
    env: Env,
    hparams: Hparams,
    state: State,
    details: Mapping[str, Any],
    seed: int,
) -> str:
    """Save the best policy of a search, and play it on episodes that had no part in the choice.

    Args:
      directory: of the search.
      task: of the policy, apart from its hyperparameters.
      agent, env: of the task.
      hparams: the policy's hyperparameters.
      state: its state.
      details: saved with the policy.
      seed: of the episodes.

    Returns:
      Its returns, in words.
    """
    task = with_hparams(task, hparams)
    runs.save_policy(directory, task, state, {"command": "sweep", **details})
    max_steps = task.max_episode_steps()
    played = loops.evaluate(jax.random.key(seed), agent, env, state, num_episodes=100, max_steps=max_steps)
    return f"best policy on fresh episodes: {summary(np.asarray(played.episode_return, np.float64)[None])}"


def with_hparams(task: Task, hparams: Hparams) -> Task:
    """The task with the hyperparameters of a trial, annealing included."""
    defaults = presets.algorithm(task.preset.algorithm).hparams()()._asdict()
    changed = {name: value for name, value in hparams._asdict().items() if value != defaults[name]}
    return task._replace(preset=task.preset._replace(hparams=changed, anneal=False))


def say_how_to_train_again(
    task: Task,
    directory: Path,
    method: str,
    trial: int,
    hparams: Mapping[str, Any],
    choices: Mapping[str, Any],
    num_steps: int,
) -> None:
    """Print the commands that train the best trial again, which can be copied."""
    again, replay = train_command(task, hparams, choices, num_steps), replay_command(directory, method, trial)
    console.say(f"\nTrain the best trial again with:\n{again}\n")
    if replay is not None:
        console.say(f"To the bit, with the seeds of the search:\n{replay}\n")


def replay_command(directory: Path, method: str, trial: int) -> str | None:
    """The command that trains a trial of a finished search again, bit for bit; None if its method has no replay."""
    if method in MODELS:
        return None
    return f"purerl sweep --resume {runs.quoted(directory)} --replay {trial}"
