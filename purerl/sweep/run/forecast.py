"""The plan of a search: widths, memory, disk and time of every rung, on an accelerator that need not be there, or here.

The programs are those of `programs`. For an accelerator they are compiled for one device, and the time is modelled.
Here it is measured: a part of the training and an evaluation run at each width. A block's members do not talk to each
other, so several devices hold several times as many.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from purerl.accelerators.programs import Seconds, compile_for, modelled_seconds
from purerl.accelerators.targets import Target
from purerl.ahead import shapes_of
from purerl.sweep.run import blocks, fastest, memory, packing, programs
from purerl.sweep.run.plan import Plan, Stage
from purerl.sweep.run.programs import MemberData, Program


class Block(NamedTuple):
    """A block of members on one device, or on all of this machine.

    Attributes:
      width: number of members.
      bytes: memory of its larger program on a device, by the compiler's account.
      update: seconds of one update of all members, modelled or measured.
      evaluation: seconds of one step of the evaluation of all members.
      compile_seconds: of both programs, on this machine.
    """

    width: int
    bytes: float
    update: Seconds
    evaluation: Seconds
    compile_seconds: float


class Forecast(NamedTuple):
    """A rung of one group of static choices.

    Attributes:
      stage: name of the rung.
      group: index of the group.
      num_agents: members of the rung in this group.
      num_blocks: blocks that they are cut into, run one after another.
      block: each of these blocks.
      most: the largest width that fits into the limit, by a line through two widths.
      seconds: of training and evaluation, all blocks; if they are modelled, a lower bound.
      state_bytes: of one agent.
    """

    stage: str
    group: int
    num_agents: int
    num_blocks: int
    block: Block
    most: int
    seconds: float
    state_bytes: int


class Group(NamedTuple):
    """A group of static choices: its program, one of its members, leaves [1, ...], and how many each rung has.

    The numbers are those of each bracket.
    """

    program: Program
    member: MemberData
    counts: tuple[tuple[int, ...], ...]


def forecast(
    target: Target | None, plan: Plan, groups: Sequence[Group], limit: float, block_size: int | None = None
) -> list[Forecast]:
    """Forecast the rungs of a search.

    Args:
      target: the accelerator; None: this machine, where a part of each rung runs.
      plan: of the search.
      groups: its groups.
      limit: bytes that a block may take on a device.
      block_size: largest width; None: all members.

    Raises:
      ModuleNotFoundError: the accelerator's compiler is missing.
      MemoryError: not even one member fits.
    """
    made = []
    for number, group in enumerate(groups):
        compiled: dict[int, Callable[[int], Block]] = {}  # by the length of a chunk
        for bracket, counts in enumerate(group.counts):
            for rung, count in enumerate(counts):
                stage = plan.stage(bracket, rung)
                length = max(stage.chunks[number])
                block_of = compiled.setdefault(length, functools.cache(_maker(target, group, length)))
                if count:
                    rung_of = _here if target is None else _there
                    made.append(rung_of(block_of, group, stage, number, count, limit, block_size or count))
    return made


def disk_bytes(forecasts: Sequence[Forecast], keep: int) -> int:
    """The most that states take on the disk at a time; as many in memory without a directory.

    The blocks of a rung stay until the next rung has ended. Of a last rung those stay that hold one of the best trials,
    at most two for each. Two saves of the running block come on top.

    Args:
      forecasts: of the rungs of a search, as `forecast` returns them.
      keep: trials whose states are kept at the end.
    """
    every: dict[tuple[int, str], list[Forecast]] = {}
    for each in forecasts:
        every.setdefault((each.group, each.stage.rpartition("-")[0]), []).append(each)
    return max((_bracket_bytes(bracket, keep) for bracket in every.values()), default=0)


def _bracket_bytes(bracket: Sequence[Forecast], keep: int) -> int:
    stored = [each.num_blocks for each in bracket]
    stored[-1] = min(stored[-1], 2 * keep)
    states = [count * each.block.width for count, each in zip(stored, bracket)]
    most = max(itertools.chain(map(sum, itertools.pairwise(states)), states))
    return (most + 2 * max(each.block.width for each in bracket)) * bracket[0].state_bytes


def _maker(target: Target | None, group: Group, num_updates: int) -> Callable[[int], Block]:
    """From a width to its block."""
    if target is None:
        return functools.partial(_measured, group, num_updates)
    return functools.partial(_compiled, target, group, num_updates)


def _there(
    block_of: Callable[[int], Block], group: Group, stage: Stage, number: int, count: int, limit: float, most: int
) -> Forecast:
    def measure(width: int) -> float:
        return block_of(width).bytes

    width, _ = memory.widest(min(count, most), 1, limit, measure, first=memory.FIRST_WIDTH)
    block = block_of(blocks.split_agents(count, width).shape[1])
    line = memory.line_within(limit, measure, min(width, memory.FIRST_WIDTH))
    return _rung(block, group, stage, number, count, line.largest_width(limit))


def _here(
    block_of: Callable[[int], Block], group: Group, stage: Stage, number: int, count: int, limit: float, most: int
) -> Forecast:
    def measure(width: int) -> float:
        return programs.block_bytes(group.program, group.member, width, max(stage.chunks[number]))

    devices = jax.local_device_count()
    even = blocks.split_agents(count, most, devices).shape[1]
    width, taken = memory.widest(even, 1, limit, measure)
    block = block_of(blocks.split_agents(count, width, devices).shape[1])
    small = max(1, width // 2)
    fits = memory.fit(small, measure(small), width, taken).largest_width(limit) if small < width else width
    return _rung(block, group, stage, number, count, fits)


def _rung(block: Block, group: Group, stage: Stage, number: int, count: int, most: int) -> Forecast:
    num_blocks, program = math.ceil(count / block.width), group.program
    each = block.update.total * sum(stage.chunks[number]) + block.evaluation.total * program.eval_max_steps
    like = packing.packed_like(programs.states_like(program, group.member, 1))
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    return Forecast(stage.name, number, count, num_blocks, block, most, num_blocks * each, state_bytes)


def _compiled(target: Target, group: Group, num_updates: int, width: int) -> Block:
    """Compile the programs of a block for an accelerator."""
    program, begun = group.program, time.perf_counter()
    like = programs.states_like(program, group.member, width)
    advance = jax.vmap(functools.partial(programs.advance_one, program, num_updates))
    evaluate = jax.vmap(functools.partial(programs.evaluate_one, program), (0, None, None))
    first = compile_for(target, advance, like, donate=(0,))
    second = compile_for(target, evaluate, like, programs.eval_key_like(program), ())
    seconds = time.perf_counter() - begun
    update = Seconds(*(part / num_updates for part in modelled_seconds(target, first.as_text())))
    taken = max(memory.of_compiled(first), memory.of_compiled(second))
    return Block(width, taken, update, modelled_seconds(target, second.as_text()), seconds)


def _measured(group: Group, num_updates: int, width: int) -> Block:
    """Run a part of the training of a block and an evaluation here, each twice, and time the second time."""
    program = group.program
    states, advance, length = fastest.begin(program, group.member, num_updates, width)
    evaluate = programs.compiled_evaluate(program, programs.spec_of(states), shapes_of(None))
    states, _ = advance.call(states)
    key = jax.random.key(0, impl=program.key_impl)
    jax.block_until_ready(evaluate.call(states, key, None))
    begun = time.perf_counter()
    states, _ = jax.block_until_ready(advance.call(states))
    trained = time.perf_counter()
    jax.block_until_ready(evaluate.call(states, key, None))
    update, step = (trained - begun) / length, (time.perf_counter() - trained) / program.eval_max_steps
    taken, seconds = max(advance.bytes, evaluate.bytes), advance.seconds + evaluate.seconds
    return Block(width, taken, Seconds(0.0, 0.0, 0.0, update), Seconds(0.0, 0.0, 0.0, step), seconds)
