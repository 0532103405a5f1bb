"""`purerl sweep`: search hyperparameters, many agents in one compiled program."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from purerl import sweep
from purerl.commands import best_evaluation, console, functions, machines, pbt, plans, searches, sweep_results
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.sweep import Options, check
from purerl.commands.sweep_jobs import Job, annealed, described, job_of, num_updates, plan_lines, sizes_of
from purerl.distributed import is_main
from purerl.sweep import Progress, Result
from purerl.sweep.model_search import MODELS
from purerl.sweep.run import extension, fastest, journal, ray_executor
from purerl.sweep.trials.trials import Trials
from purerl.text import format_number, plural


def run(options: Options) -> None:
    """Search as the options say.

    Raises:
      UsageError: they cannot be carried out.
      FloatingPointError: every trial diverged.
      KeyboardInterrupt: after a line that says how to resume.
    """
    if options.resume is None:
        check(options)
    if options.plan and options.resume is None:
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
    """Print what the search would take here, or on an accelerator that need not be there."""
    with usage_errors():
        target = plans.find(options.plan or "")
        job = job_of(options)
        lines = plan_lines(job)
    console.prose(f"{plural(job.trials.size, 'trial')} x {plural(options.seeds, 'seed')}, each {described(job)}")
    for line in lines:
        console.say(line)
    forecasts = sweep.forecast(target, job.agent, job.env, job.trials, **sizes_of(job))
    keep = job.trials.size if options.keep == "all" else int(options.keep)
    plans.show(target, forecasts, options.memory_limit, keep, options.limits.price_per_hour)
    if options.block_size == fastest.MEASURED:
        console.prose("The search tries the widths of its blocks when it begins; this plan has the usual ones.")


def _run(options: Options, directory: Path | None) -> None:
    with usage_errors():
        job = job_of(options)
        if directory is not None:
            extension.sizes(directory, job.trials.size, options.seeds, num_updates(job))
        lines = plan_lines(job)
        job = job._replace(directory=searches.begin(options, job.task, directory, job.compared))
    count, seeds = job.trials.size, options.seeds
    console.prose(f"{plural(count, 'trial')} x {plural(seeds, 'seed')}, each {described(job)} -> {job.directory}")
    for line in lines:
        console.say(line)
    with searches.kept(job.directory, new=directory is None):
        result = _search(job, directory is not None)
    if is_main():
        (sweep_results.finish if options.replay is None else sweep_results.compare)(job, result)


def _search(job: Job, resume: bool) -> Result:
    options, preset = job.options, job.task.preset
    total = preset.num_updates * preset.num_envs * preset.rollout_length * job.trials.size * options.seeds
    limits = options.limits
    batches = [] if options.method in MODELS else [job.trials]
    sizes: dict[str, Any] = sizes_of(job) | {
        "num_seeds": "auto" if options.num_seeds == "auto" else options.seeds,
        "stop_clearly_worse": options.stop_clearly_worse, "until": limits.until, "max_steps": limits.max_steps,
        "max_seconds": limits.max_seconds, "confirm": options.confirm, "confirm_seeds": options.confirm_seeds,
        "keep": None if options.keep == "all" else options.keep,
        "directory": job.directory, "save_seconds": options.save_seconds, **vars(options.judging),
        **_executor(options), **_between(job, batches, preset.num_steps),
    }  # fmt: skip
    with console.progress(total) as show, _settings_that_differ(resume):
        sizes["progress"] = functools.partial(_show, show)
        if resume and options.replay is None:
            sizes["progress"] = _writing_size(job, sizes["progress"])
        if options.method in MODELS:
            chosen: Any = {"model": options.method, "num_trials": options.num_trials, "batch_size": options.batch_size}
            chosen |= {"adjust": lambda made: _annealed(job, batches, made), "resume": resume}
            return sweep.model_search(job.key, job.agent, job.env, **chosen, **job.drawing, **sizes)
        again = resume and journal.exists(job.directory)
        return sweep.search(job.key, job.agent, job.env, job.trials, resume=again, replay=options.replay, **sizes)


@contextlib.contextmanager
def _settings_that_differ(resume: bool) -> Any:
    """Report a search that cannot be resumed with these settings, which the library rejects, in one line."""
    try:
        yield
    except ValueError as error:
        if not resume or type(error).__name__ == "CheckpointError":
            raise
        raise UsageError(str(error)) from error


def _annealed(job: Job, batches: list[Trials], made: Trials) -> Trials:
    """The trials of the next batch, which is appended."""
    batches.append(annealed(job.task, job.compared, made))
    return batches[-1]


def _between(job: Job, batches: Sequence[Trials], num_steps: int) -> dict[str, Any]:
    """Arguments of a search for evaluation between chunks: the curve, the best policy, the user's callbacks."""
    options = job.options
    callbacks = functions.callbacks(options.callbacks, "a purerl.sweep.Chunk")
    if not options.eval_every:
        return {"callbacks": callbacks}
    kept = (best_evaluation.keep(job, batches),) if options.replay is None else ()
    num_chunks = max(1, round(num_steps / options.eval_every))
    return {"curve": "eval_return", "num_chunks": num_chunks, "callbacks": (*kept, *callbacks)}


def _executor(options: Options) -> dict[str, Any]:
    if options.ray is None:
        return {}
    with usage_errors():
        address = None if options.ray == "local" else options.ray
        return {"executor": ray_executor.on_ray(address, num_gpus=options.ray_gpus)}


def _writing_size(job: Job, tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """The callback, which first writes down the size of a search that has grown: all of it has been accepted then."""
    write = functools.cache(functools.partial(searches.write_size, job.options, job.directory))

    def told(progress: Progress) -> None:
        write()
        tell(progress)

    return told


def _show(show: console.Update, progress: Progress) -> None:
    """Update the progress. The first part compiles, so the rate counts from its end."""
    if progress.note:
        console.prose(progress.note)
    if progress.phase == "compile":
        return
    best = "" if math.isnan(progress.best_return) else f"best return {format_number(progress.best_return)}"
    state = "evaluating" if progress.phase == "evaluate" else best
    show(progress.steps, ", ".join(filter(None, (state, console.memory_in_use()))), progress.total_steps)
