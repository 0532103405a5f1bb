"""Gradient descent on parts of different widths: gradients are summed over parts and divided once by the weights.

`SummedLoss`es of `purerl.rlhf` say what is minimised, an optax transformation how. Everything is a function; the loop
is the caller's, or `lm.runs`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from purerl.lm import lora
from purerl.rlhf.columns import Columns
from purerl.rlhf.supervised import SummedLoss
from purerl.types import Hparams, Metrics, Network, Params, PyTree

LossOf: TypeAlias = Callable[[Network], SummedLoss]
"""A loss of `purerl.rlhf` for a network, such as `rlhf.direct.direct_loss`."""
Bind: TypeAlias = Callable[[Params], Network]
"""From frozen parameters to a network of the trained ones."""


class Learner(NamedTuple):
    """What changes in training: arrays only."""

    params: Params
    opt_state: PyTree
    num_updates: jax.Array


class Sums(NamedTuple):
    """Sums over the parts of a batch: gradients, losses, weights, metrics."""

    grads: Params
    loss: jax.Array
    weight: jax.Array
    metrics: Metrics


class Program(NamedTuple):
    """Compiled functions of a run.

    Attributes:
      begin: `params -> Learner`.
      measure: `(learner, frozen, part) -> Sums` of one part.
      zeros: the same of nothing.
      add: `(learner, frozen, part, sums) -> Sums`; `sums` is donated.
      step: `(learner, sums) -> (learner, metrics)`; the learner is donated.
      evaluate: `(learner, frozen, part) -> Sums` without gradients.
    """

    begin: Callable[[Params], Learner]
    measure: Callable[[Learner, Params, Columns], Sums]
    zeros: Callable[[Learner, Params, Columns], Sums]
    add: Callable[[Learner, Params, Columns, Sums], Sums]
    step: Callable[[Learner, Sums], tuple[Learner, Metrics]]
    evaluate: Callable[[Learner, Params, Columns], Sums]


def full(network: Network) -> Bind:
    """Train all parameters; nothing is frozen."""
    return lambda frozen: network


def low_rank(network: Network, scale: float) -> Bind:
    """Train LoRA factors; the frozen parameters are those of the network."""
    return lambda frozen: lora.adapted(network, frozen, scale)


def program(bind: Bind, loss_of: LossOf, hparams: Hparams, optimizer: optax.GradientTransformation) -> Program:
    """The compiled functions of a run.

    Args:
      bind: `full(network)` or `low_rank(network, scale)`.
      loss_of: the loss.
      hparams: that the loss reads.
      optimizer: any transformation; it sees the mean gradient over the weights of a batch.

    Examples:
      >>> from purerl import rlhf
      >>> from purerl.rlhf.supervised import sft_loss
      >>> network = rlhf.table_network(vocab_size=4, length=2, order=1)
      >>> tokens = jnp.array([[0, 1, 2], [0, 3, 3]])
      >>> part = {"tokens": tokens, "mask": tokens >= 0, "completion": 0 * tokens + jnp.arange(3) > 0}
      >>> run = program(full(network), sft_loss, rlhf.LearnerHparams(), optax.sgd(1.0))
      >>> learner = run.begin(network.init(jax.random.key(0), tokens[0], part["mask"][0]))
      >>> sums = run.add(learner, (), part, run.zeros(learner, (), part))
      >>> learner, metrics = run.step(learner, sums)
      >>> round(float(metrics["loss/total"]), 3)
      1.386
    """

    def summed(params: Params, frozen: Params, part: Columns) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Metrics]]:
        found = loss_of(bind(frozen))(params, part, hparams)
        return found[0], found

    def measure(learner: Learner, frozen: Params, part: Columns) -> Sums:
        grads, found = jax.grad(summed, has_aux=True)(learner.params, frozen, part)
        return Sums(grads, *found)

    @functools.partial(jax.jit, donate_argnums=3)
    def add(learner: Learner, frozen: Params, part: Columns, sums: Sums) -> Sums:
        return jax.tree.map(jnp.add, sums, measure(learner, frozen, part))

    def zeros(learner: Learner, frozen: Params, part: Columns) -> Sums:
        shapes = jax.eval_shape(measure, learner, frozen, part)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(learner: Learner, sums: Sums) -> tuple[Learner, Metrics]:
        divisor = jnp.maximum(sums.weight, 1e-8)
        grads = jax.tree.map(lambda g: g / divisor, sums.grads)
        updates, opt_state = optimizer.update(grads, learner.opt_state, learner.params)
        metrics = means(sums) | {"grad_norm": optax.tree.norm(grads)}
        return Learner(optax.apply_updates(learner.params, updates), opt_state, learner.num_updates + 1), metrics

    @jax.jit
    def evaluate(learner: Learner, frozen: Params, part: Columns) -> Sums:
        return Sums((), *summed(learner.params, frozen, part)[1])

    def begin(params: Params) -> Learner:
        params = jax.tree.map(jnp.copy, params)  # `step` donates the learner, and the caller keeps its own
        return Learner(params, optimizer.init(params), jnp.int32(0))

    return Program(begin, jax.jit(measure), zeros, add, step, evaluate)


def means(sums: Sums) -> Metrics:
    """The mean loss over the weights, and the mean metrics, whose sums are over the same rows."""
    divisor = jnp.maximum(sums.weight, 1e-8)
    return {"loss/total": sums.loss / divisor} | {name: value / divisor for name, value in sums.metrics.items()}


class Optimization(NamedTuple):
    """Settings of `adamw`.

    Attributes:
      learning_rate: its highest value.
      num_updates: of the whole run.
      warmup_updates: over which it rises linearly from 0.
      schedule: "cosine" or "linear" to 0 at the end, or "constant".
      weight_decay: of matrices; norms and biases do not decay.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
    """

    learning_rate: float
    num_updates: int
    warmup_updates: int = 0
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


def adamw(settings: Optimization) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm, with a warm-up and a schedule.

    Raises:
      ValueError: an unknown schedule; a warm-up that is longer than the run.
    """
    if settings.warmup_updates > settings.num_updates:
        raise ValueError(
            f"warm-up of {settings.warmup_updates} updates is longer than the run of {settings.num_updates}"
        )

    def decays(params: Params) -> PyTree:
        return jax.tree.map(lambda x: x.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(settings.max_grad_norm),
        optax.adamw(learning_rate(settings), weight_decay=settings.weight_decay, mask=decays),
    )


def learning_rate(settings: Optimization) -> optax.Schedule:
    """The learning rate by the number of updates made.

    Examples:
      >>> rate = learning_rate(Optimization(1.0, num_updates=10, warmup_updates=2, schedule="linear"))
      >>> [round(float(rate(i)), 3) for i in (0, 1, 2, 6, 10)]
      [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    rest = max(settings.num_updates - settings.warmup_updates, 1)
    after = {
        "cosine": optax.cosine_decay_schedule(settings.learning_rate, rest),
        "linear": optax.linear_schedule(settings.learning_rate, 0.0, rest),
        "constant": optax.constant_schedule(settings.learning_rate),
    }
    if settings.schedule not in after:
        raise ValueError(f"schedule must be one of {', '.join(after)}, got {settings.schedule!r}")
    if not settings.warmup_updates:
        return after[settings.schedule]
    rising = optax.linear_schedule(0.0, settings.learning_rate, settings.warmup_updates)
    return optax.join_schedules([rising, after[settings.schedule]], [settings.warmup_updates])
