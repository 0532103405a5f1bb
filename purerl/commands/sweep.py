"""`purerl sweep`: search hyperparameters, many agents in one compiled program."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional

import tyro

from purerl.commands import console
from purerl.commands.options import Count, OptionalCount, Output, Seed, Setup, UsageError, hint, usage_errors

if TYPE_CHECKING:
    from purerl.commands.runs import Task
    from purerl.sweep import Progress, Result
    from purerl.sweep.trials import Trials


@dataclasses.dataclass(frozen=True)
class Options:
    """Search hyperparameters: all trials and seeds are trained side by side, evaluated on the same episodes and ranked.

    Without options: 64 random trials of PPO x 2 seeds on CartPole-v1. The table, the pictures and the best policy go to
    runs/<name>/; `purerl evaluate runs/<name>` plays the policy, `purerl report runs/<name>` writes a page about it.
    Everything is written down as it finishes: after Ctrl-C, a crash or a power cut, `purerl sweep --resume --name
    <name>` goes on and ends in the same table.
    """

    setup: Setup = dataclasses.field(default_factory=Setup)
    output: Output = dataclasses.field(default_factory=Output)
    num_trials: Count = 64
    """Trials that are drawn; a grid takes all its points."""
    num_seeds: Count = 2
    """Agents of each trial, alike but for their random numbers."""
    num_steps: Annotated[OptionalCount, hint("100_000")] = None
    """Environment steps of each agent that is trained to the end, such as 100_000, 100k or 1e5."""
    space: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME=SPACE ...", help_behavior_hint="(default: the table's)")
    ] = ()
    """What is searched: uniform:LOW,HIGH, log_uniform:LOW,HIGH, integers:LOW,HIGH, choice:A,B,... or a number, such as
    learning_rate=log_uniform:1e-4,1e-2 clip_epsilon=choice:0.1,0.2. A grid needs points: uniform:0.9,1,points=5.
    Beside hyperparameters: parameters of the environment (env.length=uniform:0.3,0.8), and choices that compile once
    each: num_envs=choice:4,16 rollout_length=choice:32,128 agent.num_epochs=choice:4,10
    network.hidden=choice:64,64|256,256
    """
    method: Literal["random", "sobol", "grid"] = "random"
    """Draw trials at random, by a Sobol sequence, or take every combination of the grid."""
    schedule: Literal["full", "halving", "hyperband"] = "full"
    """Train every trial to the end, or stop the worse ones early by successive halving or Hyperband."""
    eta: Count = 4
    """Halving: how many times fewer trials go on, and how many times longer they train, from rung to rung."""
    rungs: Count = 3
    """Rungs of halving, or brackets of Hyperband."""
    stop_clearly_worse: bool = False
    """Stop also those survivors of a rung whose interval lies below that of the median one; wants 3 seeds or more."""
    confirm: int = 0
    """How many of the best trials are trained again on fresh seeds: the best of many is optimistic."""
    confirm_seeds: Count = 8
    """How many fresh seeds."""
    seed: Seed = 0
    """Seed of all random numbers."""
    block_size: Annotated[OptionalCount, hint("16 on a CPU core, else all that fit")] = None
    """How many agents one program trains side by side, at most."""
    memory_limit: Annotated[Optional[str], tyro.conf.arg(metavar="SIZE"), hint("most of what is free")] = None  # noqa: UP045
    """Memory that a block of agents may take on a device, such as 800MB or 4GiB."""
    eval_episodes: Count = 16
    """Greedy episodes that each agent plays after each rung."""
    top: Count = 10
    """Rows of the table that is shown; all are written to trials.csv."""
    ray: Annotated[Optional[str], tyro.conf.arg(metavar="ADDRESS|local"), hint("this process")] = None  # noqa: UP045
    """Let Ray do the blocks, on a cluster (its address, or auto) or on this machine (local)."""
    resume: bool = False
    """Go on with the search --name, whose settings stay as they are."""


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
      SystemExit: with 130, when interrupted.
    """
    with usage_errors():
        job = _job(_resumed(options) if options.resume else options, options.resume)
    count, seeds = job.trials.size, job.options.num_seeds
    from purerl.commands import runs

    console.say(f"{count:,} trials x {seeds} seeds, each {runs.describe(job.task)} -> {job.directory}")
    try:
        result = _search(job, options.resume)
    except KeyboardInterrupt:
        console.say(f"\nwhat finished is saved; go on with: purerl sweep --resume {_where(job)}")
        raise
    _finish(job, result)


# --- Before -----------------------------------------------------------------------------------------------------------


def _resumed(options: Options) -> Options:
    """The options that a search was begun with."""
    from purerl.commands import runs
    from purerl.sweep.storage import with_tuples

    if options.output.name is None:
        raise UsageError("--resume needs to know which search to go on with: give its --name")
    if dataclasses.replace(options, output=Output(), resume=False) != Options():
        raise UsageError("--resume goes on with the settings of the search: leave out everything but its --name")
    saved = runs.read_config(runs.directory_of(options.output))
    if saved.get("command") != "sweep":
        raise UsageError(f"{runs.directory_of(options.output)} was made by purerl {saved.get('command')}, not by sweep")
    fields: dict[str, Any] = with_tuples(saved["options"])
    setup: dict[str, Any] = fields.pop("setup")
    known = {field.name for field in dataclasses.fields(Options)}
    rest: dict[str, Any] = {name: value for name, value in fields.items() if name in known - {"output", "setup"}}
    return Options(setup=Setup(**setup), output=options.output, **rest)


def _job(options: Options, resume: bool) -> Job:
    """Everything that can be said to be wrong before anything is compiled or written."""
    import jax

    from purerl import presets
    from purerl.commands import runs, training
    from purerl.commands.search_space import split_static

    if not resume:
        runs.check_free(options.output)
    task = runs.resolve(options.setup, options.num_steps or 100_000)
    env = task.make_env()
    space, static = split_static(_space(options, task.preset.algorithm))
    key = jax.random.key(options.seed)
    trials = _trials(jax.random.split(key, 4)[0], options, task, space, static)
    builder = _builder(task, env)
    agent = builder if static else builder()
    for group in trials.groups:
        chosen = _with_static(task, group)
        training.check(chosen, presets.build(chosen.preset, env) if static else agent, env)
    _schedule(options)(trials.size, task.preset.num_updates)
    if resume:
        directory = runs.directory_of(options.output)
    else:
        config = {"command": "sweep", "task": task.to_json(), "options": dataclasses.asdict(options)}
        directory = runs.create(options.output, f"sweep-{task.preset.algorithm}-{task.env}", config)
    return Job(options, task, directory, agent, env, trials, key)


def _space(options: Options, algorithm: str) -> dict[str, Any]:
    from purerl import presets
    from purerl.commands.options import split_assignments
    from purerl.commands.search_space import parse_spaces

    return parse_spaces(split_assignments("space", options.space) or presets.algorithm(algorithm).space)


def _trials(key: Any, options: Options, task: Task, space: dict[str, Any], static: dict[str, Any]) -> Trials:
    """The trials; where the learning rate is annealed to the end of training, to each group's own number of updates."""
    import numpy as np

    import purerl
    from purerl import presets
    from purerl.sweep import trials

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
    from purerl.sweep import journal, memory

    options, preset = job.options, job.task.preset
    limit = None if options.memory_limit is None else memory.parse_bytes(options.memory_limit)
    total = preset.num_updates * preset.num_envs * preset.rollout_length * job.trials.size * options.num_seeds
    with console.progress(total) as show:
        return sweep.search(
            job.key, job.agent, job.env, job.trials, num_seeds=options.num_seeds,
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
    from purerl.sweep import ray_blocks

    with usage_errors():
        return {"executor": ray_blocks.on_ray(None if options.ray == "local" else options.ray)}


def _show(show: console.Update, progress: Progress) -> None:
    """The first part compiles, so the rate counts from its end."""
    if progress.note:
        console.say(progress.note)
    if progress.phase == "compile":
        return
    best = "" if math.isnan(progress.best_return) else f"best return {console.format_number(progress.best_return)}"
    state = "evaluating" if progress.phase == "evaluate" else best
    show(progress.steps, f"{state}, {console.memory_in_use()}", progress.total_steps)


def _where(job: Job) -> str:
    runs_dir = job.options.output.runs_dir
    return f"--name {job.directory.name}" + (f" --runs-dir {runs_dir}" if runs_dir != Output().runs_dir else "")


# --- After ------------------------------------------------------------------------------------------------------------


def _finish(job: Job, result: Result) -> None:
    """Show and save the table, the pictures and the best policy, and play that again on other episodes."""
    import jax
    import numpy as np

    from purerl import loops, presets, sweep
    from purerl.commands import report, runs

    pictures = report.draw_sweep(job.directory, result)
    console.console().print(sweep.table(result, top=job.options.top))
    best = result.best
    defaults = presets.algorithm(job.task.preset.algorithm).hparams()()._asdict()
    hparams = {name: value for name, value in best.hparams._asdict().items() if value != defaults[name]}
    static = {name: value for name, value in best.choices.items() if not name.startswith("env.")}
    task = _with_static(job.task, static)
    task = task._replace(preset=task.preset._replace(hparams=hparams, anneal=False))
    details = {"command": "sweep", "trial": best.number, "seed_index": best.seed, "returns": best.returns.tolist()}
    runs.save_policy(job.directory, task, best.state, details)
    agent = job.agent(**{name: v for name, v in static.items() if "." in name}) if callable(job.agent) else job.agent
    fresh = loops.evaluate(
        jax.random.key(job.options.seed + 1), agent, job.env, best.state, num_episodes=100,
        max_steps=task.max_episode_steps(),
    )  # fmt: skip
    returns = np.asarray(fresh.episode_return, np.float64)[None]
    console.say(f"best policy on fresh episodes: {report.summary(returns)}")
    settings = result.settings
    console.say(
        f"{console.format_seconds(settings['seconds'])}, {console.format_rate(settings['steps_per_second'])}; "
        f"saved trials.csv, curves.csv, sweep.json, {', '.join(path.name for path in pictures)} and the best policy "
        f"to {job.directory}"
    )
    console.say(f"play it with: purerl evaluate {job.directory}; read about it with: purerl report {job.directory}")
