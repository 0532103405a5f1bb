"""How a search is cut up: agents into blocks of one width, training into chunks of one length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

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
