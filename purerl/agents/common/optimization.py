"""Gradient steps shared by the agents: parameters of any structure are stepped as one flat vector.

One vector takes one fused update where a tree takes one a leaf: 1.3 to 1.6 times as fast for the small networks and
batches of reinforcement learning, at the price of one copy of the parameters a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purerl.agents.common import minibatches
from purerl.types import Metrics, TrainState

Optimizer = Callable[[Any], optax.GradientTransformation]


def adam(hparams: Any) -> optax.GradientTransformation:
    """Adam (ε = 1e-5) behind a clip of the global gradient norm; reads `learning_rate` and `max_grad_norm`."""
    return optax.chain(optax.clip_by_global_norm(hparams.max_grad_norm), optax.adam(hparams.learning_rate, eps=1e-5))


def adam_of(field: str) -> Optimizer:
    """Plain Adam whose step size is the hyperparameter of that name: for agents that have several optimizers."""
    return lambda hparams: optax.adam(getattr(hparams, field))


def init(optimizer: Optimizer, hparams: Any, params: Any) -> Any:
    """The optimizer's state for parameters seen as one flat vector."""
    return optimizer(hparams).init(ravel_pytree(params)[0])


def train_state(optimizer: Optimizer, hparams: Any, params: Any) -> TrainState:
    """The state of an agent of one optimizer before its first update."""
    return TrainState(params, init(optimizer, hparams, params), hparams, jnp.int32(0))


def step(
    transform: optax.GradientTransformation, loss: Callable[[Any], tuple[jax.Array, Any]], params: Any, opt_state: Any
) -> tuple[Any, Any, Any]:
    """One step down the gradient of a loss.

    Args:
      transform: what `optimizer(hparams)` returned.
      loss: `params -> (scalar, aux)`.
      params: where to step from.
      opt_state: from `init` or an earlier step.

    Returns:
      The new parameters, the optimizer's new state, and the loss's `aux`.
    """
    flat, unravel = ravel_pytree(params)
    grads, aux = jax.grad(lambda x: loss(unravel(x)), has_aux=True)(flat)
    updates, opt_state = transform.update(grads, opt_state, flat)
    return unravel(optax.apply_updates(flat, updates)), opt_state, aux


def descend(
    optimizer: Optimizer, loss: Callable[[Any], tuple[jax.Array, Metrics]], state: TrainState
) -> tuple[TrainState, Metrics]:
    """One update of an agent of one optimizer: one step, with the learning rate that holds now.

    Args:
      optimizer: as for `init`.
      loss: `params -> (scalar, metrics)`.
      state: where to step from.

    Returns:
      The state after the update, and the metrics of the loss before it.
    """
    transform = optimizer(annealed(state.hparams, state.num_updates))
    params, opt_state, metrics = step(transform, loss, state.params, state.opt_state)
    return TrainState(params, opt_state, state.hparams, state.num_updates + 1), metrics


def descend_in_minibatches(
    key: jax.Array,
    optimizer: Optimizer,
    loss: Callable[[Any, Any], tuple[jax.Array, Metrics]],
    state: TrainState,
    batch: Any,
    *,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[TrainState, Metrics]:
    """One update of an agent of one optimizer: a step on each shuffled part of a batch, several times over.

    Args:
      key: typed key of the shuffles.
      optimizer: as for `init`.
      loss: `(params, part) -> (scalar, metrics)`; `part` leads with [B / num_minibatches].
      state: where to step from.
      batch: leaves lead with [B].
      num_epochs, num_minibatches: as for `minibatch.epochs`.

    Returns:
      The state after the update, and the metrics' means over the steps.

    Raises:
      ValueError: B does not divide into `num_minibatches`.
    """
    transform = optimizer(annealed(state.hparams, state.num_updates))

    def step_on(learner: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], Metrics]:
        params, opt_state, metrics = step(transform, lambda params: loss(params, part), *learner)
        return (params, opt_state), metrics

    (params, opt_state), metrics = minibatches.epochs(
        key, step_on, (state.params, state.opt_state), batch, num_epochs=num_epochs, num_minibatches=num_minibatches
    )
    return TrainState(params, opt_state, state.hparams, state.num_updates + 1), jax.tree.map(jnp.mean, metrics)


def annealed(hparams: Any, num_updates: jax.Array) -> Any:
    """The hyperparameters with the learning rate that holds after `num_updates` updates.

    α · max(0, 1 − num_updates / anneal_updates); an infinite `anneal_updates` leaves α as it is.
    """
    fraction = jnp.maximum(1.0 - num_updates / hparams.anneal_updates, 0.0)
    return hparams._replace(learning_rate=hparams.learning_rate * fraction)
