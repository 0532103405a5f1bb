"""Chunks of a long run: equal lengths, since every other length is another program, and the metrics of one chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp

from purerl.types import Metrics


def split_updates(num_updates: int, num_chunks: int) -> list[int]:
    """Cut a run into about `num_chunks` chunks of one length, since every other length is another program.

    The nearest number of chunks (in ratio) that divides `num_updates` is taken, from half to twice as many. Where none
    does, the last chunk is shorter and compiles once more.
    """
    return cut(num_updates, chunk_length([num_updates], num_chunks))


def chunk_length(ends: Sequence[int], num_chunks: int) -> int:
    """A length that cuts the longest of some runs into about `num_chunks` chunks, and that divides all if it can.

    Args:
      ends: updates after which runs end, such as the rungs of all brackets.
      num_chunks: about how many chunks the longest is to have.
    """
    total, common = max(ends), math.gcd(*ends)
    lengths = [n for n in range(1, common + 1) if common % n == 0]
    even = [n for n in lengths if (num_chunks + 1) // 2 <= total // n <= 2 * num_chunks]
    if not even and len(ends) > 1 and total // common <= 4 * num_chunks:
        even = [common]
    if even:
        return min(even, key=lambda n: abs(math.log(total / n / num_chunks)))
    return math.ceil(total / num_chunks)


def cut(num_updates: int, length: int) -> list[int]:
    """Chunks of a length, and the rest as a shorter one."""
    whole, rest = divmod(num_updates, length)
    return [length] * whole + [rest] * (rest > 0)


def reduce_metrics(metrics: Metrics) -> Metrics:
    """Metrics of a chunk of updates, leaves [U], as scalars: sums and means over what each of them counts.

    `num_episodes` is summed, `episode_return` and `episode_length` are means over the episodes, NaN if none ended;
    everything else is the mean over the updates.
    """
    episodes = metrics["num_episodes"]
    reduced = {name: jnp.mean(value, axis=0) for name, value in metrics.items()}
    for name in ("episode_return", "episode_length"):
        reduced[name] = jnp.sum(jnp.where(episodes > 0, metrics[name] * episodes, 0)) / episodes.sum()
    return reduced | {"num_episodes": episodes.sum()}
