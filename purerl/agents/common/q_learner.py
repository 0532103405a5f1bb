"""Online and target parameters of a Q-learner, shared by DQN and R2D2."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.agents.common import counts, optimization
from purerl.types import Hparams, Metrics, Params, PyTree


class DQNState(NamedTuple):
    """State of a DQN or of R2D2.

    Attributes:
      params, target_params: of the network, online and target.
      opt_state: the optimizer's state.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps made.
      target_age: int32, gradient steps since the target parameters were copied.
    """

    params: Params
    target_params: Params
    opt_state: PyTree
    hparams: Hparams
    num_updates: jax.Array
    target_age: jax.Array


def init(optimizer: optimization.Optimizer, hparams: Hparams, params: Params) -> DQNState:
    """The state before the first update; the target is a copy."""
    return DQNState(params, params, optimization.init(optimizer, hparams, params), hparams, jnp.int32(0), jnp.int32(0))


def gradient_step(
    optimizer: optimization.Optimizer, state: DQNState, loss: Callable[[Params], tuple[jax.Array, Metrics]]
) -> tuple[DQNState, Metrics]:
    """One gradient step on `loss(params) -> (scalar, metrics)`, and a copy to the target network when it is due."""
    hparams = state.hparams
    annealed = optimization.annealed(hparams, state.num_updates)
    params, opt_state, metrics = optimization.gradient_step(optimizer, annealed, loss, state.params, state.opt_state)
    target_params, age = optimization.periodic_copy(params, state.target_params, state.target_age, hparams)
    return DQNState(params, target_params, opt_state, hparams, counts.increment(state.num_updates), age), metrics
