"""The plan of a search on an accelerator that need not be there: widths, memory and a modelled time of every rung.

The programs are those of `programs`, compiled for one device of the accelerator. A block's members do not talk to each
other, so several devices hold several times as many.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from purerl.accelerators.programs import Seconds, compile_for, modelled_seconds
from purerl.accelerators.targets import Target
from purerl.sweep.run import blocks, memory, programs
from purerl.sweep.run.plan import Plan, Stage
from purerl.sweep.run.programs import MemberData, Program


class Block(NamedTuple):
    """A block of members on one device.

    Attributes:
      width: number of members.
      bytes: memory of its larger program, by the compiler's account.
      update: modelled seconds of one update of all members.
      evaluation: modelled seconds of one step of the evaluation of all members.
    """

    width: int
    bytes: float
    update: Seconds
    evaluation: Seconds


class Forecast(NamedTuple):
    """A rung of one group of static choices on the accelerator.

    Attributes:
      stage: name of the rung.
      group: index of the group.
      num_agents: members of the rung in this group.
      num_blocks: blocks that they are cut into, run one after another.
      block: each of these blocks.
      most: the largest width that fits into the limit, by a line through two widths.
      seconds: modelled lower bound of the time of training and evaluation, all blocks.
    """

    stage: str
    group: int
    num_agents: int
    num_blocks: int
    block: Block
    most: int
    seconds: float


class Group(NamedTuple):
    """A group of static choices: its program, one of its members, leaves [1, ...], and how many each rung has."""

    program: Program
    member: MemberData
    counts: tuple[int, ...]


def forecast(
    target: Target, plan: Plan, groups: Sequence[Group], limit: float, block_size: int | None = None
) -> list[Forecast]:
    """Forecast the rungs of the first bracket of a search.

    Args:
      target: the accelerator.
      plan: of the search.
      groups: its groups.
      limit: bytes that a block may take.
      block_size: largest width; None: all members.

    Raises:
      ModuleNotFoundError: the accelerator's compiler is missing.
      MemoryError: not even one member fits.
    """
    made = []
    for number, group in enumerate(groups):
        compiled: dict[int, Callable[[int], Block]] = {}  # by the length of a chunk
        for rung, count in enumerate(group.counts):
            stage = plan.stage(0, rung)
            longest = max(stage.chunks[number])
            block_of = compiled.setdefault(longest, functools.cache(functools.partial(_block, target, group, longest)))
            if count:
                made.append(_rung(block_of, group.program, stage, number, count, limit, block_size or count))
    return made


def _rung(
    block_of: Callable[[int], Block], program: Program, stage: Stage, group: int, count: int, limit: float, most: int
) -> Forecast:
    def measure(width: int) -> float:
        return block_of(width).bytes

    width, _ = memory.widest(min(count, most), 1, limit, measure, first=memory.FIRST_WIDTH)
    block = block_of(blocks.split_agents(count, width).shape[1])
    line = memory.line_within(limit, measure, min(width, memory.FIRST_WIDTH))
    num_blocks = math.ceil(count / block.width)
    each = block.update.total * sum(stage.chunks[group]) + block.evaluation.total * program.eval_max_steps
    return Forecast(stage.name, group, count, num_blocks, block, line.largest_width(limit), num_blocks * each)


def _block(target: Target, group: Group, num_updates: int, width: int) -> Block:
    """Compile the programs of a block."""
    program = group.program
    like = programs.states_like(program, group.member, width)
    advance = jax.vmap(functools.partial(programs.advance_one, program, num_updates))
    evaluate = jax.vmap(functools.partial(programs.evaluate_one, program), (0, None, None))
    first = compile_for(target, advance, like, donate=(0,))
    second = compile_for(target, evaluate, like, programs.eval_key_like(program), ())
    update = Seconds(*(part / num_updates for part in modelled_seconds(target, first.as_text())))
    taken = max(memory.of_compiled(first), memory.of_compiled(second))
    return Block(width, taken, update, modelled_seconds(target, second.as_text()))
