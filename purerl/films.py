"""Episodes to look at: `play` a policy, draw every step, and `save` a GIF or MP4, or show it in a terminal.

policy = purerl.load("runs/first")
episode = films.play(jax.random.key(0), policy.agent, policy.env, policy.state, max_steps=500)
films.save(films.frames(policy.env, episode), "replay.gif")
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs import HostEnv, pictures
from purerl.envs.checking import check
from purerl.envs.wrappers.rendering import Drawing
from purerl.hparams import check_positive
from purerl.loops.host import play_on_host
from purerl.prng import check_key
from purerl.runtime import install_hint
from purerl.spaces import clip_action
from purerl.types import Agent, Env, Key, PyTree, State

Frames: TypeAlias = list[np.ndarray]
"""Images, uint8 [H, W, 3], all of one size."""


class Played(NamedTuple):
    """An episode of L steps on the host.

    Attributes:
      env_states, obs: before every step and after the last, leaves [L + 1, ...].
      action: leaves [L, ...].
      reward: [L] float32.
    """

    env_states: PyTree
    obs: PyTree
    action: PyTree
    reward: np.ndarray


def play(
    key: Key,
    agent: Agent,
    env: Env,
    state: State,
    *,
    max_steps: int | None = None,
    greedy: bool = True,
) -> Played:
    """Play one episode and keep all that is needed to draw it.

    Args:
      key: typed key.
      agent, env, state: as in `evaluate`; actions are clipped to the bounds of their space.
      max_steps: longest episode, in steps; None for `env.max_steps`.
      greedy: take the greedy action; otherwise sample.

    Raises:
      TypeError: `env` is not an `Env`, such as one that runs on the host.
      ValueError: `max_steps` is not positive, or it is None and the environment has no limit.
    """
    check_key(key)
    env = check(env)
    limit = env.max_steps if max_steps is None else max_steps
    if limit is None:
        raise ValueError("play needs max_steps, because the environment has no time limit")
    check_positive(max_steps=limit)
    first, steps, length = jax.device_get(_play(key, agent, env, state, limit, greedy))
    states, obs, action, reward = jax.tree.map(lambda x: x[:length], steps)
    states, obs = jax.tree.map(lambda x, xs: np.concatenate([np.asarray(x)[None], xs]), first, (states, obs))
    return Played(states, obs, action, reward)


@functools.partial(jax.jit, static_argnums=(1, 2, 4, 5))
def _play(
    key: Key, agent: Agent, env: Env, state: State, max_steps: int, greedy: bool
) -> tuple[tuple[PyTree, PyTree], PyTree, jax.Array]:
    reset_key, memory_key, step_key = jax.random.split(key, 3)
    obs, env_state = env.reset(reset_key)
    memory = agent.memory(None if greedy else memory_key, state) if agent.memory else ()

    def step(carry: PyTree, t: jax.Array) -> tuple[PyTree, PyTree]:
        obs, env_state, memory, alive = carry
        act_key, env_key = jax.random.split(jax.random.fold_in(step_key, t))
        action, _, *rest = agent.act(None if greedy else act_key, state, obs, *([memory] if agent.memory else []))
        action = clip_action(action, env.action_space)
        new = env.step(env_key, env_state, action)
        after = new.obs, new.env_state, rest[0] if agent.memory else (), alive & ~(new.terminated | new.truncated)
        return after, ((new.env_state, new.obs, action, new.reward), alive)

    carry = obs, env_state, memory, jnp.bool_(True)
    _, (steps, alive) = jax.lax.scan(step, carry, jnp.arange(max_steps))
    return (env_state, obs), steps, alive.sum()


def frames(env: Env, played: Played, max_frames: int = 500) -> Frames:
    """Draw an episode by `env.render`; without one, image observations as boards and others as bars.

    Args:
      env: the environment.
      played: from `play`.
      max_frames: of a longer episode only the beginning is drawn.
    """
    count = min(max_frames, len(played.reward) + 1)

    def at(tree: PyTree, t: int) -> PyTree:
        return jax.tree.map(lambda x: x[t], tree)

    if env.render is not None:
        return [np.asarray(env.render(at(played.env_states, t)), np.uint8) for t in range(count)]
    return [_of_observation(at(played.obs, t)) for t in range(count)]


def _of_observation(obs: PyTree) -> np.ndarray:
    leaves = jax.tree.leaves(obs)
    if len(leaves) == 1 and np.ndim(leaves[0]) in (2, 3) and min(leaves[0].shape[:2]) > 3:
        return pictures.board(leaves[0])
    return pictures.bars(np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in leaves]))


def captioned(images: Frames, played: Played, title: str) -> Frames:
    """The frames under a line that says which step it is and the return so far."""
    totals = np.concatenate([[0.0], np.cumsum(played.reward)])

    def one(t: int, image: np.ndarray) -> np.ndarray:
        text = f"{title}   step {t}   return {totals[t]:.4g}"
        strip = pictures.picture(
            lambda pen: pen.text((12, 8), text, fill="#2b2b33", font_size=22), max(image.shape[1], 240), 20
        )
        padded = np.full((image.shape[0], strip.shape[1], 3), 255, np.uint8)
        left = (strip.shape[1] - image.shape[1]) // 2
        padded[:, left : left + image.shape[1]] = image
        return np.concatenate([strip, padded])

    return [one(t, image) for t, image in enumerate(images)]


def film(
    key: Key,
    agent: Agent,
    env: Env,
    state: State,
    *,
    title: str,
    max_steps: int | None = None,
    greedy: bool = True,
    max_frames: int = 500,
) -> tuple[Frames, Played]:
    """`play`, `frames` and `captioned` in one call; arguments as there."""
    played = play(key, agent, env, state, max_steps=max_steps, greedy=greedy)
    return captioned(frames(env, played, max_frames), played, title), played


def film_on_host(
    key: Key,
    agent: Agent,
    env: HostEnv,
    state: State,
    *,
    title: str,
    max_steps: int,
    greedy: bool = True,
    max_frames: int = 500,
) -> tuple[Frames, Played]:
    """The same for an environment on the host: drawn by its library, or from its observations if it is not.

    Args:
      key, agent, state, title, greedy, max_frames: as in `film`.
      env: such as `envs.make("gymnasium/LunarLander-v3", render_mode="rgb_array")`.
      max_steps: longest episode, in steps.
    """
    images: Frames = []

    def look() -> None:
        if env.render is not None and len(images) < max_frames:
            images.append(np.asarray(env.render(), np.uint8))

    steps = play_on_host(key, agent, env, state, look, max_steps=max_steps, greedy=greedy)
    obs = jax.tree.map(lambda x, last: np.concatenate([x, last[-1:]]), steps.obs, steps.next_obs)  # [L + 1, ...]
    played = Played((), obs, steps.action, np.asarray(steps.reward))
    if env.render is None:
        count = min(max_frames, len(steps.reward) + 1)
        images = [_of_observation(jax.tree.map(lambda x: x[t], obs)) for t in range(count)]  # noqa: B023
    return captioned(images, played, title), played


# --- Files ------------------------------------------------------------------------------------------------------------


def save(images: Frames, path: str | os.PathLike[str], fps: int = 30) -> Path:
    """Write frames as an animation; the last one stays for a second.

    Args:
      images: from `frames` or `captioned`.
      path: ends with .gif, or with .mp4, which needs ffmpeg.
      fps: frames per second.

    Raises:
      ValueError: another ending, or no frames.
      ModuleNotFoundError: an MP4 without ffmpeg; the message says how to get it.
    """
    path = Path(path)
    writers: dict[str, Callable[[Frames, Path, int], None]] = {".gif": _save_gif, ".mp4": _save_mp4}
    if path.suffix not in writers:
        raise ValueError(f"{path} must end with .gif or .mp4")
    if not images:
        raise ValueError("there are no frames to save")
    path.parent.mkdir(parents=True, exist_ok=True)
    writers[path.suffix]([*images, *[images[-1]] * fps], path, fps)
    return path


def _save_gif(images: Frames, path: Path, fps: int) -> None:
    from PIL import Image

    palette = Image.fromarray(np.concatenate([images[0], images[len(images) // 2]])).quantize(64)
    shown = [Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=max(20, round(1000 / fps)), loop=0)


def _save_mp4(images: Frames, path: Path, fps: int) -> None:
    height, width = (size - size % 2 for size in images[0].shape[:2])  # the codec takes even sizes only
    command = [
        ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", str(fps), "-i", "-", "-pix_fmt", "yuv420p", str(path),
    ]  # fmt: skip
    pixels = b"".join(np.ascontiguousarray(image[:height, :width]).tobytes() for image in images)
    subprocess.run(command, input=pixels, check=True)


def save_page(env: Env, played: Played, path: str | os.PathLike[str], max_frames: int = 500) -> Path:
    """Write an episode as a page for a browser, with the viewer of the environment's library.

    The page holds the episode. The viewer's scripts (brax's, three.js and others, over a megabyte) are fetched from the
    network when it is opened, as in the pages that brax itself writes.

    Args:
      env: an environment that has pages, such as those of brax.
      played: from `play`.
      path: of the file.
      max_frames: of a longer episode only the beginning is written.

    Raises:
      ValueError: the environment has no pages.
    """
    check_pages(env)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(env.render.page(jax.tree.map(lambda x: x[:max_frames], played.env_states)))  # type: ignore[union-attr]
    return path


def check_pages(env: Env | HostEnv) -> None:
    """Reject an environment without pages.

    Raises:
      ValueError: says which have them.
    """
    if not isinstance(env.render, Drawing):
        raise ValueError(f"{env.id or 'this environment'} has no page for a browser; those of brax have one")


def ffmpeg() -> str:
    """The program that writes MP4 files.

    Raises:
      ModuleNotFoundError: there is none; the message says how to get it.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ModuleNotFoundError(f"MP4 needs ffmpeg: {install_hint('video')}; a .gif needs nothing")
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


# --- Terminals --------------------------------------------------------------------------------------------------------


def show(images: Sequence[np.ndarray], write: Callable[[str], Any], columns: int = 80, fps: int = 30) -> None:
    """Show frames in a terminal of 24-bit colours, one over the other.

    Args:
      images: from `frames` or `captioned`.
      write: writes and flushes a text.
      columns: width in characters.
      fps: frames per second.
    """
    for i, image in enumerate(images):
        text = in_characters(image, columns)
        write((f"\x1b[{text.count(chr(10)) + 1}F" if i else "") + text + "\n")
        time.sleep(1 / fps)


def in_characters(image: np.ndarray, columns: int = 80) -> str:
    """An image as lines of half blocks, two pixels in each character: the upper one in front, the lower one behind.

    Examples:
      >>> in_characters(np.zeros((2, 1, 3), np.uint8), columns=1)
      '\\x1b[38;2;0;0;0;48;2;0;0;0m▀\\x1b[0m'
    """
    from PIL import Image

    height = max(2, round(image.shape[0] / image.shape[1] * columns / 2) * 2)
    pixels = np.asarray(Image.fromarray(image).resize((columns, height), Image.Resampling.BOX))

    def cell(upper: np.ndarray, lower: np.ndarray) -> str:
        return "\x1b[38;2;{};{};{};48;2;{};{};{}m▀".format(*upper, *lower)

    rows = ["".join(map(cell, pixels[i], pixels[i + 1])) + "\x1b[0m" for i in range(0, height, 2)]
    return "\n".join(rows)
