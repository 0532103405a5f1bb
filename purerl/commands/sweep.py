"""`purerl sweep`: search hyperparameters, many agents in one compiled program."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

import purerl
from purerl import plots, presets, sweep
from purerl.commands import console, machines, pbt, plans, searches, tasks
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.sweep import Options, check
from purerl.distributed import is_main
from purerl.presets import references
from purerl.presets.tasks import Task, check_update
from purerl.sweep import Progress, Result
from purerl.sweep.model_search import MODELS
from purerl.sweep.results import objectives
from purerl.sweep.run import journal, ray_executor
from purerl.sweep.run.rungs import Bracket, Rung, Schedule
from purerl.sweep.trials import parsing, trials
from purerl.sweep.trials.trials import Trials
from purerl.text import format_number, format_rate, format_seconds
from purerl.types import Agent, Env, Key

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def run(options: Options) -> None:
    """Search as the options say.

    Raises:
      UsageError: they cannot be carried out.
      FloatingPointError: every trial diverged.
      KeyboardInterrupt: after a line that says how to resume.
    """
    if options.resume is None:
        check(options)
    if options.plan:
        return _forecast(options)
    try:
        with machines.joined(options.distributed):
            directory = None
            if options.resume is None:
                machines.check_free(options.output)
            else:
                options, directory = searches.resumed(options)
            (pbt.run if options.schedule == "pbt" else _run)(options, directory)
    except BlockingIOError as error:
        raise UsageError(str(error)) from error


def _forecast(options: Options) -> None:
    """Print what the search would take on an accelerator that need not be there."""
    with usage_errors():
        target = plans.find(options.plan or "")
        job = _job(options)
    console.prose(f"{job.trials.size:,} trials x {options.seeds} seeds, each {job.task.describe()}")
    for line in _plan(job):
        console.say(line)
    plans.show(target, sweep.forecast(target, job.agent, job.env, job.trials, **_sizes(job)), options.memory_limit)


def _run(options: Options, directory: Path | None) -> None:
    with usage_errors():
        job = _job(options)
        job = job._replace(directory=searches.begin(options, job.task, directory))
    count, seeds = job.trials.size, options.seeds
    console.prose(f"{count:,} trials x {seeds} seeds, each {job.task.describe()} -> {job.directory}")
    for line in _plan(job):
        console.say(line)
    with searches.kept(job.directory, new=directory is None):
        result = _search(job, directory is not None)
    if is_main():
        (_finish if options.replay is None else _compare)(job, result)


# --- Before -----------------------------------------------------------------------------------------------------------


def _job(options: Options) -> Job:
    """Validate everything before anything is compiled or saved; the directory is still to be chosen."""
    objectives.parse(options.judging.objective)
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
        chosen = _with_static(task, group)
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


def _plan(job: Job) -> list[str]:
    """The exact plan of the schedule, one line per rung; empty if every trial is trained to the end."""
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
    """What trials are drawn from."""
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
    return _annealed(task, drawn)


def _annealed(task: Task, made: Trials) -> Trials:
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
        return presets.build(_with_static(task, static).preset, env)

    return build


def _with_static(task: Task, static: Mapping[str, Any]) -> Task:
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


# --- Search -----------------------------------------------------------------------------------------------------------


def _search(job: Job, resume: bool) -> Result:
    options, preset = job.options, job.task.preset
    total = preset.num_updates * preset.num_envs * preset.rollout_length * job.trials.size * options.seeds
    limits = options.limits
    sizes: dict[str, Any] = {
        "num_seeds": "auto" if options.num_seeds == "auto" else options.seeds,
        "num_updates": preset.num_updates, "num_envs": preset.num_envs, "rollout_length": preset.rollout_length,
        "rollout": presets.rollout(preset), "schedule": _schedule(options), "block_size": options.block_size,
        "memory_limit": options.memory_limit, "eval_episodes": options.eval_episodes,
        "eval_max_steps": job.task.max_episode_steps(), "stop_clearly_worse": options.stop_clearly_worse,
        "until": limits.until, "max_steps": limits.max_steps, "max_seconds": limits.max_seconds,
        "confirm": options.confirm, "confirm_seeds": options.confirm_seeds, "directory": job.directory,
        "save_seconds": options.save_seconds, **vars(options.judging), **_executor(options),
    }  # fmt: skip
    with console.progress(total) as show, _settings_that_differ(resume):
        sizes["progress"] = lambda progress: _show(show, progress)
        if options.method in MODELS:
            chosen: Any = {"model": options.method, "num_trials": options.num_trials, "batch_size": options.batch_size}
            chosen |= {"adjust": lambda made: _annealed(job.task, made), "resume": resume}
            return sweep.model_search(job.key, job.agent, job.env, **chosen, **job.drawing, **sizes)
        again = resume and journal.exists(job.directory)
        return sweep.search(job.key, job.agent, job.env, job.trials, resume=again, replay=options.replay, **sizes)


def _sizes(job: Job) -> dict[str, Any]:
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


@contextlib.contextmanager
def _settings_that_differ(resume: bool) -> Any:
    """Report a search that cannot be resumed with these settings, which the library rejects, in one line."""
    try:
        yield
    except ValueError as error:
        if not resume or type(error).__name__ == "CheckpointError":
            raise
        raise UsageError(str(error)) from error


def _executor(options: Options) -> dict[str, Any]:
    if options.ray is None:
        return {}
    with usage_errors():
        address = None if options.ray == "local" else options.ray
        return {"executor": ray_executor.on_ray(address, num_gpus=options.ray_gpus)}


def _show(show: console.Update, progress: Progress) -> None:
    """Update the progress. The first part compiles, so the rate counts from its end."""
    if progress.note:
        console.prose(progress.note)
    if progress.phase == "compile":
        return
    best = "" if math.isnan(progress.best_return) else f"best return {format_number(progress.best_return)}"
    state = "evaluating" if progress.phase == "evaluate" else best
    show(progress.steps, ", ".join(filter(None, (state, console.memory_in_use()))), progress.total_steps)


# --- After ------------------------------------------------------------------------------------------------------------


def _finish(job: Job, result: Result) -> None:
    """Save the best policy and play it on other episodes, show the table, and draw the figures last."""
    if np.isnan(result.iqm).all():
        console.console().print(sweep.table(result, top=job.options.top))
        if "stopped" in result.settings:
            raise UsageError(f"stopped before a trial was evaluated: {result.settings['stopped']}")
        raise FloatingPointError(
            "every trial diverged: no return is finite, and no policy was saved. Search lower learning rates"
        )
    played = _keep_best(job, result)
    console.console().print(sweep.table(result, top=job.options.top))
    best = result.best
    searched = {name: value for name, value in best.hparams._asdict().items() if name in result.searched}
    searches.say_how_to_train_again(job.task, job.directory, best.number, searched, best.choices, best.steps)
    console.prose(played)
    figures = _draw(job.directory, result)
    settings = result.settings
    clock = ", ".join(filter(None, (format_seconds(settings["seconds"]), format_rate(settings["steps_per_second"]))))
    names = ["trials.csv", "curves.csv", "sweep.json", "policy/", *(path.name for path in figures)]
    console.prose(f"{clock}. Saved in {job.directory}: {', '.join(names)}")
    console.say(f"Play it with: purerl evaluate {job.directory}")
    console.say(f"Read about the search with: purerl report {job.directory}")


def _keep_best(job: Job, result: Result) -> str:
    """Save the policy of the best trial; its returns on other episodes, in words."""
    best = result.best
    static = {name: value for name, value in best.choices.items() if not name.startswith("env.")}
    agent = job.agent
    if not isinstance(agent, Agent):
        agent = agent(**{name: value for name, value in static.items() if "." in name})
    details = {"trial": best.number, "seed_index": best.seed, "returns": best.returns.tolist()}
    if not math.isnan(best.fresh_iqm):
        details["return_on_fresh_seeds"] = best.fresh_iqm
    task, seed = _with_static(job.task, static), job.options.seed + 1
    return searches.keep_best(job.directory, task, agent, job.env, best.hparams, best.state, details, seed)


def _compare(job: Job, again: Result) -> None:
    """Say whether a trial that was replayed has the returns of then."""
    trial = int(job.options.replay or 0)
    then = sweep.load(job.directory)
    same = bool(np.array_equal(then.returns[trial], again.returns[trial], equal_nan=True))
    returns = ", ".join(format_number(float(each)) for each in again.seed_returns[trial])
    console.prose(f"trial {trial}, trained again with its {again.num_seeds} seeds: returns {returns}")
    if not same:
        before = ", ".join(format_number(float(each)) for each in then.seed_returns[trial])
        raise FloatingPointError(f"in the search they were {before}: another device or version rounds differently")
    console.say("They are those of the search, bit for bit.")


def _draw(directory: Path, result: Result) -> list[Path]:
    """Save the figures of a search; one that cannot be drawn is named, and the others are drawn."""
    figures: dict[str, Callable[[Result], Figure]] = {}
    if result.searched:
        figures = {"sweep": plots.sweep_figure, "parameters": plots.parameters}
    figures |= {"learning_curves": plots.learning_curves, "ranking": plots.ranking}
    figures["rank_stability"] = plots.rank_stability
    if result.searched:
        figures["parallel_coordinates"] = plots.parallel_coordinates
    if len(result.fresh_trials):
        figures["optimism"] = plots.optimism
    paths = []
    for name, draw in figures.items():
        try:
            draw(result).savefig(directory / f"{name}.png", dpi=150)
            paths.append(directory / f"{name}.png")
        except Exception as error:  # the results are saved; no picture is worth more than they are
            console.prose(f"{name}.png could not be drawn: {error}")
    return paths
