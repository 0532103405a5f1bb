"""`purerl sweep`: search hyperparameters, many agents in one compiled program."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from purerl.commands import console
from purerl.commands.options import Count, OptionalCount, Output, Seed, Setup, hint, usage_errors

if TYPE_CHECKING:
    from purerl.commands.runs import Task
    from purerl.sweep import Progress, Result


@dataclasses.dataclass(frozen=True)
class Options:
    """Search hyperparameters: all trials and seeds are trained side by side, evaluated on the same episodes and ranked.

    Without options: 64 random trials of PPO x 2 seeds on CartPole-v1. The table, the pictures and the best policy go to
    runs/<name>/; `purerl evaluate runs/<name>` plays the policy.
    """

    setup: Setup = dataclasses.field(default_factory=Setup)
    output: Output = dataclasses.field(default_factory=Output)
    num_trials: Count = 64
    """Trials drawn at random; a grid takes all its points."""
    num_seeds: Count = 2
    """Agents of each trial, alike but for their random numbers."""
    num_steps: Annotated[OptionalCount, hint("100_000")] = None
    """Environment steps of each agent, such as 100_000, 100k or 1e5."""
    space: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME=SPACE ...", help_behavior_hint="(default: the table's)")
    ] = ()
    """What is searched: uniform:LOW,HIGH, log_uniform:LOW,HIGH, integers:LOW,HIGH, choice:A,B,... or a number, such as
    learning_rate=log_uniform:1e-4,1e-2 clip_epsilon=choice:0.1,0.2. A grid needs points: uniform:0.9,1,points=5.
    """
    method: Literal["random", "grid"] = "random"
    """Draw trials at random, or take every combination of the grid."""
    seed: Seed = 0
    """Seed of all random numbers."""
    block_size: Count = 128
    """How many agents one program trains side by side, at most."""
    eval_episodes: Count = 16
    """Greedy episodes that each agent plays at the end."""
    top: Count = 10
    """Rows of the table that is shown; all are written to trials.csv."""


def run(options: Options) -> None:
    """Search as the options say.

    Raises:
      UsageError: they cannot be done.
    """
    import jax

    from purerl import presets, sweep
    from purerl.commands import runs, training
    from purerl.sweep.search import make_trials

    with usage_errors():
        runs.check_free(options.output)
        task = runs.resolve(options.setup, options.num_steps or 100_000)
        preset, hparams = task.preset, presets.hparams(task.preset)
        space = _space(options, preset.algorithm)
        num_trials = options.num_trials if options.method == "random" else None
        key = jax.random.key(options.seed)
        trials, _ = make_trials(key, hparams, space, num_trials)
        env = task.make_env()
        agent = presets.build(preset, env)
        training.check(task, agent, env)
        config = {"command": "sweep", "task": task.to_json(), "options": dataclasses.asdict(options)}
        directory = runs.create(options.output, f"sweep-{preset.algorithm}-{task.env}", config)
    count = len(jax.tree.leaves(trials)[0])
    console.say(f"{count} trials x {options.num_seeds} seeds, each {runs.describe(task)} -> {directory}")
    with console.progress(
        preset.num_updates * preset.num_envs * preset.rollout_length * count * options.num_seeds
    ) as show:
        result = sweep.search(
            key, agent, env, hparams, space, num_trials=num_trials, num_seeds=options.num_seeds,
            num_updates=preset.num_updates, num_envs=preset.num_envs, rollout_length=preset.rollout_length,
            rollout=presets.rollout(preset), block_size=options.block_size, eval_episodes=options.eval_episodes,
            eval_max_steps=task.max_episode_steps(), progress=lambda progress: _show(show, progress),
        )  # fmt: skip
    _finish(options, directory, task, agent, env, result)


def _space(options: Options, algorithm: str) -> dict[str, Any]:
    from purerl import presets
    from purerl.commands.options import split_assignments
    from purerl.commands.search_space import parse_spaces

    return parse_spaces(split_assignments("space", options.space) or presets.algorithm(algorithm).space)


def _show(show: console.Update, progress: Progress) -> None:
    """The first part compiles, so the rate counts from its end."""
    if progress.phase == "compile":
        return
    best = "" if math.isnan(progress.best_return) else f"best return {console.format_number(progress.best_return)}"
    show(progress.steps, "evaluating" if progress.phase == "evaluate" else best)


def _finish(options: Options, directory: Path, task: Task, agent: Any, env: Any, result: Result) -> None:
    """Show and save the table, the pictures and the best policy, and play that again on other episodes."""
    import jax
    import numpy as np

    from purerl import loops, presets, sweep
    from purerl.commands import report, runs

    result.save(directory)
    pictures = report.draw_sweep(directory, result)
    console.console().print(sweep.table(result, top=options.top))
    best = result.best
    defaults = presets.algorithm(task.preset.algorithm).hparams()()._asdict()
    hparams = {name: value for name, value in best.hparams._asdict().items() if value != defaults[name]}
    task = task._replace(preset=task.preset._replace(hparams=hparams, anneal=False))
    details = {"command": "sweep", "trial": best.number, "seed_index": best.seed, "returns": best.returns.tolist()}
    runs.save_policy(directory, task, best.state, details)
    fresh = loops.evaluate(
        jax.random.key(options.seed + 1), agent, env, best.state, num_episodes=100, max_steps=task.max_episode_steps()
    )
    returns = np.asarray(fresh.episode_return, np.float64)[None]
    console.say(f"best policy on fresh episodes: {report.summary(returns)}")
    settings = result.settings
    console.say(
        f"{console.format_seconds(settings['seconds'])}, {console.format_rate(settings['steps_per_second'])}; "
        f"saved trials.csv, sweep.json, {', '.join(path.name for path in pictures)} and the best policy to {directory}"
    )
    console.say(f"play it with: purerl evaluate {directory}")
