"""The search that `purerl sweep` is to make, checked before anything is compiled or saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import purerl
from purerl import presets, sweep
from purerl.commands import searches, tasks, writers
from purerl.commands.options import UsageError
from purerl.commands.options.sweep import Options
from purerl.presets import references
from purerl.presets.tasks import Task, check_update
from purerl.sweep.model_search import MODELS
from purerl.sweep.results import pareto
from purerl.sweep.run.rungs import Bracket, Rung, Schedule
from purerl.sweep.trials import parsing, trials
from purerl.sweep.trials.trials import Trials
from purerl.types import Agent, Env, Key


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


def job_of(options: Options) -> Job:
    """Validate everything before anything is compiled or saved; the directory is still to be chosen."""
    pareto.check([options.judging.objective, *options.judging.pareto])
    writers.check(options.log)
    if options.replay is not None and options.method in MODELS:
        raise UsageError(f"--replay: trials of --method {options.method} cannot be replayed")
    task = tasks.resolve(options.setup, options.num_steps or 100_000)
    task = _to_the_end(task, options)
    tasks.check_in_jax(task, "sweep")
    env = task.make_env()
    space, static = _split(searches.space_of(options, task))
    key = jax.random.key(options.seed)
    drawing = _drawing(options, task, space, static)
    drawn = _trials(jax.random.split(key, 4)[0], options, task, drawing)
    for group in drawn.groups:
        chosen = with_static(task, group)
        check_update(chosen, presets.build(chosen.preset, env), env)
    agent: Any = _builder(task, env) if static else presets.build(task.preset, env)
    return Job(options, task, Path(), agent, env, drawn, key, drawing)


def _split(space: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        return parsing.split_static(space)
    except ValueError as error:
        raise UsageError(f"--space {error}") from error


def _to_the_end(task: Task, options: Options) -> Task:
    """The task with as many steps as the longest rung makes, so that annealing ends with the last rung."""
    preset = task.preset
    brackets = _schedule(options)(options.num_trials, preset.num_updates)
    num_updates = max(bracket[-1].num_updates for bracket in brackets)
    return task._replace(preset=preset._replace(num_steps=num_updates * preset.num_envs * preset.rollout_length))


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


def _drawing(options: Options, task: Task, space: dict[str, Any], static: dict[str, Any]) -> dict[str, Any]:
    """The space that trials are drawn from."""
    env_params = None
    if any(name.startswith(trials.ENV_PREFIX) for name in space):
        env_params = purerl.envs.env_params(task.env, **task.env_settings)
    constraint = None if options.constraint is None else references.load(options.constraint)
    made = {"hparams": presets.hparams(task.preset), "space": space, "static": static, "env_params": env_params}
    return made | {"constraint": constraint}


def _trials(key: Key, options: Options, task: Task, drawing: dict[str, Any]) -> Trials:
    """The trials; with a model, some like those that it will choose, to be checked."""
    number = None if options.method == "grid" else options.num_trials
    drawn = trials.make(key, num_trials=number, method="random" if options.method == "random" else "sobol", **drawing)
    return annealed(task, drawn)


def annealed(task: Task, made: Trials) -> Trials:
    """If the learning rate is annealed, it is annealed over each group's own number of updates."""
    if not task.preset.anneal or made.groups == ({},):
        return made
    preset = task.preset
    batches = [
        group.get("num_envs", preset.num_envs) * group.get("rollout_length", preset.rollout_length)
        for group in made.groups
    ]
    scale = np.array([preset.num_envs * preset.rollout_length / batch for batch in batches], np.float32)
    annealed = made.hparams.anneal_updates * scale[made.group]
    return made._replace(hparams=made.hparams._replace(anneal_updates=annealed))


def _builder(task: Task, env: Env) -> Any:
    """From static choices of the algorithm and the network to the agent."""

    def build(**static: Any) -> Agent:
        return presets.build(with_static(task, static).preset, env)

    return build


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
        except TypeError as error:
            raise ValueError(
                f"--schedule {reference} must map (num_trials, num_updates) to brackets of rungs, as "
                f"purerl.sweep.successive_halving() does: {error}"
            ) from error
        rungs = [rung for bracket in brackets for rung in bracket]
        if not rungs or not all(brackets) or min(min(rung) for rung in rungs) < 1:
            raise ValueError(f"--schedule {reference} returned brackets without a trial or an update: {brackets}")
        return brackets

    return checked


def sizes_of(job: Job) -> dict[str, Any]:
    """The arguments that a search and its forecast share."""
    options, preset = job.options, job.task.preset
    return {
        "num_seeds": options.seeds,
        "num_updates": preset.num_updates,
        "num_envs": preset.num_envs,
        "rollout_length": preset.rollout_length,
        "rollout": presets.rollout(preset),
        "schedule": _schedule(options),
        "block_size": options.block_size,
        "memory_limit": options.memory_limit,
        "eval_episodes": options.eval_episodes,
        "eval_max_steps": job.task.max_episode_steps(),
    }
