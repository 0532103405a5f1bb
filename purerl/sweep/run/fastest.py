"""The width at which members train fastest on this machine: tried once, and remembered beside the compiled programs.

What a core computes fastest depends on its caches, the agent and the environment. Widths are tried in powers of two
from the usual one, upwards as long as the rate grows, or else downwards. Each width that is tried is compiled.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.files import write_whole
from purerl.sweep.run import fingerprint, programs, training
from purerl.sweep.run.programs import Compiled, MemberData, Program
from purerl.types import PyTree

MEASURED = "measured"  # the `block_size` of a search that asks for it
FILE = "widths.json"
_GAIN = 1.03  # by which a width must be faster than the one before


def given(block_size: Any) -> int | None:
    """The number that a `block_size` gives; None if it leaves the width to the search.

    Examples:
      >>> given(8), given(None), given("measured")
      (8, None, None)
    """
    return None if block_size == MEASURED else block_size


def width(
    program: Program, member: MemberData, num_updates: int, *, first: int, most: int, unit: int, limit: float
) -> dict[str, Any]:
    """The fastest width for members of a program.

    Args:
      program: what is trained.
      member: one of the members, leaves [1, ...].
      num_updates: the longest chunk of the search; less is tried.
      first: the width that is tried first.
      most: the largest width, such as the number of members.
      unit: the number of devices; widths are multiples of it.
      limit: bytes that a block may take on a device.

    Returns:
      `width`; `updates_per_second` of all members by the widths that were tried; and `remembered`, whether they were
      tried at an earlier time.
    """
    key = f"{fingerprint.fingerprint(program, member)['program'][:32]} on {unit} x {jax.devices()[0].device_kind}"
    memory = _read()
    found = memory.get(key)
    if found is not None and found["width"] <= most:
        return found | {"remembered": True}
    rates: dict[str, float] = {}

    def rate(width: int) -> float:
        rates[str(width)] = _rate(program, member, num_updates, width, limit)
        return rates[str(width)]

    best = climb(max(unit, min(first, most) // unit * unit), unit, most, rate)
    found = {"width": best, "updates_per_second": rates}
    if max(map(int, rates)) > best and min(rates.values()) > 0.0:  # neither few members nor little memory decided it
        _write(memory | {key: found})
    return found | {"remembered": False}


def climb(first: int, unit: int, most: int, rate: Callable[[int], float]) -> int:
    """Double the width as long as the rate grows; if the first doubling gains nothing, halve it as long as it grows.

    Args:
      first: where to begin.
      unit, most: the least and the largest width.
      rate: of a width; called once for each width that is tried.

    Examples:
      >>> climb(16, 2, 1000, {16: 1.0, 32: 2.0, 64: 3.0, 128: 2.5}.__getitem__)
      64
      >>> climb(16, 4, 1000, {16: 1.0, 32: 1.01, 8: 1.5, 4: 1.2}.__getitem__)
      8
    """
    best, fastest = first, rate(first)
    for next_of in (lambda width: 2 * width, lambda width: width // 2 // unit * unit):
        tried = next_of(best)
        while unit <= tried <= most and (found := rate(tried)) > _GAIN * fastest:
            best, fastest, tried = tried, found, next_of(tried)
        if best != first:
            break
    return best


def begin(program: Program, member: MemberData, num_updates: int, width: int) -> tuple[PyTree, Compiled, int]:
    """States of copies of a member, the program that trains them for a part of a chunk, and its number of updates."""
    length = min(num_updates, training.first_piece(program, width))
    states = programs.start(program, jax.tree.map(lambda leaf: np.repeat(leaf, width, axis=0), member))  # [1] -> [W]
    return states, programs.compiled_advance(program, length, programs.spec_of(states)), length


def _rate(program: Program, member: MemberData, num_updates: int, width: int, limit: float) -> float:
    """Updates of all members per second, the better of two runs; 0 if the block would not fit."""
    states, advance, length = begin(program, member, num_updates, width)
    if advance.bytes > limit:
        return 0.0
    states, _ = jax.block_until_ready(advance.call(states))
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        states, _ = jax.block_until_ready(advance.call(states))
        seconds.append(time.perf_counter() - begun)
    return width * length / min(seconds)


def _path() -> Path | None:
    directory = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return Path(directory) / FILE if directory else None


def _read() -> dict[str, Any]:
    """The widths that were found before; none without a compile cache, or if the file is damaged."""
    path = _path()
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError):
        return {}


def _write(memory: dict[str, Any]) -> None:
    """Keep the widths for later searches; where that cannot be done they are tried again."""
    path = _path()
    if path is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(memory, indent=1) + "\n")
