"""`fit`: updates on fixed data, such as the sweeps of dynamic programming or supervised learning."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from purerl import branches, prng
from purerl.hparams import (
    cast,
    check_positive,
    naming_what_is_missing,
    set_hparams,
    warn_if_annealed,
)
from purerl.loops import agents, checking
from purerl.prng import check_key
from purerl.types import Agent, Env, Hparams, Key, Metrics, PyTree, State, Transition, example_of


def fit(
    key: Key, agent: Agent, data: PyTree, hparams: Hparams, *, num_updates: int, state: State | None = None
) -> tuple[State, Metrics]:
    """Train an agent on fixed data: `num_updates` updates on all of it (`with_minibatches` draws parts).

    Args:
      key: typed key.
      agent: the agent.
      data: what its `update` takes: an `MDP`, a `Transition`, a dict of arrays.
      hparams: the agent's hyperparameters.
      num_updates: number of updates.
      state: a trained state to start from, with its hyperparameters replaced; None calls `init` with one observation of
        a `Transition` or of a mapping with a column "obs", with one row of other data, and with the whole data where
        the agent requires them whole, such as an `MDP`.

    Returns:
      The state, and metrics with leaves [num_updates].

    Raises:
      TypeError: `key` is not a typed key, `data` is an environment, `hparams` lacks a field that the agent reads, or a
        function of the agent takes or returns something else than it should.
      ValueError: the data are empty, or rows for an agent that needs trajectories; `num_updates` is not positive, or a
        hyperparameter is NaN or out of range.

    Warns:
      UserWarning: the learning rate of `state` has been annealed to 0.
    """
    check_key(key)
    checking.check_agent(agent)
    checking.check_hparams(agent, hparams)
    warn_if_annealed(state, hparams)
    check_positive(num_updates=num_updates)
    _check_data(agent, data)
    with naming_what_is_missing(hparams), branches.for_this_process():
        return _fit(key, agent, data, cast(hparams), num_updates, state)


def _check_data(agent: Agent, data: PyTree) -> None:
    """Reject an environment, data without rows, and rows for an agent that needs steps in order of time."""
    if isinstance(data, Env):
        raise TypeError("data must be what the agent learns from, got an environment: use purerl.train")
    if isinstance(data, Transition) and agent.requires.data in ("trajectory", "stream", "episodes"):
        shape = jnp.shape(data.reward)
        if len(shape) < 2:
            raise ValueError(
                "this agent needs a trajectory, leaves [T, N, ...], in order of time, but data.reward has shape "
                f"{shape}; rows suit agents such as purerl.cql, iql and td3_bc"
            )
    for path, leaf in jax.tree_util.tree_flatten_with_path(data)[0]:
        if 0 in jnp.shape(leaf):
            raise ValueError(f"data{jax.tree_util.keystr(path)} is empty: its shape is {list(jnp.shape(leaf))}")


@functools.partial(jax.jit, static_argnums=(1, 4))
def _fit(
    key: Key, agent: Agent, data: PyTree, hparams: Hparams, num_updates: int, state: State | None
) -> tuple[State, Metrics]:
    init_key, loop_key = prng.split(key)
    if state is None:
        example = example_of(agent, data)
        state = agents.initial_state(lambda key: checking.init(agent, key, hparams, example), init_key)
    else:
        state = set_hparams(state, hparams)

    def update(state: State, i: jax.Array) -> tuple[State, Metrics]:
        return agents.update(agent, prng.fold_in(loop_key, i), state, data)

    return jax.lax.scan(update, state, jnp.arange(num_updates))
