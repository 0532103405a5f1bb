"""The host loop of fine-tuning: parts in, updates, held-out evaluation, checkpoints, exact resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from purerl import checkpoint
from purerl.lm import training
from purerl.lm.batching import Part
from purerl.lm.training import Learner, Program, Sums
from purerl.logging import Writer
from purerl.rlhf.columns import Columns
from purerl.types import Params

Say = Callable[[int, dict[str, float]], None]


class Job(NamedTuple):
    """A run.

    Attributes:
      program: its compiled functions.
      frozen: parameters that are not trained.
      params: where the trained ones start.
      epoch: number of an epoch to its parts, in order.
      batch: a part's columns.
      held_out: the parts that are evaluated, and `held_out_batch` their columns.
      parts_per_update: whose gradients are summed.
      num_updates: of the whole run.
      eval_every: updates between two evaluations; there is one at the start and one at the end as well.
      rate: learning rate by updates made, for the log.
      checkpoints: directory of the checkpoints.
      seconds_between: two checkpoints.
      keep: checkpoints that are kept.
    """

    program: Program
    frozen: Params
    params: Params
    epoch: Callable[[int], list[Part]]
    batch: Callable[[Part], Columns]
    held_out: Sequence[Part]
    held_out_batch: Callable[[Part], Columns]
    parts_per_update: int
    num_updates: int
    eval_every: int
    rate: optax.Schedule
    checkpoints: Path
    seconds_between: float = 300.0
    keep: int = 2


def begin(job: Job) -> Learner:
    """The newest checkpoint, or the start.

    Raises:
      CheckpointError: it is damaged, or of other settings.
    """
    newest = checkpoint.latest(job.checkpoints)
    start = job.program.begin(job.params)
    return start if newest is None else checkpoint.restore(newest, jax.tree.map(like, start))


def like(leaf: jax.Array) -> jax.Array | jax.ShapeDtypeStruct:
    """What a checkpoint is restored like: an array over several devices goes back to them."""
    if len(leaf.sharding.device_set) == 1:
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def train(job: Job, learner: Learner, writer: Writer, say: Say, stopped: Callable[[], bool] = lambda: False) -> Learner:
    """Make the updates that are left.

    Args:
      job: the run.
      learner: from `begin`.
      writer: of one row per update, with the columns of evaluations where there was one.
      say: called with the number of updates made and the row.
      stopped: asked before each update; if it is true, the run is saved and left.

    Returns:
      The learner after the last update.

    Raises:
      FloatingPointError: the loss is no longer finite.
    """
    done = int(learner.num_updates)
    saved = begun = time.monotonic()
    tokens = 0
    for group in _groups(job, done):
        if stopped():
            break
        held_out = evaluate(job, learner) if done % job.eval_every == 0 else {}
        learner, metrics, counted = _update(job, learner, group)
        tokens += counted
        row = _row(job, metrics, held_out, done)
        row["tokens_per_second"] = tokens / (time.monotonic() - begun)
        done += 1
        if not math.isfinite(row["loss/total"]):
            raise FloatingPointError(f"the loss is {row['loss/total']} after {done} updates; try a lower learning rate")
        writer.write(done, row)
        say(done, row)
        if time.monotonic() - saved > job.seconds_between:
            _save(job, learner)
            saved = time.monotonic()
    _save(job, learner)
    return learner


def evaluate(job: Job, learner: Learner) -> dict[str, float]:
    """Means over the held-out rows, by names that begin with `eval/`; empty if nothing is held out."""
    total: Sums | None = None
    for part in job.held_out:
        found = job.program.evaluate(learner, job.frozen, job.held_out_batch(part))
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    if total is None:
        return {}
    return {f"eval/{name.removeprefix('loss/')}": float(value) for name, value in training.means(total).items()}


def _groups(job: Job, done: int) -> Iterator[list[Part]]:
    """The parts of every update from number `done` on."""
    size = job.parts_per_update
    each = -(-len(job.epoch(0)) // size)  # updates per epoch
    for epoch in range(done // each, -(-job.num_updates // each)):
        parts = job.epoch(epoch)
        for i in range(done % each if epoch == done // each else 0, each):
            if epoch * each + i < job.num_updates:
                yield parts[i * size : (i + 1) * size]


def _update(job: Job, learner: Learner, group: list[Part]) -> tuple[Learner, dict[str, float], int]:
    run, sums, tokens = job.program, None, 0
    for part in group:
        columns = job.batch(part)
        tokens += int(np.sum(columns["mask"]))
        if job.parts_per_update == 1:  # without a second buffer of gradients
            sums = run.measure(learner, job.frozen, columns)
            continue
        sums = run.zeros(learner, job.frozen, columns) if sums is None else sums
        sums = run.add(learner, job.frozen, columns, sums)
    assert sums is not None
    learner, metrics = run.step(learner, sums)
    return learner, {name: float(value) for name, value in metrics.items()}, tokens


def _row(job: Job, metrics: dict[str, float], held_out: dict[str, float], done: int) -> dict[str, float]:
    """A row with the same columns in every update."""
    names = [f"eval/{name.removeprefix('loss/')}" for name in metrics if name != "grad_norm"] if job.held_out else []
    found = {name: held_out.get(name, math.nan) for name in names}
    return metrics | {"learning_rate": float(job.rate(done))} | found


def _save(job: Job, learner: Learner) -> None:
    checkpoint.save_step(job.checkpoints, int(learner.num_updates), learner, keep=job.keep)
