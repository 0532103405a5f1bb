"""Gradient descent on data: the one agent that supervised fine-tuning, reward models and direct alignment all are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.hparams import AtLeastOne, NonNegative, check_positive
from purerl.rlhf.models import logits_of
from purerl.types import Agent, Metrics, TrainState


class LearnerHparams(NamedTuple):
    """Hyperparameters of the agents for `fit`.

    Attributes:
      learning_rate: Adam's step size.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
      beta: strength of the pull to the reference (of the direct losses; the others ignore it).
      label_smoothing: share of labels thought flipped.
      gamma: SimPO's margin.
    """

    learning_rate: NonNegative = 1e-3
    max_grad_norm: NonNegative = 1.0
    anneal_updates: AtLeastOne = float("inf")
    beta: NonNegative = 0.1
    label_smoothing: float = 0.0
    gamma: float = 0.5


def adam(hparams: Any) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hparams.max_grad_norm), optax.adam(hparams.learning_rate))


def annealed(hparams: Any, num_updates: jax.Array) -> Any:
    """The hyperparameters with the learning rate that holds after `num_updates` updates."""
    fraction = jnp.maximum(1.0 - num_updates / hparams.anneal_updates, 0.0)
    return hparams._replace(learning_rate=hparams.learning_rate * fraction)


def descend(state: Any, grads: Any, optimizer: Callable[[Any], optax.GradientTransformation]) -> Any:
    """One step of the annealed optimizer: the state with new `params` and `opt_state`."""
    transform = optimizer(annealed(state.hparams, state.num_updates))
    updates, opt_state = transform.update(grads, state.opt_state, state.params)
    return state._replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)


def choose_token(network: Any) -> Callable[..., Any]:
    """The `act` of every language model: the next token after `obs = {"tokens": [L], "mask": [L]}`."""

    def act(key: jax.Array | None, state: Any, obs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = logits_of(network.apply(state.params, obs["tokens"], obs["mask"]))
        last = jnp.max(jnp.where(obs["mask"], jnp.arange(obs["mask"].shape[0]), 0))
        log_probs = jax.nn.log_softmax(logits[last].astype(jnp.float32))
        token = jnp.argmax(log_probs) if key is None else jax.random.categorical(key, log_probs)
        return token.astype(jnp.int32), {"log_prob": log_probs[token]}

    return act


def learner(
    network: Any,
    loss: Callable[[Any, Any, Any], tuple[jax.Array, jax.Array, Metrics]],
    *,
    num_microbatches: int = 1,
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """An agent for `fit` that descends on Σ loss / Σ weight over the rows it is shown.

    With micro-batches the sums of gradients and of weights are added up apart and divided once, so the step is that of
    the whole batch even where micro-batches count unequally many tokens. A mean of micro-batch means is not.

    Args:
      network: see `rlhf.models`.
      loss: `(params, batch, hparams) -> (sum of losses, sum of weights, metrics that are sums over rows)`.
      num_microbatches: parts that the rows are computed in, one after the other, to save memory.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent; its data are a dict of arrays leading with [B], and its `init` reads the shape of `tokens`, or
      of `chosen`, there (or of an observation).

    Raises:
      ValueError: `num_microbatches` is not positive; in `update`, it does not divide the rows.
    """
    check_positive(num_microbatches=num_microbatches)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        tokens = example["tokens"] if "tokens" in example else example["chosen"]
        row = jnp.zeros(tokens.shape[-1:], jnp.int32)
        params = network.init(key, row, jnp.ones(row.shape, bool))
        return TrainState(params, optimizer(hparams).init(params), hparams, jnp.int32(0))

    def update(key: jax.Array, state: TrainState, data: Any) -> tuple[TrainState, Metrics]:
        def total(params: Any, part: Any) -> tuple[jax.Array, Any]:
            summed, weight, metrics = loss(params, part, state.hparams)
            return summed, (summed, weight, metrics)

        gradient = jax.grad(total, has_aux=True)
        if num_microbatches == 1:
            grads, (summed, weight, metrics) = gradient(state.params, data)
        else:
            parts = jax.tree.map(lambda x: _split(x, num_microbatches), data)
            stacked = jax.lax.map(lambda part: gradient(state.params, part), parts)
            grads, (summed, weight, metrics) = jax.tree.map(lambda x: x.sum(0), stacked)
        rows = jax.tree.leaves(data)[0].shape[0]
        grads = jax.tree.map(lambda g: g / jnp.maximum(weight, 1e-8), grads)
        metrics = {name: value / rows for name, value in metrics.items()}
        state = descend(state, grads, optimizer)._replace(num_updates=state.num_updates + 1)
        return state, metrics | {"loss/total": summed / jnp.maximum(weight, 1e-8)}

    return Agent(init, choose_token(network), update)


def _split(x: jax.Array, parts: int) -> jax.Array:
    if x.shape[0] % parts:
        raise ValueError(f"num_microbatches = {parts} does not divide the {x.shape[0]} rows")
    return x.reshape(parts, -1, *x.shape[1:])
