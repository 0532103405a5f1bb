"""`purerl sweep --schedule pbt`: one population, whose hyperparameters change while it learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from purerl.commands import console, searches
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.sweep_options import Options

if TYPE_CHECKING:
    from purerl.commands.runs import Task
    from purerl.pbt import PBTResult
    from purerl.pbt.run import PBTProgress
    from purerl.types import Agent, Env


class Job(NamedTuple):
    """A population that is about to be trained."""

    options: Options
    task: Task
    directory: Path
    agent: Agent
    env: Env
    space: dict[str, Any]

    @property
    def updates_per_round(self) -> int:
        """Updates of a member in a round."""
        return self.task.preset.num_updates // self.options.population.rounds

    @property
    def round_steps(self) -> int:
        """Environment steps of all members in a round."""
        preset = self.task.preset
        return self.options.num_trials * self.updates_per_round * preset.num_envs * preset.rollout_length


def run(options: Options, resume: bool) -> None:
    """Train the population that the options describe, or go on with it.

    Raises:
      UsageError: they cannot be done.
      BlockingIOError: another process trains it.
    """
    from purerl.distributed import is_main

    with usage_errors():
        job = _job(options, resume)
    preset, rounds = job.task.preset, options.population.rounds
    console.say(
        f"{options.num_trials:,} members x {rounds} rounds of {job.updates_per_round:,} updates, {preset.algorithm} on "
        f"{job.task.env}: {preset.num_envs} environments x {preset.rollout_length} steps -> {job.directory}"
    )
    with searches.going_on(options, job.directory):
        result = _train(job, resume)
    best = result.best
    if is_main():
        _finish(job, result, best)


def _job(options: Options, resume: bool) -> Job:
    """Everything that can be said to be wrong before anything is compiled or written."""
    from purerl import distributed, presets
    from purerl.commands import runs, training
    from purerl.pbt.rounds import rounds
    from purerl.sweep.trials.spaces import check_space

    task = _whole_rounds(runs.resolve(options.setup, options.num_steps or 100_000), options.population.rounds)
    env = task.make_env()
    space = _space(options, task)
    agent = presets.build(task.preset, env)
    distributed.num_parts(options.num_trials)
    _, spaces = check_space(presets.hparams(task.preset), space)
    if not spaces:
        raise UsageError("--space holds constants alone: there is nothing that a population could change")
    rounds(
        agent, env, spaces, population_size=options.num_trials, updates_per_round=1, rollout_length=1,
        **_decisions(options),
    )  # fmt: skip
    training.check(task, agent, env)
    return Job(options, task, searches.begin(options, task, resume), agent, env, space)


def _whole_rounds(task: Task, rounds: int) -> Task:
    """The task with as many steps as come nearest to what was asked for and are the same in every round.

    Raises:
      UsageError: that is not one update a round.
    """
    preset = task.preset
    batch = preset.num_envs * preset.rollout_length
    if preset.num_updates < rounds:
        raise UsageError(
            f"--rounds {rounds}: {preset.num_steps:,} steps are {preset.num_updates} updates of {preset.num_envs} "
            f"environments x {preset.rollout_length} steps: take fewer rounds, or --num-steps {rounds * batch}"
        )
    num_steps = round(preset.num_updates / rounds) * rounds * batch
    return task._replace(preset=preset._replace(num_steps=num_steps))


def _space(options: Options, task: Task) -> dict[str, Any]:
    """The space; of hyperparameters alone, for all else is the same for all members of a population."""
    from purerl import presets

    space = searches.space_of(options, task.preset.algorithm)
    names = presets.hparams(task.preset)._fields
    for name in space:
        if "." in name or (name in ("num_envs", "rollout_length") and name not in names):
            raise UsageError(f"--space {name}: with pbt only hyperparameters can differ between members")
    return space


def _decisions(options: Options) -> dict[str, Any]:
    names = ("exploit_fraction", "resample_probability", "perturb_factors")
    return {name: getattr(options.population, name) for name in names}


def _train(job: Job, resume: bool) -> PBTResult:
    import jax

    from purerl import pbt, presets
    from purerl.sweep.run import journal

    options, preset = job.options, job.task.preset
    with console.progress(job.round_steps * options.population.rounds) as show:
        return pbt.pbt(
            jax.random.key(options.seed), job.agent, job.env, presets.hparams(preset), job.space,
            population_size=options.num_trials, num_rounds=options.population.rounds,
            updates_per_round=job.updates_per_round, num_envs=preset.num_envs, rollout_length=preset.rollout_length,
            rollout=presets.rollout(preset), **_decisions(options), eval_episodes=options.eval_episodes,
            eval_max_steps=job.task.max_episode_steps(), directory=job.directory,
            resume=resume and journal.exists(job.directory), progress=lambda now: _show(show, job, now),
        )  # fmt: skip


def _show(show: console.Update, job: Job, now: PBTProgress) -> None:
    scores = f"scores: best {console.format_number(now.best_score)}, median {console.format_number(now.median_score)}"
    memory = console.memory_in_use()
    show(now.round * job.round_steps, f"round {now.round} of {now.num_rounds}, {scores}, {memory}")


def _finish(job: Job, result: PBTResult, best: Any) -> None:
    """Show and save the table, the picture and the best policy, and play that again on other episodes."""
    import jax

    from purerl import plots
    from purerl.hparams import python_number

    plots.family(result).savefig(job.directory / "family.png", dpi=150)
    rows = result.member_rows()
    columns = [name.replace("_", " ") for name in rows[0]]
    shown = [[_short(value) for value in row.values()] for row in rows[: job.options.top]]
    title = f"{result.population_size} members after {int(result.steps[-1]):,} steps each, and what they ended with"
    console.print_table(title, columns, shown)
    member = int(result.order[0])
    details = {"member": member, "score": float(result.lineage.scores[-1, member])}
    hparams = jax.tree.map(lambda leaf: python_number(leaf[-1, member]), result.lineage.hparams)
    seed = job.options.seed + 1
    console.say(searches.keep_best(job.directory, job.task, job.agent, job.env, hparams, best, details, seed))
    console.say(
        f"{console.format_seconds(result.seconds)}; saved lineage.csv, pbt.json, family.png and the best policy to "
        f"{job.directory}"
    )
    console.say(f"play it with: purerl evaluate {job.directory}; read about it with: purerl report {job.directory}")


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else console.format_number(value)
