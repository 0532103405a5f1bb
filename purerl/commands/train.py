"""`purerl train`: one run, with progress, checkpoints, a learning curve and a policy to play."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from purerl.commands import console
from purerl.commands.options import (
    Count,
    OptionalCount,
    OptionalSeed,
    Output,
    Setup,
    UsageError,
    hint,
    usage_errors,
)

if TYPE_CHECKING:
    from purerl.commands.training import Config, Program
    from purerl.logging import Writer


@dataclasses.dataclass(frozen=True)
class Options:
    """Train an agent (or several seeds of it side by side) and save a policy that `purerl evaluate` plays.

    Everything goes to runs/<name>/: config.json, metrics.csv, checkpoints/, policy/ and learning_curve.png. Ctrl-C
    saves and stops; `purerl train --resume --name <name>` goes on from there, bit for bit the same run.
    """

    setup: Setup = dataclasses.field(default_factory=Setup)
    output: Output = dataclasses.field(default_factory=Output)
    num_steps: Annotated[OptionalCount, hint("the table's")] = None
    """Environment steps of each seed, such as 500_000, 500k or 5e5."""
    num_seeds: Annotated[OptionalCount, hint("1")] = None
    """How many agents are trained side by side, alike but for their random numbers."""
    seed: Annotated[OptionalSeed, hint("0")] = None
    """Seed of all random numbers."""
    resume: bool = False
    """Go on with the run --name. Its settings stay as they are; only --num-steps may be larger."""
    eval_episodes: Count = 32
    """Greedy episodes that each seed plays at the end."""
    checkpoint_seconds: float = 60.0
    """A checkpoint at least every so many seconds, and at the end."""
    keep: Count = 2
    """How many checkpoints are kept."""
    tensorboard: bool = False
    """Write TensorBoard events too, under the names that Stable-Baselines3 uses."""


class Job(NamedTuple):
    """A run that is under way."""

    options: Options
    config: Config
    program: Program
    directory: Path


def run(options: Options) -> None:
    """Train as the options say.

    Raises:
      UsageError: they cannot be done.
      SystemExit: with 130, when interrupted, after saving.
    """
    import jax

    from purerl import replay
    from purerl.commands import runs, training
    from purerl.sweep.run.memory import format_bytes

    with usage_errors():
        config = _config(options)
        program = training.program(config)
        job = Job(options, config, program, _directory(options, config))
    seeds = f"seed {config.seed}" if config.num_seeds == 1 else f"{config.num_seeds} seeds"
    size = format_bytes(replay.nbytes(jax.eval_shape(program.start)))
    console.say(f"{runs.describe(config.task)}, {seeds}, {size} of state -> {job.directory}")
    state, seconds = _begin(job)
    state, finished = _train(job, state, seconds)
    if not finished:
        console.say(f"saved; go on with: purerl train --resume {_where(job)}")
        raise SystemExit(130)
    _finish(job, state)


# --- Before -----------------------------------------------------------------------------------------------------------


def _config(options: Options) -> Config:
    from purerl.commands import resume, runs, training

    if not options.resume:
        runs.check_free(options.output)
        task = runs.resolve(options.setup, options.num_steps)
        return training.Config(task, options.num_seeds or 1, options.seed or 0)
    if options.output.name is None:
        raise UsageError("--resume needs to know which run to go on with: give its --name")
    sizes = {"num_steps": options.num_steps, "num_seeds": options.num_seeds, "seed": options.seed}
    return resume.config(runs.directory_of(options.output), options.setup, **sizes)


def _directory(options: Options, config: Config) -> Path:
    from purerl.commands import runs

    if options.resume:
        return runs.directory_of(options.output)
    return runs.create(options.output, f"{config.task.preset.algorithm}-{config.task.env}", config.to_json())


def _begin(job: Job) -> tuple[Any, float]:
    """The state to go on from, and the seconds that were spent to get there."""
    import jax

    from purerl import checkpoint

    newest = checkpoint.latest(job.directory / "checkpoints")
    if newest is None:
        return job.program.start(), 0.0
    details = checkpoint.read_metadata(newest)
    console.say(f"going on from {newest}, after {details['num_steps']:,} steps")
    return checkpoint.restore(newest, jax.eval_shape(job.program.start)), details["seconds"]


def _writers(job: Job, step: int) -> list[Writer]:
    """Where each seed's metrics go; what was written after `step` is dropped."""
    from purerl import logging

    table = logging.csv_writer(job.directory / "metrics.csv", resume_at=step)

    def writer(seed: int) -> Writer:
        rows = table._replace(write=lambda step, metrics: table.write(step, {"seed": seed} | dict(metrics)))
        if not job.options.tensorboard:
            return rows
        events = job.directory / "tensorboard" / f"seed_{seed}"
        return logging.tee(rows, logging.tensorboard_writer(events, resume_at=step or None))

    with usage_errors():
        return [writer(seed) for seed in range(job.config.num_seeds)]


def _where(job: Job) -> str:
    runs_dir = job.options.output.runs_dir
    return f"--name {job.directory.name}" + (f" --runs-dir {runs_dir}" if runs_dir != Output().runs_dir else "")


# --- Under way --------------------------------------------------------------------------------------------------------


def _train(job: Job, state: Any, seconds: float) -> tuple[Any, bool]:
    """Advance in chunks to the end or until a signal. Returns the state, which is saved, and whether it is the end."""
    import jax

    from purerl.commands import training

    num_updates, steps, num_seeds = job.config.task.preset.num_updates, job.config.update_steps, job.config.num_seeds
    done = first = training.num_updates(state)
    if done >= num_updates:
        return state, True
    writers = _writers(job, done * steps)
    all_steps = steps * num_seeds
    with console.stop_signals() as stopped, console.progress(num_updates * all_steps, done=done * all_steps) as show:
        compiled = {length: job.program.compile(state, length) for length in _lengths(job, done)}
        begun = saved = time.monotonic()
        show(done * all_steps, "")
        while done < num_updates and not stopped():
            length = _next_length(job, done)
            state, metrics = compiled[length](state)
            metrics = jax.device_get(metrics)  # waits for the chunk to end
            done += length
            passed = time.monotonic() - begun
            rate = (done - first) * all_steps / passed
            clock = {"num_updates": done, "seconds": seconds + passed, "steps_per_second": rate}
            show(done * all_steps, _log(writers, done * steps, metrics, clock))
            if time.monotonic() - saved > job.options.checkpoint_seconds:
                _save(job, done, state, seconds + passed)
                saved = time.monotonic()
        _save(job, done, state, seconds + time.monotonic() - begun)
    for writer in writers:
        writer.close()
    return state, done == num_updates


def _next_length(job: Job, done: int) -> int:
    """Updates to make next: up to the next multiple of a chunk, so that a resumed run has the same rows."""
    chunk = job.program.chunk
    return min(chunk - done % chunk, job.config.task.preset.num_updates - done)


def _lengths(job: Job, done: int) -> set[int]:
    """Every length that is still to come."""
    lengths = set()
    while done < job.config.task.preset.num_updates:
        lengths.add(_next_length(job, done))
        done += _next_length(job, done)
    return lengths


def _log(writers: list[Writer], step: int, metrics: Any, clock: dict[str, float]) -> str:
    """Write a row a seed, and return what the progress shows."""
    import numpy as np

    arrays = {name: np.atleast_1d(value) for name, value in metrics.items()}
    for seed, writer in enumerate(writers):
        writer.write(step, {name: array[seed] for name, array in arrays.items()} | clock)
    returns = arrays["episode_return"]
    return f"return {console.format_number(float(np.mean(returns)))}" if np.isfinite(returns).all() else ""


def _save(job: Job, done: int, state: Any, seconds: float) -> None:
    from purerl import checkpoint

    details = {"num_updates": done, "num_steps": done * job.config.update_steps, "seconds": seconds}
    checkpoint.save_step(job.directory / "checkpoints", done, state, details, keep=job.options.keep)


# --- After ------------------------------------------------------------------------------------------------------------


def _finish(job: Job, state: Any) -> None:
    """Evaluate every seed greedily, save the best one's policy, and draw the learning curve."""
    import numpy as np

    from purerl.commands import report, runs, training

    num_seeds, episodes = job.config.num_seeds, job.options.eval_episodes
    played = job.program.evaluate(state.agent_state, episodes)
    returns = np.asarray(played.episode_return, np.float64).reshape(num_seeds, episodes)
    best = int(np.argmax(np.nan_to_num(returns.mean(axis=1), nan=-np.inf)))
    policy = training.select_seed(state.agent_state, num_seeds, best)
    details = {"command": "train", "seed": job.config.seed, "seed_index": best, "returns": returns[best].tolist()}
    runs.save_policy(job.directory, job.config.task, policy, details)
    runs.write_json(job.directory / "evaluation.json", {"returns": returns.tolist(), "best_seed": best})
    console.say(
        f"greedy evaluation, {episodes} episodes{' a seed' if num_seeds > 1 else ''}: {report.summary(returns)}"
    )
    if num_seeds > 1:
        console.say(f"saved the policy of seed {best}, whose mean return is {returns[best].mean():.4g}")
    report.draw_run(job.directory, f"{job.config.task.preset.algorithm} on {job.config.task.env}")
    console.say(f"play it with: purerl evaluate {job.directory}")
