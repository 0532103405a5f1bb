"""Cut a search up: members into blocks of one width, training into chunks of one length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np


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
    num_agents: int,
    block_size: int,
    num_devices: int,
    compiled: Iterable[int] = (),
    compile_seconds: float = 0.0,
    agent_seconds: float = math.inf,
    num_processes: int = 1,
) -> int:
    """The width of the blocks of a rung: the even one, unless a program that is already compiled finishes sooner.

    A program of width w trains A members in ⌈A / w⌉ w s seconds, part of which is wasted on filling the last block;
    another width takes c seconds to compile first.

    Args:
      num_agents: A.
      block_size: largest width.
      num_devices, num_processes: as in `split_agents`.
      compiled: widths for which the program is already compiled.
      compile_seconds: c, as measured.
      agent_seconds: s, measured seconds of one member's training in this rung; infinite if not measured yet, which
        takes the even width.

    Examples:
      >>> choose_width(100, 64, num_devices=1)
      50
      >>> choose_width(100, 64, num_devices=1, compiled=[64], compile_seconds=3.0, agent_seconds=0.01)
      64
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
        even = [n for n in range(1, common + 1) if common % n == 0]
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
