"""`purerl evaluate`: play a saved policy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from purerl.commands import console
from purerl.commands.options import Count, OptionalCount, Seed, UsageError, hint, usage_errors

if TYPE_CHECKING:
    from purerl.commands.runs import Policy


@dataclasses.dataclass(frozen=True)
class Options:
    """Play the policy that `purerl train` or `purerl sweep` saved, and say how well it does.

    The episodes are written to <run>/evaluation.csv. With --record, what the policy does is written down instead, for
    the algorithms that learn from recorded steps.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Directory of the run, such as runs/ppo-CartPole-v1."""
    num_episodes: Count = 100
    """How many episodes are played."""
    sample: bool = False
    """Sample actions from the policy; otherwise it takes the greedy one."""
    max_steps: Annotated[OptionalCount, hint("the environment's time limit")] = None
    """Longest episode, in steps."""
    seed: Seed = 0
    """Seed of the episodes."""
    record: Annotated[str | None, tyro.conf.arg(metavar="DIR"), hint("none")] = None
    """Directory for a dataset of --record-steps steps, which `purerl train --dataset DIR` learns from."""
    record_steps: Count = 100_000
    """Rows of that dataset, of 16 environments side by side."""


def run(options: Options) -> None:
    """Evaluate as the options say.

    Raises:
      UsageError: there is no policy there.
      CheckpointError: it is damaged.
    """
    import jax
    import numpy as np

    from purerl import logging, loops
    from purerl.commands import report, runs

    policy = runs.load_policy(options.run)
    if options.record:
        _record(options, options.record, policy)
        return
    with usage_errors():
        max_steps = options.max_steps or policy.task.max_episode_steps()
    played = loops.evaluate(
        jax.random.key(options.seed), policy.agent, policy.env, policy.state,
        num_episodes=options.num_episodes, max_steps=max_steps, greedy=not options.sample,
    )  # fmt: skip
    returns, lengths = np.asarray(played.episode_return), np.asarray(played.episode_length)
    kind = "sampled" if options.sample else "greedy"
    console.say(f"{policy.task.preset.algorithm} on {policy.task.env}, {options.num_episodes} {kind} episodes")
    console.say(report.summary(returns[None].astype(np.float64)))
    console.say(f"mean length {lengths.mean():.1f}; smallest return {returns.min():.4g}, largest {returns.max():.4g}")
    path = policy.directory / "evaluation.csv"
    writer = logging.csv_writer(path)
    for episode, (total, length) in enumerate(zip(returns.tolist(), lengths.tolist())):
        writer.write(episode, {"episode_return": total, "episode_length": length})
    writer.close()
    console.say(f"every episode: {path}")


def _record(options: Options, directory: str, policy: Policy) -> None:
    """Write down what the policy does."""
    import jax

    from purerl import datasets

    task = policy.task
    about = {"algorithm": task.preset.algorithm, "env": task.env, "sampled": options.sample, "seed": options.seed}
    with usage_errors():
        if Path(directory).exists():
            raise UsageError(f"{directory} is already there: choose another --record")
        data = datasets.record(
            jax.random.key(options.seed), policy.agent, policy.env, policy.state, num_steps=options.record_steps,
            greedy=not options.sample,
        )  # fmt: skip
    datasets.save(directory, data._replace(aux=()), about)
    ended = int((data.terminated | data.truncated).sum())
    console.say(f"{options.record_steps:,} steps, {ended:,} ends of episodes: {directory}")
    console.say(f"learn from them with: purerl train --algorithm cql --env {task.env} --dataset {directory}")
