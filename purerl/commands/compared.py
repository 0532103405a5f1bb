"""`--space algorithm=choice:ppo,dqn`: the algorithms that a search compares, each with its preset and its own space."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from purerl import presets, sweep
from purerl.commands import searches, tasks
from purerl.commands.options import UsageError, split_assignments
from purerl.commands.options.sweep import Options
from purerl.presets.tasks import Task
from purerl.sweep import Trial
from purerl.sweep.trials import parsing
from purerl.sweep.trials.algorithms import ALGORITHM, own_fields, owner
from purerl.types import Agent, Env, Hparams


class Own(NamedTuple):
    """A trial as one of its own algorithm.

    Attributes:
      task: of the algorithm.
      hparams: all of its hyperparameters.
      searched: those that were searched.
      choices: `env.` parameters and static choices that were searched, apart from the algorithm.
    """

    task: Task
    hparams: dict[str, Any]
    searched: dict[str, Any]
    choices: dict[str, Any]


def own(task: Task, compared: Mapping[str, Task], trial: Trial) -> Own:
    """A trial of a search; `compared` has the tasks of its algorithms, and is empty if it is of one alone."""
    return own_of(task, compared, trial.hparams, trial.settings, trial.choices)


def own_of(
    task: Task, compared: Mapping[str, Task], table: Hparams, settings: Mapping[str, Any], choices: Mapping[str, Any]
) -> Own:
    """The same from the fields of a trial."""
    choices, hparams = dict(choices), table._asdict()
    searched = {name: value for name, value in settings.items() if name in hparams}
    if not compared:
        return Own(task, hparams, searched, choices)
    name = choices.pop(ALGORITHM)
    every = tuple(compared)
    return Own(compared[name], own_fields(hparams, name, every), own_fields(searched, name, every), choices)


def hparams_of(task: Task, values: Mapping[str, Any]) -> Hparams:
    """Hyperparameters as the class of the task's algorithm."""
    made: Hparams = presets.algorithm(task.preset.algorithm).hparams()(**values)
    return made


def tasks_of(options: Options) -> dict[str, Task]:
    """The tasks of the algorithms that are compared, by the names as typed; empty if the search is of one algorithm.

    Raises:
      UsageError: an algorithm is named twice, or beside --algorithm.
      ValueError: one of them is unknown, or cannot act in the environment.
    """
    text = split_assignments("space", options.space).get(ALGORITHM)
    if text is None:
        return {}
    try:
        names = parsing.parse_spaces({ALGORITHM: text})[ALGORITHM].values
    except ValueError as error:
        raise UsageError(f"--space {error}") from error
    for name in names:
        if not isinstance(name, str) or not name:
            raise UsageError(f"--space {ALGORITHM}={text}: {name!r} is not the name of an algorithm")
        try:
            presets.algorithm(name)
        except ValueError as error:
            raise UsageError(f"--space {ALGORITHM}={text}: {error}") from error
    if len(set(map(presets.canonical, names))) < len(names):
        raise UsageError(f"--space {ALGORITHM}={text} names an algorithm twice")
    if options.setup.algorithm is not None:
        raise UsageError(f"--algorithm and --space {ALGORITHM}=... are mutually exclusive")
    steps = options.num_steps or 100_000
    return {name: tasks.resolve(dataclasses.replace(options.setup, algorithm=name), steps) for name in names}


def space_of(options: Options, compared: Mapping[str, Task]) -> dict[str, Any]:
    """Spaces by the names of the table; an algorithm of which nothing is named has the space of its preset.

    Raises:
      UsageError: as `searches.space_of`.
    """
    typed = {name: text for name, text in split_assignments("space", options.space).items() if name != ALGORITHM}
    found: dict[str, Any] = {}
    for name, task in compared.items():
        mine = own_fields(typed, name, tuple(compared))
        texts = mine or dict(presets.algorithm(task.preset.algorithm).space)
        found[name] = searches.parsed(texts, task, owner=f"{name}_")
    shared = {key: text for key, text in typed.items() if owner(key, tuple(compared)) is None}
    if unknown := [key for key in shared if not key.startswith("env.") and not parsing.is_static(key)]:
        example = next(iter(compared))
        raise UsageError(
            f"--space {unknown[0]}: say of which algorithm it is, such as {example}_{unknown[0]}=..., since the search "
            f"compares {', '.join(compared)}"
        )
    return {"": searches.parsed(shared, next(iter(compared.values()))), **found}


def made(
    compared: Mapping[str, Task],
    spaces: Mapping[str, Any],
    envs: Mapping[str, Env],
    build: Callable[[str, Mapping[str, Any]], Agent],
) -> sweep.Algorithms:
    """The algorithms as a search takes them; `build` makes the agent from the name and further static choices."""
    every = {}
    for name, task in compared.items():
        preset = task.preset
        sizes = preset.num_envs, preset.rollout_length, presets.rollout(preset)
        agent = functools.partial(_built, build, name)
        every[name] = sweep.Algorithm(agent, presets.hparams(preset), spaces[name], *sizes, envs[name])
    return sweep.algorithms(every)


def _built(build: Callable[[str, Mapping[str, Any]], Agent], name: str, **static: Any) -> Agent:
    return build(name, static)


def env_of(agent: Any, env: Env, static: Mapping[str, Any]) -> tuple[Agent, Env]:
    """The agent of static choices, and the environment that it acts in."""
    if isinstance(agent, Agent):
        return agent, env
    found = agent(**{name: value for name, value in static.items() if name not in ("num_envs", "rollout_length")})
    return (found, env) if isinstance(found, Agent) else (found.agent, found.env or env)
