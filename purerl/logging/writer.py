"""The type of a writer, and the names under which services show metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]

_TENSORBOARD_NAMES = {
    "episode_return": "rollout/ep_rew_mean",
    "episode_length": "rollout/ep_len_mean",
    "num_episodes": "rollout/num_episodes",
    "num_steps": "time/total_timesteps",
    "num_updates": "time/iterations",
    "seconds": "time/time_elapsed",
    "steps_per_second": "time/fps",
    "learning_rate": "train/learning_rate",
    "loss/policy": "train/policy_gradient_loss",
    "loss/value": "train/value_loss",
    "loss/entropy": "train/entropy",
    "loss/total": "train/loss",
    "eval_return": "eval/mean_reward",
    "eval_length": "eval/mean_ep_length",
}


class Writer(NamedTuple):
    """A destination of metrics.

    Attributes:
      write: `(step, metrics) -> None`: `step` is the number of environment steps so far, an increasing integer, and
        `metrics` a mapping from names to numbers (or to strings, which TensorBoard skips).
      close: `() -> None`: flush and release; nothing may be written afterwards.
    """

    write: Callable[[int, Row], None]
    close: Callable[[], None]


def tee(*writers: Writer) -> Writer:
    """A writer that passes everything to each of several writers, in order."""

    def write(step: int, metrics: Row) -> None:
        for writer in writers:
            writer.write(step, metrics)

    def close() -> None:
        for writer in writers:
            writer.close()

    return Writer(write, close)


def tensorboard_name(name: str) -> str:
    """The name that Stable-Baselines3 has for a metric; otherwise `loss/x` becomes `train/x` and other names stay.

    The entropy is `train/entropy`: Stable-Baselines3's `train/entropy_loss` is its negative.
    """
    if name in _TENSORBOARD_NAMES:
        return _TENSORBOARD_NAMES[name]
    return f"train/{name.removeprefix('loss/')}" if name.startswith("loss/") else name
