"""Chunks of a long run: equal lengths, since every other length is another program, and the metrics of one chunk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from purerl.numerics import missing


def split_updates(num_updates: int, num_chunks: int) -> list[int]:
    """Cut a run into about `num_chunks` chunks of one length, since every other length is another program.

    The nearest number of chunks (in ratio) that divides `num_updates` is taken, from half to twice as many. If none
    does, the last chunk is shorter and compiles once more.

    Examples:
      >>> split_updates(40, 10), split_updates(23, 4)
      ([4, 4, 4, 4, 4, 4, 4, 4, 4, 4], [6, 6, 6, 5])
    """
    return cut(num_updates, chunk_length([num_updates], num_chunks))


def chunk_length(ends: Sequence[int], num_chunks: int) -> int:
    """A length that cuts the longest of some runs into about `num_chunks` chunks, and divides as many as it can.

    The lengths tried first divide all runs, then all but the longest, whose last chunk is then shorter and compiles
    once more.

    Args:
      ends: updates after which runs end, such as the rungs of all brackets.
      num_chunks: about how many chunks the longest is to have.

    Examples:
      >>> chunk_length([2, 8, 32], 16), chunk_length([61, 244, 977], 20)
      (2, 61)
    """
    total = max(ends)
    shorter = [end for end in ends if end != total]
    for common in (math.gcd(*ends), math.gcd(*shorter)):
        most = min(common, 2 * num_chunks + 1)  # parts of `common`, which is at most `total`
        even = [common // parts for parts in range(most, 0, -1) if common % parts == 0]
        good = [n for n in even if (num_chunks + 1) // 2 <= total // n <= 2 * num_chunks]
        if not good and shorter and common and total // common <= 4 * num_chunks:
            good = [common]
        if good:
            return min(good, key=lambda n: abs(math.log(total / n / num_chunks)))
    return math.ceil(total / num_chunks)


def cut(num_updates: int, length: int) -> list[int]:
    """Chunks of a length, and the rest as a shorter one.

    Examples:
      >>> cut(7, 3)
      [3, 3, 1]
    """
    whole, rest = divmod(num_updates, length)
    return [length] * whole + [rest] * (rest > 0)


def reduce_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a chunk of updates, leaves [U, ...] of JAX or NumPy, as one number per chunk, leaves [...].

    `num_episodes` and `num_env_steps` are summed; `episode_return`, `episode_length` and `episode_end/<name>` are means
    over episodes, NaN if none ended; everything else is the mean over the updates.

    Examples:
      >>> import jax.numpy as jnp
      >>> returns, episodes = jnp.array([1.0, 5.0, jnp.nan]), jnp.array([3, 1, 0])
      >>> chunk = {"episode_return": returns, "episode_length": returns, "num_episodes": episodes}
      >>> {name: value.item() for name, value in reduce_metrics(chunk).items()}
      {'episode_return': 2.0, 'episode_length': 2.0, 'num_episodes': 4}
    """
    episodes = metrics["num_episodes"]
    xp = episodes.__array_namespace__()
    total = episodes.sum(axis=0)
    reduced = {
        name: value.sum(axis=0) if name in _SUMMED else xp.mean(value, axis=0) for name, value in metrics.items()
    }
    for name in (name for name in metrics if name.startswith(_OVER_EPISODES)):
        over_episodes = xp.where(episodes > 0, metrics[name] * episodes, 0).sum(axis=0) / xp.maximum(total, 1)
        reduced[name] = xp.where(total > 0, over_episodes, missing())
    return reduced


_SUMMED = ("num_episodes", "num_env_steps")
_OVER_EPISODES = ("episode_return", "episode_length", "episode_end/")
