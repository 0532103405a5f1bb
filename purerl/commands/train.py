"""`purerl train`: one run, with progress, checkpoints, a learning curve and a policy to play."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import checkpoint, logging, plots, replay, runs
from purerl.commands import console, evaluations, resume, tasks, training
from purerl.commands.options import usage_errors
from purerl.commands.options.train import Options
from purerl.commands.summaries import summary
from purerl.commands.training import Config, Program
from purerl.envs import references
from purerl.logging import Writer
from purerl.loops import Callback, Chunk, LoopState
from purerl.loops.chunked import call_all
from purerl.presets.tasks import file_name
from purerl.text import format_bytes, format_number


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
    with usage_errors():
        job = _job(options)
    with runs.removed_if_it_fails(job.directory, new=options.resume is None):
        _announce(job)
        state, seconds = _begin(job)
        state, reached = _train(job, state, seconds)
    diverged = np.atleast_1d(job.program.diverged(state.agent_state))
    if not diverged.all() and not reached and training.num_updates(state) < job.num_updates:
        console.say(f"Saved. Resume with: purerl train --resume {job.directory}")
        raise SystemExit(130)
    _draw(job)
    if not diverged.all():
        _finish(job, state, diverged)
    if diverged.any():
        raise FloatingPointError(_how_it_diverged(job, state, diverged))


# --- Before -----------------------------------------------------------------------------------------------------------


def _job(options: Options) -> Job:
    """Validate everything before compiling, and create the directory last."""
    callbacks = tuple(references.load(name) for name in options.callbacks)
    if options.resume is not None:
        directory = resume.directory(options.resume, options.output.name, options.output.runs_dir)
        config = resume.config(directory, options)
        return Job(options, config, training.program(config), directory, callbacks)
    name, runs_dir = options.output.name, options.output.runs_dir
    if name is not None:
        runs.check_free(runs.named(name, runs_dir))
    config = _config(options)
    program = training.program(config)
    if options.tensorboard:
        logging.check_tensorboard()
    default = f"{options.setup.algorithm or config.task.preset.algorithm}-{file_name(config.task.env)}"
    directory = runs.named(name, runs_dir) if name is not None else runs.first_free(default, runs_dir)
    return Job(options, config, program, runs.create(directory, config.to_json()), callbacks)


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
    console.prose(f"{config.task.describe()}, {seeds}, {size} of state -> {job.directory}")


def _begin(job: Job) -> tuple[LoopState, float]:
    """The state to start from, and the seconds spent before."""
    newest = checkpoint.latest(job.directory / "checkpoints")
    if newest is None:
        return job.program.start(), 0.0
    details = checkpoint.read_metadata(newest)
    console.say(f"Resuming from {newest}, after {details['num_steps']:,} steps.")
    state = checkpoint.restore(newest, jax.eval_shape(job.program.start))
    state, changed = training.anneal_to_the_end(state, job.config.task)
    if changed:
        left = 1 - training.num_updates(state) / job.num_updates
        console.prose(
            f"The learning rate is annealed to the new end, so it resumes at {left:.0%} of its initial value."
        )
    return state, details["seconds"]


def _writers(job: Job, step: int) -> list[Writer]:
    """One writer per seed; rows written after `step` are dropped."""
    table = logging.csv_writer(job.directory / "metrics.csv", resume_at=step)

    def writer(seed: int) -> Writer:
        rows = table._replace(write=lambda step, metrics: table.write(step, {"seed": seed} | dict(metrics)))
        if not job.options.tensorboard:
            return rows
        events = job.directory / "tensorboard" / f"seed_{seed}"
        return logging.tee(rows, logging.tensorboard_writer(events, resume_at=step or None))

    return [writer(seed) for seed in range(job.config.num_seeds)]


# --- Training ---------------------------------------------------------------------------------------------------------


def _train(job: Job, state: LoopState, seconds: float) -> tuple[LoopState, bool]:
    """Advance row by row to the end, until a signal, or until all seeds have diverged; otherwise the state is saved.

    Returns:
      The state, and whether training has ended before its last step because --until or a callback says so.
    """
    steps, num_seeds = job.config.update_steps, job.config.num_seeds
    done = first = training.num_updates(state)
    if done >= job.num_updates:
        return state, False
    writers = _writers(job, done * steps)
    evaluate = evaluations.during(job.config, job.program, job.directory, job.options.eval_episodes)
    all_steps = steps * num_seeds
    lost, reached, note = False, False, ""
    with (
        console.stop_signals() as stopped,
        console.progress(job.num_updates * all_steps, done=done * all_steps) as show,
    ):
        console.phase("compiling")
        advance = training.paced(job.program.compile(state))
        begun = saved = time.monotonic()
        show(done * all_steps, "training")
        while done < job.num_updates and not stopped() and not lost and not reached:
            length = _next_length(job, done)
            state, metrics = advance(state, length, lambda made: show((done + made) * all_steps, note))  # noqa: B023
            if evaluations.due(job.config, done, done + length):
                show((done + length) * all_steps, "evaluating")
            evaluated = evaluate(state.agent_state, done, done + length)
            done += length
            passed = time.monotonic() - begun
            rate = (done - first) * all_steps / passed
            clock = {"num_updates": done, "seconds": seconds + passed, "steps_per_second": rate}
            metrics = metrics | evaluated.metrics
            note = _log(writers, done * steps, metrics, clock) or note
            reached = call_all(job.callbacks, Chunk(done, done * steps, metrics, state.agent_state, state))
            reached |= evaluated.reached
            show(done * all_steps, ", ".join(filter(None, [note, evaluated.note])))
            lost = bool(np.all(job.program.diverged(state.agent_state)))
            if not lost and time.monotonic() - saved > job.options.checkpoint_seconds:
                _save(job, done, state, seconds + passed)
                saved = time.monotonic()
        if not lost:
            _save(job, done, state, seconds + time.monotonic() - begun)
    for writer in writers:
        writer.close()
    if reached:
        why = f"an evaluation reached {job.config.until:g}" if evaluated.reached else "a callback ended it"
        console.say(f"Training ended after {done * steps:,} steps: {why}.")
    return state, reached


def _next_length(job: Job, done: int) -> int:
    """Updates to make next: up to the next multiple of a chunk, so that a resumed run has the same rows."""
    chunk = job.program.chunk
    return min(chunk - done % chunk, job.num_updates - done)


def _log(writers: list[Writer], step: int, metrics: dict[str, Any], clock: dict[str, float]) -> str:
    """Write one row per seed, and return what the progress shows; empty if no episode ended."""
    arrays = {name: np.atleast_1d(value) for name, value in metrics.items()}
    for seed, writer in enumerate(writers):
        writer.write(step, {name: array[seed] for name, array in arrays.items()} | clock)
    returns = arrays["episode_return"]
    known = returns[np.isfinite(returns)]
    return f"return {format_number(float(known.mean()))}" if known.size else ""


def _save(job: Job, done: int, state: LoopState, seconds: float) -> None:
    details = {"num_updates": done, "num_steps": done * job.config.update_steps, "seconds": seconds}
    checkpoint.save_step(job.directory / "checkpoints", done, state, details, keep=job.options.keep)


# --- After ------------------------------------------------------------------------------------------------------------


def _draw(job: Job) -> None:
    title = f"{job.config.task.preset.algorithm} on {job.config.task.env}"
    figure = plots.training_curves(job.directory / "metrics.csv", title)
    figure.savefig(job.directory / "learning_curve.png", dpi=150)


def _finish(job: Job, state: LoopState, diverged: np.ndarray) -> None:
    """Evaluate every seed greedily, and save the policy of the best one that has not diverged."""
    num_seeds, episodes = job.config.num_seeds, job.options.eval_episodes
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
    console.say(f"Play it with: purerl evaluate {job.directory}")
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
            f"training diverged: the parameters are no longer finite after {steps:,} steps; {kept}, and no policy was "
            "saved. Try a lower learning rate"
        )
    seeds = ", ".join(map(str, np.flatnonzero(diverged)))
    return f"training diverged for seed {seeds} of {len(diverged)}: its parameters are no longer finite"
