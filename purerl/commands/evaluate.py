"""`purerl evaluate`: play a saved policy."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

from purerl.commands import console
from purerl.commands.options import Count, OptionalCount, Seed, hint, usage_errors


@dataclasses.dataclass(frozen=True)
class Options:
    """Play the policy that `purerl train` or `purerl sweep` saved, and say how well it does.

    The episodes are written to <run>/evaluation.csv.
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
