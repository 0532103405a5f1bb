"""How the agents of a search are cut into blocks of one width."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


def split_agents(num_agents: int, block_size: int, num_devices: int = 1, num_processes: int = 1) -> np.ndarray:
    """Agents 0, ..., A - 1 in as few blocks of at most `block_size` as can be, of one width, as even as can be.

    Returns:
      [num_blocks, width] indices; what the last block lacks is filled up with the last agent. Where there are as many
      agents as devices, and blocks are as large, the width is a multiple of `num_devices`; it is one of
      `num_processes` in any case, since each of them has to take part.
    """
    unit = num_devices if min(num_agents, block_size) >= num_devices else num_processes
    num_blocks = math.ceil(num_agents / max(block_size // unit * unit, unit))
    width = math.ceil(num_agents / num_blocks / unit) * unit
    return into_blocks(num_agents, width)


def into_blocks(num_agents: int, width: int) -> np.ndarray:
    """Agents 0, ..., A - 1 in blocks of the given width, the last one filled up with the last agent."""
    num_blocks = math.ceil(num_agents / width)
    return np.minimum(np.arange(num_blocks * width), num_agents - 1).reshape(num_blocks, width)


def choose_width(
    num_agents: int,
    block_size: int,
    num_devices: int,
    compiled: Iterable[int] = (),
    compile_seconds: float = 0.0,
    agent_seconds: float = math.inf,
    num_processes: int = 1,
) -> int:
    """The width of the blocks of a rung: the even one, unless a program that is compiled already is sooner done.

    A program of width w trains A agents in ⌈A / w⌉ w s seconds, of which filling up the last block is waste; another
    width takes c seconds to compile first.

    Args:
      num_agents: A.
      block_size: largest width.
      num_devices, num_processes: as in `split_agents`.
      compiled: widths for which the program is there.
      compile_seconds: c, as measured.
      agent_seconds: s, seconds for one agent's training in this rung, as measured; infinite where it was not yet, which
        takes the even width.
    """
    even = split_agents(num_agents, block_size, num_devices, num_processes).shape[1]
    if not math.isfinite(agent_seconds):
        return even
    known = {width for width in compiled if width <= block_size}

    def seconds(width: int) -> float:
        return math.ceil(num_agents / width) * width * agent_seconds + (width not in known) * compile_seconds

    return min(sorted(known | {even}, key=lambda width: (width != even, width)), key=seconds)
