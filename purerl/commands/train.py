"""`purerl train`: one run, with progress, checkpoints, a learning curve and a policy to play."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import checkpoint, replay, runs
from purerl.commands import console, cores, evaluations, functions, resume, tasks, training, writers
from purerl.commands.course import Course
from purerl.commands.options import usage_errors
from purerl.commands.options.train import Options
from purerl.commands.summaries import summary
from purerl.commands.training import Config, Program
from purerl.loops import Callback, LoopState
from purerl.presets.tasks import file_name
from purerl.text import format_bytes


class Job(NamedTuple):
    """A run in progress."""

    options: Options
    config: Config
    program: Program
    directory: Path
    callbacks: tuple[Callback, ...] = ()

    @property
    def num_updates(self) -> int:
        """Updates of the whole run."""
        return self.config.task.preset.num_updates


def run(options: Options) -> None:
    """Train as the options say.

    Raises:
      UsageError: they cannot be carried out.
      FloatingPointError: training diverged.
      SystemExit: with 130 after Ctrl-C, once the run is saved.
    """
    with contextlib.ExitStack() as held:
        with usage_errors():
            job = _job(options, held)
        _run(job)


def _run(job: Job) -> None:
    with runs.removed_if_it_fails(job.directory, new=job.options.resume is None):
        _announce(job)
        state, details = _begin(job)
        state, reached = _train(job, state, details)
    diverged = np.atleast_1d(job.program.diverged(state.agent_state))
    if not diverged.all() and not reached and training.num_updates(state) < job.num_updates:
        console.say(f"Saved. Resume with: purerl train --resume {runs.quoted(job.directory)}")
        raise SystemExit(130)
    _draw(job)
    if not diverged.all():
        _finish(job, state, diverged)
    if diverged.any():
        raise FloatingPointError(_how_it_diverged(job, state, diverged))


# --- Before -----------------------------------------------------------------------------------------------------------


def _job(options: Options, held: contextlib.ExitStack) -> Job:
    """Validate everything before compiling, and create the directory last; `held` locks it."""
    callbacks = functions.callbacks(options.callbacks, "a purerl.loops.Chunk")
    if options.resume is not None:
        directory = resume.directory(options.resume, options.output.name, options.output.runs_dir)
        held.enter_context(runs.locked(directory))
        config = resume.config(directory, options)
        return Job(options, config, training.program(config), directory, callbacks)
    name, runs_dir = options.output.name, options.output.runs_dir
    if name is not None:
        runs.check_free(runs.named(name, runs_dir))
    config = _config(options)
    program = training.program(config)
    writers.check(options.log)
    default = f"{options.setup.algorithm or config.task.preset.algorithm}-{file_name(config.task.env)}"
    directory = runs.create_named(name, default, runs_dir, config.to_json())
    held.enter_context(runs.locked(directory))
    return Job(options, config, program, directory, callbacks)


def _config(options: Options) -> Config:
    task = tasks.resolve(options.setup, options.num_steps)
    eval_every = options.eval_every or 0
    if options.until is not None and not eval_every:
        eval_every = max(1, task.preset.num_steps // 20)
    return Config(task, options.num_seeds or 1, options.seed or 0, eval_every, options.until)


def _announce(job: Job) -> None:
    config = job.config
    seeds = f"seed {config.seed}" if config.num_seeds == 1 else f"{config.num_seeds} seeds"
    size = format_bytes(replay.nbytes(jax.eval_shape(job.program.start)))
    console.prose(f"{config.task.describe()}, {seeds}, {size} of state{cores.told()} -> {job.directory}")
    asked, made = job.options.num_steps, job.num_updates * config.update_steps
    if asked is not None and asked != made:
        console.say(f"{asked:,} steps are rounded down to whole updates of {config.update_steps:,}: {made:,} steps.")


def _begin(job: Job) -> tuple[LoopState, Mapping[str, Any]]:
    """The state to start from, and the details that were saved with it."""
    newest = checkpoint.find(job.directory / "checkpoints")
    if newest is None:
        with console.waiting("compiling"), console.watchdog("compiling"):
            return job.program.begin(job.options.eval_episodes), {}
    for reason in newest.damaged:
        console.prose(f"Passing over a checkpoint that cannot be used: {reason}")
    console.say(f"Resuming from {newest.path}, after {newest.metadata['num_steps']:,} steps.")
    state = newest.restore(jax.eval_shape(job.program.start))
    console.phase("compiling")
    state, changed = training.anneal_to_the_end(state, job.config.task)
    if changed:
        left = 1 - training.num_updates(state) / job.num_updates
        console.prose(
            f"The learning rate is annealed to the new end, so it resumes at {left:.0%} of its initial value."
        )
    return state, newest.metadata


# --- Training ---------------------------------------------------------------------------------------------------------


def _train(job: Job, state: LoopState, details: Mapping[str, Any]) -> tuple[LoopState, bool]:
    """Advance to the end, until a signal, or until all seeds have diverged; otherwise the state is saved.

    Returns:
      The state, and whether training has ended before its last step because --until or a callback says so.

    Raises:
      FloatingPointError: every update has been skipped for too long; the state before is saved.
    """
    course = Course(job.directory, job.options, job.config, job.program, job.callbacks, state, details)
    if course.is_over:
        return state, False
    all_steps = job.config.update_steps * job.config.num_seeds
    logs = writers.of_run(
        job.config, job.directory, job.options.log, course.logged * job.config.update_steps, details.get("metrics")
    )
    with (
        console.stop_signals() as stopped,
        console.progress(job.num_updates * all_steps, done=course.num_steps) as show,
    ):
        course.begin(logs)
        with course.saved_if_it_fails():
            show(course.num_steps, "training")
            while not course.is_over and not stopped():
                course.advance(show)
            if not course.lost:
                course.save()
    for writer in logs:
        writer.close()
    if skipped := course.guard.summary(job.config.update_steps):
        console.prose(skipped)
    if course.guard.is_stuck:
        raise FloatingPointError(course.guard.problem(course.done, job.config.update_steps))
    if course.reached:
        console.say(f"Training ended after {course.done * job.config.update_steps:,} steps: {course.reached}.")
    return course.state, bool(course.reached)


# --- After ------------------------------------------------------------------------------------------------------------


def _draw(job: Job) -> None:
    title = f"{job.config.task.preset.algorithm} on {job.config.task.env}"
    from purerl import plots  # matplotlib takes half a second, which must not come before training

    figure = plots.training_curves(job.directory / "metrics.csv", title)
    figure.savefig(job.directory / "learning_curve.png", dpi=150)


def _finish(job: Job, state: LoopState, diverged: np.ndarray) -> None:
    """Evaluate every seed greedily, and save the policy of the best one that has not diverged."""
    num_seeds, episodes = job.config.num_seeds, job.options.eval_episodes
    with console.waiting("evaluating"):
        played = job.program.evaluate(state.agent_state, episodes)
        returns = np.asarray(played.episode_return, np.float64).reshape(num_seeds, episodes)
    score = np.where(diverged, -np.inf, np.nan_to_num(returns.mean(axis=1), nan=-np.inf))
    best_seed = int(np.argmax(score))
    policy = training.select_seed(state.agent_state, num_seeds, best_seed)
    details = {
        "command": "train",
        "seed": job.config.seed,
        "seed_index": best_seed,
        "returns": returns[best_seed].tolist(),
    }
    runs.save_policy(job.directory, job.config.task, policy, details)
    runs.write_json(job.directory / "evaluation.json", {"returns": returns.tolist(), "best_seed": best_seed})
    per_seed = " per seed" if num_seeds > 1 else ""
    console.prose(f"greedy evaluation, {episodes} episodes{per_seed}: {summary(returns[~diverged])}")
    if num_seeds > 1:
        console.say(f"Saved the policy of seed {best_seed}, whose mean return is {returns[best_seed].mean():.4g}.")
    console.say(f"Play it with: purerl evaluate {runs.quoted(job.directory)}")
    best = evaluations.best_return(job.directory)
    if best > score[best_seed]:
        console.say(f"The best policy on the way, mean return {best:.4g}, is {job.directory / evaluations.BEST}")


def _how_it_diverged(job: Job, state: LoopState, diverged: np.ndarray) -> str:
    """One line: who diverged, when, what is left, and what to do."""
    steps = training.num_updates(state) * job.config.update_steps
    if diverged.all():
        newest = checkpoint.latest(job.directory / "checkpoints")
        kept = f"the last good state is {newest}" if newest else "no checkpoint had been saved"
        return (
            f"training diverged: the parameters are no longer finite after {steps:,} steps, or beyond 1e9; {kept}, and "
            "no policy was saved. Try a lower learning rate"
        )
    seeds = ", ".join(map(str, np.flatnonzero(diverged)))
    return f"training diverged for seed {seeds} of {len(diverged)}: its parameters are no longer finite, or beyond 1e9"
