"""`purerl evaluate`: play a saved policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl import checkpoint, datasets, logging, loops, runs
from purerl.commands import console, tasks
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.evaluate import Options
from purerl.commands.summaries import summary
from purerl.envs import HostEnv
from purerl.loops.host import evaluate_on_host
from purerl.runs import Policy
from purerl.spaces import clip_action

# Algorithms for recorded steps that can act there, by the kind of action.
_LEARNERS = {"Discrete": "cql", "Box": "iql"}


def run(options: Options) -> None:
    """Evaluate as the options say.

    Raises:
      UsageError: no policy is saved there.
      CheckpointError: it is damaged.
    """
    tasks.reject_missing("evaluate", options.run, options.runs_dir, "policy/SHA256SUMS")
    with usage_errors():
        policy = _within_bounds(runs.load_policy(options.run, options.runs_dir))
        max_steps = options.max_steps or policy.task.max_episode_steps()
    if isinstance(policy.env, HostEnv):
        if options.record:
            raise UsageError(f"--record needs an environment in JAX, but {policy.task.env} runs on the host")
        played = evaluate_on_host(
            jax.random.key(options.seed), policy.agent, policy.env, policy.state, num_episodes=options.num_episodes,
            greedy=not options.sample,
        )  # fmt: skip
        _show(options, policy, played)
        return
    if options.record:
        _record(options, Path(options.record), policy)
        return
    played = loops.evaluate(
        jax.random.key(options.seed), policy.agent, policy.env, policy.state,
        num_episodes=options.num_episodes, max_steps=max_steps, greedy=not options.sample,
    )  # fmt: skip
    _show(options, policy, played)


def _show(options: Options, policy: Policy, played: loops.Evaluation) -> None:
    """Print the returns in words, and save every one."""
    returns, lengths = np.asarray(played.episode_return), np.asarray(played.episode_length)
    kind = "sampled" if options.sample else "greedy"
    console.say(f"{policy.task.preset.algorithm} on {policy.task.env}, {options.num_episodes} {kind} episodes")
    console.prose(summary(returns[None].astype(np.float64)))
    console.say(f"mean length {lengths.mean():.1f}, lowest return {returns.min():.4g}, highest {returns.max():.4g}")
    console.say(f"every episode: {_write(_table(policy.directory), returns, lengths)}")


def _within_bounds(policy: Policy) -> Policy:
    """The policy with its actions clipped to the bounds of the action space, as a user of it must do."""
    agent, space = policy.agent, policy.env.action_space

    def act(*arguments: Any) -> Any:
        action, *rest = agent.act(*arguments)
        return clip_action(action, space), *rest

    return policy._replace(agent=agent._replace(act=act))


def _table(directory: Path) -> Path:
    """Where the episodes are saved: in the run, or beside a policy that lies alone, whose files are under checksums."""
    if (directory / checkpoint.MANIFEST).is_file():
        return directory.with_name(f"{directory.name}-evaluation.csv")
    return directory / "evaluation.csv"


def _write(path: Path, returns: np.ndarray, lengths: np.ndarray) -> Path:
    writer = logging.csv_writer(path)
    for episode, (total, length) in enumerate(zip(returns.tolist(), lengths.tolist())):
        writer.write(episode, {"episode_return": total, "episode_length": length})
    writer.close()
    return path


def _record(options: Options, directory: Path, policy: Policy) -> None:
    """Save the steps of the policy as a dataset."""
    task = policy.task
    about = {"algorithm": task.preset.algorithm, "env": task.env, "sampled": options.sample, "seed": options.seed}
    with usage_errors():
        if directory.exists():
            raise UsageError(f"{directory} already exists: choose another directory for --record")
        data = datasets.record(
            jax.random.key(options.seed), policy.agent, policy.env, policy.state, num_steps=options.record_steps,
            greedy=not options.sample,
        )  # fmt: skip
    datasets.save(directory, data._replace(aux=()), about)
    ended = int((data.terminated | data.truncated).sum())
    console.say(f"{options.record_steps:,} steps, {ended:,} ends of episodes: {directory}")
    learner = _LEARNERS.get(type(policy.env.action_space).__name__, "behavior_cloning")
    console.say(
        f"Learn from them with: purerl train --algorithm {learner} --env {task.env} --dataset {runs.quoted(directory)}"
    )
