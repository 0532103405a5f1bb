"""The search that `purerl sweep` is to make, checked before anything is compiled or saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import purerl
from purerl import presets, sweep
from purerl.commands import compared, functions, searches, tasks, writers
from purerl.commands.options import UsageError
from purerl.commands.options.sweep import Options
from purerl.hparams import suggestion
from purerl.presets import references
from purerl.presets.tasks import Task, check_update
from purerl.sweep.model_search import MODELS
from purerl.sweep.results import pareto
from purerl.sweep.run.rungs import Bracket, Rung, Schedule
from purerl.sweep.trials import parsing, trials
from purerl.sweep.trials.algorithms import ALGORITHM
from purerl.sweep.trials.trials import Trials
from purerl.types import Agent, Env, Hparams, Key


class Job(NamedTuple):
    """A search that is about to run."""

    options: Options
    task: Task
    directory: Path
    agent: Any
    env: Env
    trials: Trials
    key: Key
    drawing: dict[str, Any]
    compared: dict[str, Task] = {}


def job_of(options: Options) -> Job:
    """Validate everything before anything is compiled or saved; the directory is still to be chosen."""
    pareto.check([options.judging.objective, *options.judging.pareto])
    writers.check(options.log)
    if options.replay is not None and options.method in MODELS:
        raise UsageError(f"--replay: trials of --method {options.method} cannot be replayed")
    several = compared.tasks_of(options)
    task = next(iter(several.values())) if several else tasks.resolve(options.setup, options.num_steps or 100_000)
    task = _to_the_end(task, options, _num_trials(options, task, several))
    several = {name: _as_long(each, task) for name, each in several.items()}
    for each in several.values() or (task,):
        tasks.check_in_jax(each, "sweep")
    env = task.make_env()
    drawing, agent = _of_several(options, several) if several else _of_one(options, task, env)
    key = jax.random.key(options.seed)
    drawn = _trials(jax.random.split(key, 4)[0], options, task, drawing, several)
    for group in drawn.groups:
        chosen, (built, where) = with_choices(task, several, group), compared.env_of(agent, env, group)
        metrics = check_update(chosen, presets.build(chosen.preset, where) if several else built, where)
        if (curve := options.judging.curve) not in metrics:
            raise UsageError(f"--curve {curve} is not a metric of {chosen.describe()}{suggestion(curve, metrics)}")
    return Job(options, task, Path(), agent, env, drawn, key, drawing, several)


def _num_trials(options: Options, task: Task, several: Mapping[str, Task]) -> int:
    """The number of trials; that of a grid does not depend on how long they are trained."""
    if options.method != "grid":
        return options.num_trials
    several = {name: _as_long(each, task) for name, each in several.items()}
    drawing, _ = _of_several(options, several) if several else _of_one(options, task, task.make_env())
    return trials.make(jax.random.key(options.seed), num_trials=None, **drawing).size


def _of_one(options: Options, task: Task, env: Env) -> tuple[dict[str, Any], Any]:
    """The space that trials are drawn from, and the agent, or a function from static choices to it."""
    space, static = _split(searches.space_of(options, task))
    agent: Any = _builder(task, env) if static else presets.build(task.preset, env)
    return _drawing(options, task, presets.hparams(task.preset), space, static), agent


def _of_several(options: Options, several: Mapping[str, Task]) -> tuple[dict[str, Any], Any]:
    """The same for a search that compares algorithms."""
    spaces = compared.space_of(options, several)
    space, static = _split(spaces[""])
    envs = {name: task.make_env() for name, task in several.items()}
    every = compared.made(several, spaces, envs, lambda name, chosen: _build(several[name], envs[name], chosen))
    found = {**every.space, **space}, {**every.static, **static}
    return _drawing(options, next(iter(several.values())), every.hparams, *found), every.agent


def _as_long(task: Task, first: Task) -> Task:
    """A task with as many steps as another."""
    return task._replace(preset=task.preset._replace(num_steps=first.preset.num_steps))


def _split(space: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        return parsing.split_static(space)
    except ValueError as error:
        raise UsageError(f"--space {error}") from error


def _to_the_end(task: Task, options: Options, num_trials: int) -> Task:
    """The task with as many steps as the longest rung makes, so that annealing ends with the last rung."""
    preset = task.preset
    brackets = _schedule(options)(num_trials, preset.num_updates)
    num_updates = max(bracket[-1].num_updates for bracket in brackets)
    return task._replace(preset=preset._replace(num_steps=num_updates * preset.num_envs * preset.rollout_length))


def described(job: Job) -> str:
    """What each agent trains, in words."""
    return " or ".join(each.describe() for each in job.compared.values() or (job.task,))


def plan_lines(job: Job) -> list[str]:
    """The exact plan of the schedule, one line per rung; empty if every trial is trained to the end, or if it began."""
    if job.options.resume is not None:
        return []
    options, preset = job.options, job.task.preset
    asked, steps = options.num_steps or 100_000, preset.num_envs * preset.rollout_length
    lines = []
    if preset.num_steps != asked:
        lines.append(
            f"{asked:,} steps are rounded to {preset.num_steps:,}: {preset.num_updates:,} updates of {steps:,} steps"
        )
    brackets = _schedule(options)(job.trials.size, preset.num_updates)
    if options.schedule == "full":
        return lines
    total = 0
    for number, bracket in enumerate(brackets, start=1):
        name = f"bracket {number}, " if len(brackets) > 1 else ""
        lines += [f"  {name}{line}" for line in _rungs(bracket, steps)]
        total += _bracket_steps(bracket) * steps * options.seeds
    return [*lines, f"  {total:,} environment steps in all"]


def _rungs(bracket: Bracket, steps: int) -> list[str]:
    return [
        f"rung {i}: {rung.num_trials:,} trial{'s' * (rung.num_trials > 1)} to {rung.num_updates * steps:,} steps each"
        for i, rung in enumerate(bracket, start=1)
    ]


def _bracket_steps(bracket: Bracket) -> int:
    """Updates of all trials of a bracket."""
    ends = [0, *(rung.num_updates for rung in bracket)]
    return sum(rung.num_trials * (end - begin) for rung, begin, end in zip(bracket, ends, ends[1:]))


def _drawing(
    options: Options, task: Task, hparams: Hparams, space: dict[str, Any], static: dict[str, Any]
) -> dict[str, Any]:
    """The space that trials are drawn from."""
    env_params = None
    if any(name.startswith(trials.ENV_PREFIX) for name in space):
        env_params = purerl.envs.env_params(task.env, **task.env_settings)
    constraint = None
    if options.constraint is not None:
        constraint = functions.load("--constraint", options.constraint, "a dict of what is searched")
    made = {"hparams": hparams, "space": space, "static": static, "env_params": env_params}
    return made | {"constraint": constraint}


def _trials(key: Key, options: Options, task: Task, drawing: dict[str, Any], several: Mapping[str, Task]) -> Trials:
    """The trials; with a model, some like those that it will choose, to be checked."""
    number = None if options.method == "grid" else options.num_trials
    drawn = trials.make(key, num_trials=number, method="random" if options.method == "random" else "sobol", **drawing)
    if options.method in MODELS and not drawn.columns:
        raise UsageError(f"--method {options.method} has nothing to choose: --space holds constants only")
    return annealed(task, several, drawn)


def annealed(task: Task, several: Mapping[str, Task], made: Trials) -> Trials:
    """If the learning rate is annealed, it is annealed over each group's own number of updates."""
    columns: dict[str, np.ndarray] = {}
    for number, group in enumerate(made.groups):
        own = several[group[ALGORITHM]].preset if several else task.preset
        now = with_choices(task, several, group).preset
        if own.anneal:
            name = f"{group[ALGORITHM]}_anneal_updates" if several else "anneal_updates"
            scale = np.float32(own.num_envs * own.rollout_length / (now.num_envs * now.rollout_length))
            column = columns.get(name, getattr(made.hparams, name))
            columns[name] = np.where(made.group == number, column * scale, column)
    return made._replace(hparams=made.hparams._replace(**columns))


def _builder(task: Task, env: Env) -> Any:
    """From static choices of the algorithm and the network to the agent."""

    def build(**static: Any) -> Agent:
        return _build(task, env, static)

    return build


def _build(task: Task, env: Env, static: Mapping[str, Any]) -> Agent:
    return presets.build(with_static(task, static).preset, env)


def with_choices(task: Task, several: Mapping[str, Task], static: Mapping[str, Any]) -> Task:
    """The task of a group of static choices, which may name one of several algorithms."""
    rest = {name: value for name, value in static.items() if name != ALGORITHM}
    return with_static(several[static[ALGORITHM]] if several else task, rest)


def with_static(task: Task, static: Mapping[str, Any]) -> Task:
    """The task with static choices put in: `num_envs`, `rollout_length`, `agent.<name>`, `network.<name>`."""
    preset = task.preset
    for name, value in static.items():
        part, _, field = name.partition(".")
        changed: Any = {part: dict(getattr(preset, part)) | {field: value} if field else value}
        preset = preset._replace(**changed)
    return task._replace(preset=preset)


def _schedule(options: Options) -> Schedule:
    """The schedule that the options name.

    Raises:
      ValueError: a `module:function` that cannot be found, or is not a schedule.
    """
    if references.is_reference(options.schedule):
        return _checked_schedule(options.schedule)
    if options.schedule in ("halving", "asha"):
        make: Any = sweep.asha if options.schedule == "asha" else sweep.successive_halving
        schedule: Schedule = make(options.eta, options.rungs)
        return schedule
    return sweep.hyperband(options.eta, options.rungs) if options.schedule == "hyperband" else sweep.full


def _checked_schedule(reference: str) -> Schedule:
    """A schedule of the user's, whose brackets are looked at whenever it is called."""
    schedule = references.load(reference)

    def checked(num_trials: int, num_updates: int, /) -> tuple[Bracket, ...]:
        try:
            found = schedule(num_trials, num_updates)
            brackets = tuple(tuple(Rung(*map(int, rung)) for rung in bracket) for bracket in found)
        except Exception as error:
            raise ValueError(
                f"--schedule {reference} must map (num_trials, num_updates) to brackets of rungs, as "
                f"purerl.sweep.successive_halving() does: {type(error).__name__}: {error}"
            ) from error
        rungs = [rung for bracket in brackets for rung in bracket]
        if not rungs or not all(brackets) or min(min(rung) for rung in rungs) < 1:
            raise ValueError(f"--schedule {reference} returned brackets without a trial or an update: {brackets}")
        return brackets

    return checked


def num_updates(job: Job) -> int:
    """The updates of a trial that is trained to the end, those that were added included.

    Raises:
      UsageError: fewer steps are added than an update has.
    """
    preset, added = job.task.preset, job.options.add_steps or 0
    steps = preset.num_envs * preset.rollout_length
    if 0 < added < steps:
        raise UsageError(f"--add-steps {added:,} is less than the {steps:,} steps of one update")
    return preset.num_updates + added // steps


def sizes_of(job: Job) -> dict[str, Any]:
    """The arguments that a search and its forecast share."""
    options, preset = job.options, job.task.preset
    return {
        "num_seeds": options.seeds,
        "num_updates": num_updates(job),
        "num_envs": preset.num_envs,
        "rollout_length": preset.rollout_length,
        "rollout": presets.rollout(preset),
        "schedule": _schedule(options),
        "block_size": options.block_size,
        "memory_limit": options.memory_limit,
        "eval_episodes": options.eval_episodes,
        "eval_max_steps": job.task.max_episode_steps(),
    }
