"""Agents for `fit` that see a part of the data, or fresh data, in each update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from purerl.combinators import _inner
from purerl.hparams import check_positive
from purerl.types import Agent, Metrics


class MinibatchState(NamedTuple):
    """The wrapped agent's state."""

    agent: Any


def with_minibatches(agent: Agent, batch_size: int) -> Agent:
    """Show the agent `batch_size` rows of the data in each update, drawn uniformly with replacement.

    Rows are drawn by `randint`, O(batch_size) whatever the size of the data; a given row comes up Poisson-often, in
    the mean num_updates · batch_size / B times.

    Args:
      agent: any agent for `fit` whose data are arrays leading with [B].
      batch_size: rows an update.

    Returns:
      An agent whose state has the field `agent`.

    Raises:
      ValueError: `batch_size` is not positive; in `update`, leaves of the data that lead with different lengths.
    """
    check_positive(batch_size=batch_size)

    def draw(key: jax.Array, data: Any) -> Any:
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
        if len(sizes) != 1:
            raise ValueError(f"with_minibatches: the data's columns have different lengths {sorted(sizes)}")
        rows = jax.random.randint(key, (batch_size,), 0, sizes.pop())
        return jax.tree.map(lambda x: x[rows], data)

    return with_sampler(agent, draw)


def with_sampler(agent: Agent, draw: Callable[[jax.Array, Any], Any]) -> Agent:
    """Show the agent `draw(key, data)` in place of the data: endless fresh data from a simulator, or any subset.

    Args:
      agent: any agent for `fit`.
      draw: pure function of a key and of the data given to `fit`.

    Returns:
      An agent whose state has the field `agent`; its `init` sees a drawn example too.
    """

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> MinibatchState:
        init_key, draw_key = jax.random.split(key)
        return MinibatchState(agent.init(init_key, hparams, draw(draw_key, example), num_envs))

    def update(key: jax.Array, state: MinibatchState, data: Any) -> tuple[MinibatchState, Metrics]:
        draw_key, update_key = jax.random.split(key)
        inner, metrics = agent.update(update_key, state.agent, draw(draw_key, data))
        return MinibatchState(inner), metrics

    return Agent(init, _inner.act(agent), update, _inner.memory(agent))
