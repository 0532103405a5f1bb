"""`fit`: updates on fixed data, such as the sweeps of dynamic programming or supervised learning."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from purerl.hparams import cast, check_hparams, check_positive, set_hparams
from purerl.prng import check_key
from purerl.types import Agent, Metrics


def fit(
    key: jax.Array, agent: Agent, data: Any, hparams: Any, *, num_updates: int, state: Any = None
) -> tuple[Any, Metrics]:
    """Train an agent on fixed data: `num_updates` updates on all of it (`with_minibatches` draws parts).

    Args:
      key: typed key.
      agent: the agent.
      data: what its `update` takes: an `MDP`, a `Transition`, a dict of arrays.
      hparams: the agent's hyperparameters.
      num_updates: number of updates.
      state: a trained state to start from, with its hyperparameters replaced; None calls `init` with the data.

    Returns:
      The state, and metrics with leaves [num_updates].

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: `num_updates` is not positive, or a hyperparameter is NaN or out of range.
    """
    check_key(key)
    check_hparams(hparams)
    check_positive(num_updates=num_updates)
    return _fit(key, agent, data, cast(hparams), num_updates, state)


@functools.partial(jax.jit, static_argnums=(1, 4))
def _fit(key, agent, data, hparams, num_updates, state):  # type: ignore[no-untyped-def]
    init_key, loop_key = jax.random.split(key)
    state = agent.init(init_key, hparams, data) if state is None else set_hparams(state, hparams)

    def update(state: Any, i: jax.Array) -> tuple[Any, Metrics]:
        return agent.update(jax.random.fold_in(loop_key, i), state, data)

    return jax.lax.scan(update, state, jnp.arange(num_updates))
