"""Memory of a block of members, from the compiler's own analysis of its programs.

A program of width w needs argument + output + temporary - aliased bytes, which is linear in w: two widths determine
it. (`peak_memory_in_bytes` of the same analysis is wrong on CPUs.)
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from purerl.distributed import from_main
from purerl.text import format_bytes

HEADROOM = 0.8  # of the free memory: the host loop, the compiler and other processes need some too
FIRST_WIDTH = 64  # members per accelerator that are compiled first


class Line(NamedTuple):
    """Memory of a block on each device: `fixed + per_agent · width`, in bytes."""

    fixed: float
    per_agent: float

    def bytes(self, width: int) -> float:
        """Memory of a block of a width."""
        return self.fixed + self.per_agent * width

    def largest_width(self, limit: float) -> int:
        """The largest width within a limit; 0 if not even one member fits."""
        if self.per_agent <= 0:
            return 2**30 if self.fixed <= limit else 0
        return max(0, math.floor((limit - self.fixed) / self.per_agent))


def fit(width_1: int, bytes_1: float, width_2: int, bytes_2: float) -> Line:
    """The line through the memory of two widths.

    Raises:
      ValueError: the widths are equal.

    Examples:
      >>> fit(1, 30.0, 11, 130.0)
      Line(fixed=20.0, per_agent=10.0)
      >>> fit(1, 30.0, 11, 130.0).largest_width(limit=75.0)
      5
    """
    if width_1 == width_2:
        raise ValueError(f"two widths are needed, not {width_1} twice")
    per_agent = (bytes_2 - bytes_1) / (width_2 - width_1)
    return Line(bytes_1 - per_agent * width_1, per_agent)


def of_compiled(compiled: jax.stages.Compiled) -> float:
    """Bytes that a compiled program takes on each device; 0 if the backend does not report them."""
    account = compiled.memory_analysis()
    if account is None:
        return 0.0
    return float(
        account.argument_size_in_bytes
        + account.output_size_in_bytes
        + account.temp_size_in_bytes
        - account.alias_size_in_bytes
    )


def widest(
    block_size: int, unit: int, limit: float, measure: Callable[[int], float], *, first: int | None = None
) -> tuple[int, float]:
    """The largest width, a multiple of `unit` and at most `block_size`, whose block stays within a limit.

    Without `first` the requested width is measured first, and taken if it fits: one compilation, which is needed
    anyway. Otherwise a line through it and a small width proposes the next one, which is measured too.

    With `first`, nothing is compiled that may be far beyond the limit, since a compiler for an accelerator may fail
    there or spend minutes on recomputing. That width is measured, then, unless all members will take less than half of
    the limit, two that give a line, and the width that the line proposes.

    Args:
      block_size: the requested width.
      unit: number of devices that a block is spread over.
      limit: bytes on each device.
      measure: maps a width to the bytes on each device, by compiling.
      first: the width that is measured first.

    Returns:
      The width and its bytes on each device.

    Raises:
      MemoryError: not even `unit` members fit.

    Examples:
      >>> widest(64, 1, limit=500.0, measure=lambda width: 20.0 + 10.0 * width)
      (48, 500.0)
      >>> widest(1000, 1, limit=500.0, measure=lambda width: 20.0 + 10.0 * width, first=8)
      (48, 500.0)
    """
    width = max(unit, block_size // unit * unit)
    if first is not None and width > first:
        width = _expected_width(width, unit, limit, measure, max(unit, first // unit * unit))
    taken = measure(width)
    while taken > limit and width > unit:
        line = fit(unit, measure(unit), width, taken)
        width = max(unit, min(width - unit, line.largest_width(limit) // unit * unit))
        taken = measure(width)
    if taken > limit:
        raise MemoryError(
            f"a block of {width} agents takes {format_bytes(taken)} per device; the limit is {format_bytes(limit)}: "
            "use fewer environments or a shorter rollout"
        )
    return width, taken


def line_within(limit: float, measure: Callable[[int], float], first: int, unit: int = 1) -> Line:
    """Memory as a line through two widths, of which the wider one takes about half of the limit.

    The program of a few members may be another one than that of thousands, so the line is taken where it is used.

    Args:
      limit: bytes on each device.
      measure: maps a width to the bytes on each device, by compiling.
      first: a width that surely fits, a multiple of `unit`.
      unit: number of devices that a block is spread over.

    Examples:
      >>> line_within(800.0, lambda width: 20.0 + 10.0 * width, first=4)
      Line(fixed=20.0, per_agent=10.0)
    """
    scale = limit / max(measure(first), 1.0) * first  # members that the limit would hold without a fixed part
    low = max(first, int(scale / 8) // unit * unit)
    high = max(low + unit, int(scale / 2) // unit * unit)
    return fit(low, measure(low), high, measure(high))


def _expected_width(width: int, unit: int, limit: float, measure: Callable[[int], float], first: int) -> int:
    """The requested width if it will take less than half of the limit; otherwise at most what a line proposes."""
    if measure(first) / first * width <= limit / 2:
        return width
    line = line_within(limit, measure, first, unit)
    return max(unit, min(width, line.largest_width(limit) // unit * unit))


def device_limit(asked: float | None = None) -> float:
    """Bytes that a block may take on each local device: those asked for, or most of the free memory."""
    if asked is not None:
        return asked
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    else:
        free = _free_host_memory() / jax.local_device_count()
    return HEADROOM * float(from_main(np.float64(free)))


def _free_host_memory() -> float:
    info = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", info.read_text()) if info.is_file() else None
    if found:
        return min(float(found[1]) * 1024, _container_limit())
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _container_limit() -> float:
    """The memory limit of the container; infinite if there is none."""
    path = Path("/sys/fs/cgroup/memory.max")
    text = path.read_text().strip() if path.is_file() else "max"
    return float(text) if text.isdecimal() else math.inf
