"""`purerl watch`: an episode of a saved policy as an animation, or in the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

import purerl
from purerl import films, runs
from purerl.commands import console, tasks
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.watch import Options
from purerl.envs import HostEnv, families
from purerl.films import Frames, Played
from purerl.presets.tasks import Task
from purerl.runs import Policy


def run(options: Options) -> None:
    """Play and draw as the options say.

    Raises:
      UsageError: no policy is saved there, or the file has another ending.
      CheckpointError: it is damaged.
    """
    tasks.reject_missing("watch", options.run, options.runs_dir, "policy/SHA256SUMS")
    with usage_errors():
        policy = runs.load(options.run, options.runs_dir)
        path = _path(options, policy)
    if path.suffix == ".html" and not options.live:
        played = films.play(
            jax.random.key(options.seed), policy.agent, policy.env, policy.state, max_steps=_max_steps(options, policy),
            greedy=not options.sample,
        )  # fmt: skip
        path = films.save_page(policy.env, played, path, options.max_frames)
        console.prose(f"{path}: open it in a browser with a network connection, which fetches the viewer's scripts")
    else:
        images, played = _filmed(options, policy)
        if options.live:
            films.show(images, _write, console.width(), options.fps)
        else:
            console.say(f"{films.save(images, path, options.fps)}: {len(images)} frames")
    console.say(f"{len(played.reward)} steps, return {played.reward.sum():.4g}")


def _path(options: Options, policy: Policy) -> Path:
    """The file to write, which can be written.

    Raises:
      UsageError, ValueError, ModuleNotFoundError: says why it cannot.
    """
    path = Path(options.output) if options.output else policy.directory / "replay.gif"
    if path.suffix not in (".gif", ".mp4", ".html"):
        raise UsageError(f"--output {path} must end with .gif, .mp4 or .html")
    if path.suffix == ".html":
        films.check_pages(policy.env)
    if path.suffix == ".mp4" and not options.live:
        films.ffmpeg()
    return path


def _filmed(options: Options, policy: Policy) -> tuple[Frames, Played]:
    """An episode and its pictures, in JAX or on the host."""
    key, agent, state = jax.random.key(options.seed), policy.agent, policy.state
    settings: dict[str, Any] = {
        "title": policy.task.env, "max_steps": _max_steps(options, policy), "greedy": not options.sample,
        "max_frames": options.max_frames,
    }  # fmt: skip
    if not isinstance(policy.env, HostEnv):
        return films.film(key, agent, policy.env, state, **settings)
    with _drawn(policy.task) as env:
        return films.film_on_host(key, agent, env, state, **settings)


@contextlib.contextmanager
def _drawn(task: Task) -> Iterator[HostEnv]:
    """One environment on the host that can be drawn, if its library draws any; what that needs may be missing.

    Raises:
      UsageError: in the body; the message is that of the library.
    """
    settings = {**task.env_settings, "num_envs": 1, **families.family(task.env.partition("/")[0]).drawn}
    env = purerl.envs.make(task.env, **settings)
    assert isinstance(env, HostEnv)
    try:
        yield env
    except Exception as error:
        if type(error).__name__ != "DependencyNotInstalled":
            raise
        raise UsageError(f"{task.env} cannot be drawn: {error}") from error
    finally:
        env.close()


def _max_steps(options: Options, policy: Policy) -> int:
    return options.max_steps or policy.task.max_episode_steps()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
