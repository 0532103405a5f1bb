"""Train one block piece by piece, and evaluate it.

A chunk is a point of the learning curves. One of a long run may take hours, so it is cut into pieces, after which the
states can be saved. Pieces change no number: training is the same in any pieces, and a curve is the mean over the
updates of a chunk, on the host. So their length may depend on the clock.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from purerl.ahead import beside, shapes_of
from purerl.distributed import from_main
from purerl.loops import LoopState
from purerl.sweep.results import skips
from purerl.sweep.run import packing, programs
from purerl.sweep.run.programs import Program, Updates
from purerl.sweep.run.work import Block, Failure, Outcome, Partial, Progress, Report, Result

# Environment steps of all members in the first piece of a chunk: about a quarter of a minute of PPO.
_FIRST_PIECE = {"cpu": 2**22, "gpu": 2**26, "tpu": 2**26}


def run(program: Program, block: Block, report: Report | None = None) -> Iterator[Result]:
    """Train a block for its chunks and evaluate it; yields partial results as often as `block.save_seconds` asks."""
    try:
        yield from _run(program, block, report)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if jax.process_count() > 1:
            raise  # the others would wait for this one
        yield Failure(str(error).splitlines()[0][:500] if str(error) else type(error).__name__)


def _run(program: Program, block: Block, report: Report | None) -> Iterator[Result]:
    states, progress = _begin(program, block)
    evaluates, returns = program.curve == programs.EVALUATION, None
    saved, begun = time.perf_counter(), time.perf_counter()
    first, spent = first_piece(program, len(block.members)), progress.seconds
    for chunk in range(progress.curves.shape[1], len(block.chunks)):
        while left := block.chunks[chunk] - progress.updates.value.shape[1]:
            length = _piece(left, first, _rate(program, block, progress, chunk), block.save_seconds)
            states, updates = programs.advance(program, states, length)
            updates = Updates(*map(packing.pack, updates))
            joined = _joined(progress.updates, updates)
            progress = progress._replace(updates=joined, seconds=spent + _since(begun))
            if left > length and _since(saved) >= block.save_seconds:
                yield Partial(packing.pack(states), progress)
                saved = time.perf_counter()
        if evaluates:
            returns = _evaluate(program, block, states)
        curve = mean_of(progress.updates) if returns is None else returns.mean(axis=1)  # [W]
        progress = _with_chunk(program, block, progress, curve)._replace(returns=returns)
        asked = report is not None and report(block, chunk, curve, functools.partial(packing.pack, states.agent_state))
        if asked or _since(saved) >= block.save_seconds:
            yield Partial(packing.pack(states), progress)
            saved = time.perf_counter()
    if report:
        report(block, len(block.chunks), None)
    returns = _evaluate(program, block, states) if returns is None else returns
    yield Outcome(progress.curves, returns, packing.pack(states), spent + _since(begun), progress.skips)


def _evaluate(program: Program, block: Block, states: LoopState) -> np.ndarray:
    """Greedy returns of the members, [W, E]; the episodes are the same after every chunk."""
    key = jax.random.wrap_key_data(jnp.asarray(block.eval_key), impl=program.key_impl)
    returns: np.ndarray = packing.pack(programs.evaluate(program, states, key, block.eval_params))
    return returns


def _with_chunk(program: Program, block: Block, progress: Progress, curve: np.ndarray) -> Progress:
    """The progress once the running chunk has ended, with this point of the learning curves, [W]."""
    before = sum(block.chunks[: progress.curves.shape[1]]) * program.update_steps
    found = skips.of_updates(progress.updates.skipped, program.update_steps, before)
    curves = np.append(progress.curves, curve[:, None], axis=1)  # [W, C] -> [W, C + 1]
    return progress._replace(curves=curves, updates=_nothing(block), skips=skips.joined(progress.skips, found))


def mean_of(updates: Updates) -> np.ndarray:
    """The point of the learning curves that the updates of a chunk make, [W, U] to [W]; NaN if there is no value.

    Examples:
      >>> mean_of(Updates(np.array([[1.0, np.nan, 4.0]]), np.array([[2, 0, 1]]), np.zeros((1, 3)))).tolist()
      [2.0]
    """
    weight = np.where(np.isnan(updates.value), 0, updates.weight).astype(np.float64)
    total = weight.sum(axis=1)
    mean = (np.where(weight > 0, updates.value, 0) * weight).sum(axis=1) / np.maximum(total, 1e-300)
    return np.where(total > 0, mean, np.nan).astype(np.float32)


def _begin(program: Program, block: Block) -> tuple[LoopState, Progress]:
    """The states on the devices, leaves [W, ...]. What compiles is compiled before the clock starts."""
    width = len(block.members)
    spec = programs.spec_of(programs.states_like(program, block.data, width))
    with beside(programs.lowered_evaluate(program, spec, shapes_of(block.eval_params))):
        if block.states is None:
            states = programs.start(program, block.data)
        else:
            states = programs.to_devices(program, block.data, block.states)
        first = first_piece(program, width)
        for length in {min(each, first) for each in block.chunks}:
            programs.compiled_advance(program, length, programs.spec_of(states))
    nothing = Progress(np.empty((width, 0), np.float32), _nothing(block), 0.0, skips.none(width))
    return states, block.progress or nothing


def _nothing(block: Block) -> Updates:
    empty = np.empty((len(block.members), 0), np.float32)
    return Updates(empty, empty, empty)


def _joined(before: Updates, after: Updates) -> Updates:
    return Updates(*(np.append(a, b, axis=1).astype(np.float32) for a, b in zip(before, after)))


def first_piece(program: Program, width: int) -> int:
    """Updates of the first piece of a chunk, from sizes alone."""
    steps = _FIRST_PIECE.get(jax.default_backend(), _FIRST_PIECE["cpu"])
    return max(1, steps // (width * program.update_steps))


def _rate(program: Program, block: Block, progress: Progress, chunk: int) -> float:
    """Seconds per update so far; infinite at the beginning."""
    done = sum(block.chunks[:chunk]) + progress.updates.value.shape[1]
    return progress.seconds / done if done else math.inf


def _piece(left: int, first: int, update_seconds: float, save_seconds: float) -> int:
    """Updates of the next piece: `first`, doubled while the piece takes less than half of the time between two saves.

    Powers of two, since each length is another program.
    """
    length = first
    while length < left and 2 * length * update_seconds <= save_seconds / 2:
        length *= 2
    return min(length, left)


def _since(moment: float) -> float:
    """Seconds since then; the same in every process, since all of them must save together."""
    return float(from_main(np.float64(time.perf_counter() - moment)))
