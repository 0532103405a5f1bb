"""What replay stores of a step beside the step itself, and windows of rows as the agent sees them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.agents.common import trajectories
from purerl.types import ActFn, Agent, Key, PyTree, State, Transition


class Recorded(NamedTuple):
    """`aux` of a step of an agent with memory behind replay: its own, and its memory before the step."""

    aux: PyTree
    memory: PyTree


def recording(agent: Agent) -> ActFn:
    """The `act` of the agent behind replay, whose `aux` also holds the memory before the step."""

    def act(key: Key | None, state: Any, obs: PyTree, memory: PyTree) -> tuple[PyTree, Recorded, PyTree]:
        action, aux, following = agent.act(key, state.agent, obs, memory)
        return action, Recorded(aux, memory), following

    return act


def once(data: Transition) -> Transition:
    """Steps without their successors, which the next rows hold."""
    return data._replace(memory=(), next_obs=())


def shown(agent: Agent, state: State, rows: Transition, burn_in: int, with_next_obs: bool) -> Transition:
    """The windows [L, B] as the agent sees them, from the rows that were drawn for them.

    Args:
      agent: the agent.
      state: its state.
      rows: [burn_in + L, B], or one row more without successors.
      burn_in: rows before the window.
      with_next_obs: whether the rows have successors.
    """
    rows = rows if with_next_obs else _with_successors(rows)
    if not agent.requires.memory:
        return rows
    memory = jax.tree.map(lambda x: x[0], rows.aux.memory)  # [K + L, B, ...] -> [B, ...]
    rows = rows._replace(aux=rows.aux.aux)
    if burn_in:
        before = jax.tree.map(lambda x: x[:burn_in], rows)
        rows = jax.tree.map(lambda x: x[burn_in:], rows)
        memory = _burnt_in(agent, state, before, memory)
    return rows._replace(memory=memory)


def _burnt_in(agent: Agent, state: State, before: Transition, memory: PyTree) -> PyTree:
    """The memories [B] after the steps before the windows, [K, B], as the present parameters make them."""
    start = agent.memory
    assert start is not None
    fresh = start(None, state)

    def step(memory: PyTree, xs: tuple[PyTree, jax.Array]) -> tuple[PyTree, None]:
        obs, ended = xs

        def restart(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(ended.reshape(ended.shape + (1,) * (old.ndim - 1)), new, old)  # [B] -> [B, 1, ...]

        after = jax.vmap(lambda obs, memory: agent.act(None, state, obs, memory)[2])(obs, memory)
        return jax.tree.map(restart, fresh, after), None

    memory, _ = jax.lax.scan(step, memory, (before.obs, trajectories.done(before)))
    return jax.lax.stop_gradient(memory)


def _with_successors(rows: Transition) -> Transition:
    """Windows [L, B] from rows [L + 1, B] without successors, weight 0 where a successor is another episode's."""
    window = jax.tree.map(lambda x: x[:-1], rows)
    cut = (window.truncated & ~window.terminated).any(axis=0)  # [B]
    weight = jnp.where(cut, 0, trajectories.step_weight(window))
    return window._replace(next_obs=jax.tree.map(lambda x: x[1:], rows.obs), weight=weight)
