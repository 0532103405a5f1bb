"""Cut a search up: its members into blocks of one width."""

from __future__ import annotations

import math
from collections.abc import Iterable

import jax
import numpy as np

_CPU_BLOCK = 16  # members per core: PPO at 4 x 128 ran at 220k steps/s, and at 140k with 64 per core
_WASTE = 1.25  # members trained, repeats included, over those of the even width: what a compilation is worth


def default_size(num_agents: int, parallel: int = 1) -> int:
    """The fastest width if it fits into memory: on CPUs what stays in their caches; on accelerators all members.

    With an executor that runs several blocks at a time, each takes its part.
    """
    if parallel > 1:
        return max(1, math.ceil(num_agents / parallel))
    return max(32, _CPU_BLOCK * jax.device_count()) if jax.default_backend() == "cpu" else num_agents


def split_agents(num_agents: int, block_size: int, num_devices: int = 1, num_processes: int = 1) -> np.ndarray:
    """Members 0, ..., A - 1 in as few blocks of at most `block_size` as possible, of one width and nearly equal.

    Returns:
      [num_blocks, width] indices; the last block is filled up with the last member. If there are at least as many
      members, and room in a block, as devices, the width is a multiple of `num_devices`; it is always a multiple of
      `num_processes`, since each of them has to take part.

    Examples:
      >>> split_agents(5, 3).tolist()
      [[0, 1, 2], [3, 4, 4]]
    """
    unit = num_devices if min(num_agents, block_size) >= num_devices else num_processes
    num_blocks = math.ceil(num_agents / max(block_size // unit * unit, unit))
    width = math.ceil(num_agents / num_blocks / unit) * unit
    return into_blocks(num_agents, width)


def into_blocks(num_agents: int, width: int) -> np.ndarray:
    """Members 0, ..., A - 1 in blocks of the given width, the last one filled up with the last member.

    Examples:
      >>> into_blocks(5, 2).tolist()
      [[0, 1], [2, 3], [4, 4]]
    """
    num_blocks = math.ceil(num_agents / width)
    return np.minimum(np.arange(num_blocks * width), num_agents - 1).reshape(num_blocks, width)


def choose_width(
    num_agents: int, block_size: int, num_devices: int, compiled: Iterable[int] = (), num_processes: int = 1
) -> int:
    """The width of the blocks of a rung: the even one, unless a program that is already compiled wastes little.

    A program of width w trains A members in the time of ⌈A / w⌉ w. A width that was used before is taken again if that
    is at most a quarter more than with the even width. Only sizes count, so that the same search has the same widths,
    and with them the same bits, however busy the machine is.

    Args:
      num_agents: A.
      block_size: largest width.
      num_devices, num_processes: as in `split_agents`.
      compiled: widths for which the program is already compiled.

    Examples:
      >>> choose_width(100, 64, num_devices=1)
      50
      >>> choose_width(110, 64, num_devices=1, compiled=[64])
      64
    """
    even = split_agents(num_agents, block_size, num_devices, num_processes).shape[1]

    def slots(width: int) -> int:
        return math.ceil(num_agents / width) * width

    near = [width for width in compiled if width <= block_size and slots(width) <= _WASTE * slots(even)]
    return min(sorted(near, reverse=True), key=slots, default=even)
