"""`purerl sweep`: search hyperparameters, many agents in one compiled program."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from purerl.commands import console, machines, searches
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.sweep_options import Options, check, resumed

if TYPE_CHECKING:
    from purerl.commands.runs import Task
    from purerl.sweep import Progress, Result
    from purerl.sweep.trials.trials import Trials


class Job(NamedTuple):
    """A search that is about to run."""

    options: Options
    task: Task
    directory: Path
    agent: Any
    env: Any
    trials: Trials
    key: Any


def run(options: Options) -> None:
    """Search as the options say.

    Raises:
      UsageError: they cannot be done.
      KeyboardInterrupt: as it comes, after a word on how to go on.
    """
    from purerl.commands import pbt

    if not options.resume:
        check(options)
    try:
        with machines.joined(options.distributed):
            chosen = resumed(options) if options.resume else options
            if not options.resume:
                machines.check_free(options.output)
            (pbt.run if chosen.schedule == "pbt" else _run)(chosen, options.resume)
    except BlockingIOError as error:
        raise UsageError(str(error)) from error


def _run(options: Options, resume: bool) -> None:
    from purerl.commands import runs
    from purerl.distributed import is_main

    with usage_errors():
        job = _job(options, resume)
    count, seeds = job.trials.size, options.seeds
    console.say(f"{count:,} trials x {seeds} seeds, each {runs.describe(job.task)} -> {job.directory}")
    with searches.going_on(options, job.directory):
        result = _search(job, resume)
    if is_main():
        _finish(job, result)


# --- Before -----------------------------------------------------------------------------------------------------------


def _job(options: Options, resume: bool) -> Job:
    """Everything that can be said to be wrong before anything is compiled or written."""
    import jax

    from purerl import presets
    from purerl.commands import runs, training
    from purerl.commands.search_space import split_static

    task = runs.resolve(options.setup, options.num_steps or 100_000)
    env = task.make_env()
    space, static = split_static(searches.space_of(options, task.preset.algorithm))
    key = jax.random.key(options.seed)
    trials = _trials(jax.random.split(key, 4)[0], options, task, space, static)
    builder = _builder(task, env)
    agent = builder if static else builder()
    for group in trials.groups:
        chosen = _with_static(task, group)
        training.check(chosen, presets.build(chosen.preset, env) if static else agent, env)
    _schedule(options)(trials.size, task.preset.num_updates)
    return Job(options, task, searches.begin(options, task, resume), agent, env, trials, key)


def _trials(key: Any, options: Options, task: Task, space: dict[str, Any], static: dict[str, Any]) -> Trials:
    """The trials; where the learning rate is annealed to the end of training, to each group's own number of updates."""
    import numpy as np

    import purerl
    from purerl import presets
    from purerl.sweep.trials import trials

    env_params = None
    if any(name.startswith(trials.ENV_PREFIX) for name in space):
        env_params = purerl.envs.env_params(task.env, **task.env_settings)
    made = trials.make(
        key,
        presets.hparams(task.preset),
        space,
        None if options.method == "grid" else options.num_trials,
        method="random" if options.method == "grid" else options.method,
        static=static,
        env_params=env_params,
    )
    if not (task.preset.anneal and static):
        return made
    batches = [
        group.get("num_envs", task.preset.num_envs) * group.get("rollout_length", task.preset.rollout_length)
        for group in made.groups
    ]
    scale = np.array([task.preset.num_envs * task.preset.rollout_length / batch for batch in batches], np.float32)
    annealed = made.hparams.anneal_updates * scale[made.group]
    return made._replace(hparams=made.hparams._replace(anneal_updates=annealed))


def _builder(task: Task, env: Any) -> Any:
    """From static choices for the algorithm and the network to the agent."""
    from purerl import presets

    return lambda **static: presets.build(_with_static(task, static).preset, env)


def _with_static(task: Task, static: dict[str, Any]) -> Task:
    """The task with static choices put in: `num_envs`, `rollout_length`, `agent.<name>`, `network.<name>`."""
    preset = task.preset
    for name, value in static.items():
        part, _, field = name.partition(".")
        changed: Any = {part: dict(getattr(preset, part)) | {field: value} if field else value}
        preset = preset._replace(**changed)
    return task._replace(preset=preset)


def _schedule(options: Options) -> Any:
    from purerl import sweep

    if options.schedule == "halving":
        return sweep.successive_halving(options.eta, options.rungs)
    return sweep.hyperband(options.eta, options.rungs) if options.schedule == "hyperband" else sweep.full


# --- Under way --------------------------------------------------------------------------------------------------------


def _search(job: Job, resume: bool) -> Result:
    from purerl import presets, sweep
    from purerl.sweep.run import journal, memory

    options, preset = job.options, job.task.preset
    limit = None if options.memory_limit is None else memory.parse_bytes(options.memory_limit)
    total = preset.num_updates * preset.num_envs * preset.rollout_length * job.trials.size * options.seeds
    with console.progress(total) as show:
        return sweep.search(
            job.key, job.agent, job.env, job.trials, num_seeds=options.seeds,
            num_updates=preset.num_updates, num_envs=preset.num_envs, rollout_length=preset.rollout_length,
            rollout=presets.rollout(preset), schedule=_schedule(options), block_size=options.block_size,
            memory_limit=limit, eval_episodes=options.eval_episodes, eval_max_steps=job.task.max_episode_steps(),
            stop_clearly_worse=options.stop_clearly_worse, confirm=options.confirm,
            confirm_seeds=options.confirm_seeds, directory=job.directory,
            resume=resume and journal.exists(job.directory), progress=lambda progress: _show(show, progress),
            **_executor(options),
        )  # fmt: skip


def _executor(options: Options) -> dict[str, Any]:
    if options.ray is None:
        return {}
    from purerl.sweep.run import ray_executor

    with usage_errors():
        return {"executor": ray_executor.on_ray(None if options.ray == "local" else options.ray)}


def _show(show: console.Update, progress: Progress) -> None:
    """The first part compiles, so the rate counts from its end."""
    if progress.note:
        console.say(progress.note)
    if progress.phase == "compile":
        return
    best = "" if math.isnan(progress.best_return) else f"best return {console.format_number(progress.best_return)}"
    state = "evaluating" if progress.phase == "evaluate" else best
    show(progress.steps, f"{state}, {console.memory_in_use()}", progress.total_steps)


# --- After ------------------------------------------------------------------------------------------------------------


def _finish(job: Job, result: Result) -> None:
    """Show and save the table, the pictures and the best policy, and play that again on other episodes."""
    from purerl import sweep
    from purerl.commands import report

    pictures = report.draw_sweep(job.directory, result)
    console.console().print(sweep.table(result, top=job.options.top))
    best = result.best
    static = {name: value for name, value in best.choices.items() if not name.startswith("env.")}
    agent = job.agent(**{name: v for name, v in static.items() if "." in name}) if callable(job.agent) else job.agent
    details = {"trial": best.number, "seed_index": best.seed, "returns": best.returns.tolist()}
    seed = job.options.seed + 1
    task = _with_static(job.task, static)
    console.say(searches.keep_best(job.directory, task, agent, job.env, best.hparams, best.state, details, seed))
    settings = result.settings
    console.say(
        f"{console.format_seconds(settings['seconds'])}, {console.format_rate(settings['steps_per_second'])}; "
        f"saved trials.csv, curves.csv, sweep.json, {', '.join(path.name for path in pictures)} and the best policy "
        f"to {job.directory}"
    )
    console.say(f"play it with: purerl evaluate {job.directory}; read about it with: purerl report {job.directory}")
