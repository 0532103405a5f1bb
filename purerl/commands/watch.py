"""`purerl watch`: an episode of a saved policy as an animation, or in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import jax

from purerl import films, runs
from purerl.commands import console, tasks
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.watch import Options
from purerl.envs import HostEnv


def run(options: Options) -> None:
    """Play and draw as the options say.

    Raises:
      UsageError: no policy is saved there, or the file has another ending.
      CheckpointError: it is damaged.
    """
    tasks.reject_missing("watch", options.run, options.runs_dir, "policy/SHA256SUMS")
    with usage_errors():
        policy = runs.load(options.run, options.runs_dir)
        if isinstance(policy.env, HostEnv):
            raise UsageError(f"{policy.task.env} runs on the host, and only environments in JAX are drawn")
        path = Path(options.output) if options.output else policy.directory / "replay.gif"
        if path.suffix not in (".gif", ".mp4"):
            raise UsageError(f"--output {path} must end with .gif or .mp4")
        if path.suffix == ".mp4" and not options.live:
            films.ffmpeg()
    images, played = films.film(
        jax.random.key(options.seed), policy.agent, policy.env, policy.state, title=policy.task.env,
        max_steps=options.max_steps or policy.task.max_episode_steps(), greedy=not options.sample,
        max_frames=options.max_frames,
    )  # fmt: skip
    if options.live:
        films.show(images, _write, console.width(), options.fps)
    else:
        console.say(f"{films.save(images, path, options.fps)}: {len(images)} frames")
    console.say(f"{len(played.reward)} steps, return {played.reward.sum():.4g}")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
