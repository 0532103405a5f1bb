"""Gradient descent on text: the agent behind supervised fine-tuning, reward models and direct alignment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import blocks, counts, optimization
from purerl.hparams import AtLeastOne, Interval, NonNegative, check_positive
from purerl.once import build_once
from purerl.rlhf.columns import TEXT, Columns, log_probs, require_columns
from purerl.rlhf.models import logits_of
from purerl.types import ActFn, Agent, Hparams, Key, Metrics, Network, Params, PyTree, State, TrainState

SummedLoss: TypeAlias = Callable[[Params, Columns, Hparams], tuple[jax.Array, jax.Array, Metrics]]
"""`(params, batch, hparams) -> (sum of losses, sum of weights, metrics, summed like the weights)`."""


class LearnerHparams(NamedTuple):
    """Hyperparameters of the agents for `fit`.

    Attributes:
      learning_rate: Adam's step size.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
      beta: strength of the pull to the reference, read by the direct losses; above 0 for "ipo", "ipo_average" and
        "sppo".
      label_smoothing: assumed share of flipped labels, read by DPO and its relatives; below 1/2 for "robust".
      gamma: SimPO's margin.
    """

    learning_rate: NonNegative = 1e-3
    max_grad_norm: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")
    beta: NonNegative = 0.1
    label_smoothing: Annotated[Any, Interval(0.0, 0.5)] = 0.0
    gamma: NonNegative = 0.5


def choose_token(network: Network) -> ActFn:
    """The `act` of every language model: the next token after `obs = {"tokens": [L], "mask": [L]}`."""

    def act(key: Key | None, state: State, obs: Columns) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = logits_of(network.apply(state.params, obs["tokens"], obs["mask"]))
        last = jnp.max(jnp.where(obs["mask"], jnp.arange(obs["mask"].shape[0]), 0))
        log_probs = jax.nn.log_softmax(logits[last].astype(jnp.float32))
        token = jnp.argmax(log_probs) if key is None else jax.random.categorical(key, log_probs)
        return token.astype(jnp.int32), {"log_prob": log_probs[token]}

    return act


@build_once
def learner(
    network: Network,
    loss: SummedLoss,
    *,
    num_microbatches: int = 1,
    by_row: bool = False,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """An agent for `fit` that descends on Σ loss / Σ weight over the rows it is shown.

    With micro-batches the gradients and the weights are summed separately and divided once, so the step is that of the
    whole batch even if micro-batches count different numbers of tokens. A mean of micro-batch means would not be.

    Args:
      network: see `rlhf.models`.
      loss: `(params, batch, hparams) -> (sum of losses, sum of weights, metrics, summed like the weights)`.
      num_microbatches: parts that the rows are computed in, one after the other, to save memory.
      by_row: the loss of a row depends on no other row, so that a CPU may compute blocks of them (`blocks.total`).
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent whose data are a dict of arrays leading with [B]; its `init` reads the width of `tokens` (or of an
      observation's `tokens`).

    Raises:
      ValueError: `num_microbatches` is not positive; in `update`, it does not divide the rows.
    """
    check_positive(num_microbatches=num_microbatches)

    def init(key: Key, hparams: Hparams, example: Columns, num_envs: int = 1) -> TrainState:
        row = jnp.zeros(example["tokens"].shape[-1:], jnp.int32)
        params = network.init(key, row, jnp.ones(row.shape, bool))
        return optimization.train_state(optimizer, hparams, params)

    def update(key: Key, state: TrainState, data: Columns) -> tuple[TrainState, Metrics]:
        packed, unpack = optimization.pack(optimizer, state.params)

        def total(packed: PyTree, part: Columns) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Metrics]]:
            summed, weight, metrics = loss(unpack(packed), part, state.hparams)
            return summed, (summed, weight, metrics)

        def gradient(part: Columns) -> tuple[PyTree, tuple[jax.Array, jax.Array, Metrics]]:
            return jax.grad(total, has_aux=True)(packed, part)

        def of_part(part: Columns) -> tuple[PyTree, tuple[jax.Array, jax.Array, Metrics]]:
            return blocks.total(gradient, part, math.prod(part["tokens"].shape[1:])) if by_row else gradient(part)

        grads, (summed, weight, metrics) = blocks.accumulate(of_part, data, num_microbatches)
        divisor = jnp.maximum(weight, 1e-8)
        grads = jax.tree.map(lambda g: g / divisor, grads)
        hparams = optimization.annealed(state.hparams, state.num_updates)
        packed, opt_state = optimization.apply_gradients(optimizer, hparams, grads, packed, state.opt_state)
        metrics = {name: value / divisor for name, value in metrics.items()} | {"loss/total": summed / divisor}
        num_updates = counts.increment(state.num_updates)
        return state._replace(params=unpack(packed), opt_state=opt_state, num_updates=num_updates), metrics

    return Agent(init, choose_token(network), update)


@build_once
def sft(
    network: Network,
    *,
    num_microbatches: int = 1,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """Supervised fine-tuning: the mean, over all completion tokens of the batch, of -log π(token | before).

    Prompt and padding do not count, and every token has the same weight however the rows are cut into micro-batches.

    Args:
      network: see `rlhf.models`.
      num_microbatches: parts an update is computed in.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on one text per row; its `act` is the language model's.

    Raises:
      ValueError: in `update`, a column is missing, or rows hold more than one text.

    Examples:
      >>> from purerl import rlhf
      >>> agent = rlhf.sft(rlhf.table_network(vocab_size=4, length=2, order=1))
      >>> tokens = jnp.array([[0, 1, 2], [0, 3, 3]])
      >>> data = {"tokens": tokens, "mask": tokens >= 0, "completion": 0 * tokens + jnp.arange(3) > 0}
      >>> state = agent.init(jax.random.key(0), rlhf.LearnerHparams(), data)
      >>> _, metrics = jax.eval_shape(agent.update, jax.random.key(1), state, data)
      >>> sorted(metrics)
      ['loss/total']
    """
    return learner(network, sft_loss(network), num_microbatches=num_microbatches, by_row=True, optimizer=optimizer)


@build_once
def sft_loss(network: Network) -> SummedLoss:
    """The loss of `sft`: -log π summed over completion tokens, and how many there are."""

    def loss(params: Params, data: Columns, hparams: Hparams) -> tuple[jax.Array, jax.Array, Metrics]:
        require_columns(data, "sft", TEXT, "[B, W]")
        total = -jnp.sum(log_probs(network, params, data))  # [B, W] -> [B] -> []
        return total, jnp.sum(losses.sequence_lengths(data["completion"])).astype(jnp.float32), {}

    return loss
