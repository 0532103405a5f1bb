"""`purerl sweep --schedule pbt`: one population, whose hyperparameters change while it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import distributed, pbt, plots, presets, runs
from purerl.commands import console, founders, searches, tasks
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.sweep import Options
from purerl.hparams import python_number
from purerl.pbt import PBTResult
from purerl.pbt.rounds import padded_size, rounds
from purerl.pbt.run import PBTProgress
from purerl.presets.tasks import Task, check_update
from purerl.sweep.run import journal
from purerl.sweep.trials.spaces import check_space
from purerl.text import format_number, format_seconds
from purerl.types import Agent, Env, State


class Job(NamedTuple):
    """A population that is about to be trained."""

    options: Options
    task: Task
    directory: Path
    agent: Agent
    env: Env
    space: dict[str, Any]
    founders: founders.Founders

    @property
    def updates_per_round(self) -> int:
        """Updates of a member in a round."""
        return self.task.preset.num_updates // self.options.population.rounds

    @property
    def round_steps(self) -> int:
        """Environment steps of all members in a round."""
        preset = self.task.preset
        return self.options.num_trials * self.updates_per_round * preset.num_envs * preset.rollout_length


def run(options: Options, directory: Path | None) -> None:
    """Train the population that the options describe, or resume it in a directory.

    Raises:
      UsageError: the options cannot be carried out.
      BlockingIOError: another process trains it.
    """
    with usage_errors():
        job = _job(options, directory)
    preset, num_rounds = job.task.preset, options.population.rounds
    console.prose(
        f"{options.num_trials:,} members x {num_rounds} rounds of {job.updates_per_round:,} updates, "
        f"{preset.algorithm} on {job.task.env}: {preset.num_envs} environments x {preset.rollout_length} steps "
        f"-> {job.directory}"
    )
    if job.founders:
        best = len(next(iter(job.founders.values())))
        names, source = ", ".join(job.founders), options.population.initial
        console.prose(f"The first {best:,} members begin with the {names} of the best trials of {source}.")
    filled = padded_size(options.num_trials)
    if filled > options.num_trials:
        console.prose(f"Filled up to {filled:,}, a multiple of the devices; fewer idle with {filled:,} members.")
    if options.num_steps not in (None, preset.num_steps):
        console.say(f"{options.num_steps:,} steps are rounded to {preset.num_steps:,}, the same in every round.")
    with searches.kept(job.directory, new=directory is None):
        result = _train(job, directory is not None)
    best = result.best
    if distributed.is_main():
        _finish(job, result, best)


def _job(options: Options, directory: Path | None) -> Job:
    """Validate everything before anything is compiled or saved."""
    task = tasks.resolve(options.setup, options.num_steps or 100_000)
    task = _whole_rounds(task, options.population.rounds)
    tasks.check_in_jax(task, "sweep")
    env = task.make_env()
    space = _space(options, task)
    agent = presets.build(task.preset, env)
    distributed.num_parts(options.num_trials)
    _, spaces = check_space(presets.hparams(task.preset), space)
    if not spaces:
        raise UsageError("--space holds constants only: there is nothing that a population could change")
    rounds(
        agent, env, spaces, population_size=options.num_trials, updates_per_round=1, rollout_length=1,
        **_decisions(options),
    )  # fmt: skip
    first = _founders(options, task, list(spaces), directory)
    check_update(task, agent, env)
    begun = searches.begin(options, task, directory)
    if first and distributed.is_main() and "founders" not in (saved := runs.read_config(begun)):
        runs.write_config(begun, saved | {"founders": first})
    return Job(options, task, begun, agent, env, space, first)


def _founders(options: Options, task: Task, names: list[str], directory: Path | None) -> founders.Founders:
    """The values of the first members: those that a resumed population was begun with, or of `--initial`."""
    found = None if directory is None else runs.read_config(directory).get("founders")
    if found is not None:
        return dict(found)
    return founders.read(options, task, names) if options.population.initial else {}


def _whole_rounds(task: Task, num_rounds: int) -> Task:
    """The task with the nearest number of steps that is the same in every round.

    Raises:
      UsageError: that is less than one update per round.
    """
    preset = task.preset
    batch = preset.num_envs * preset.rollout_length
    if preset.num_updates < num_rounds:
        raise UsageError(
            f"--rounds {num_rounds}: {preset.num_steps:,} steps are {preset.num_updates} updates of {preset.num_envs} "
            f"environments x {preset.rollout_length} steps: use fewer rounds, or --num-steps {num_rounds * batch}"
        )
    num_steps = round(preset.num_updates / num_rounds) * num_rounds * batch
    return task._replace(preset=preset._replace(num_steps=num_steps))


def _space(options: Options, task: Task) -> dict[str, Any]:
    """The space. It holds hyperparameters only, since everything else is the same for all members of a population."""
    space = searches.space_of(options, task)
    names = presets.hparams(task.preset)._fields
    for name in space:
        if "." in name or (name in ("num_envs", "rollout_length") and name not in names):
            raise UsageError(f"--space {name}: with pbt only hyperparameters can differ between members")
    return space


def _decisions(options: Options) -> dict[str, Any]:
    names = ("exploit_fraction", "resample_probability", "perturb_factors", "num_elites")
    return {name: getattr(options.population, name) for name in names}


def _train(job: Job, resume: bool) -> PBTResult:
    options, preset = job.options, job.task.preset
    with console.progress(job.round_steps * options.population.rounds) as show:
        return pbt.pbt(
            jax.random.key(options.seed), job.agent, job.env, presets.hparams(preset), job.space,
            population_size=options.num_trials, num_rounds=options.population.rounds,
            updates_per_round=job.updates_per_round, num_envs=preset.num_envs, rollout_length=preset.rollout_length,
            rollout=presets.rollout(preset), **_decisions(options),
            initial=founders.table(job.founders, job.task), eval_episodes=options.eval_episodes,
            eval_max_steps=job.task.max_episode_steps(), directory=job.directory,
            resume=resume and journal.exists(job.directory), progress=lambda now: _show(show, job, now),
        )  # fmt: skip


def _show(show: console.Update, job: Job, now: PBTProgress) -> None:
    scores = f"scores: best {format_number(now.best_score)}, median {format_number(now.median_score)}"
    show(now.round * job.round_steps, f"round {now.round} of {now.num_rounds}, {scores}, {console.memory_in_use()}")


def _finish(job: Job, result: PBTResult, best: State) -> None:
    """Show and save the table, the figure and the best policy, and play that on other episodes."""
    plots.family(result).savefig(job.directory / "family.png", dpi=150)
    rows = result.member_rows()
    columns = [name.replace("_", " ") for name in rows[0]]
    shown = [[_short(value) for value in row.values()] for row in rows[: job.options.top]]
    title = f"{result.population_size} members after {int(result.steps[-1]):,} steps each"
    console.print_table(title, columns, shown)
    member = int(result.order[0])
    score = float(result.lineage.scores[-1, member])
    if np.isnan(score):
        raise FloatingPointError("every member diverged: no score is finite, and no policy was saved")
    details = {"member": member, "score": score}
    hparams = jax.tree.map(lambda leaf: python_number(leaf[-1, member]), result.lineage.hparams)
    seed = job.options.seed + 1
    console.prose(searches.keep_best(job.directory, job.task, job.agent, job.env, hparams, best, details, seed))
    console.prose(
        f"{format_seconds(result.seconds)}. Saved in {job.directory}: lineage.csv, pbt.json, family.png, policy/"
    )
    console.say(f"Play it with: purerl evaluate {runs.quoted(job.directory)}")
    console.say(f"Read about the population with: purerl report {runs.quoted(job.directory)}")


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else format_number(value)
