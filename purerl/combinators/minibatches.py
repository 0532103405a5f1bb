"""Agents for `fit` that see a part of the data, or fresh data, in each update."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax

from purerl import prng
from purerl.combinators import _inner
from purerl.hparams import check_positive
from purerl.once import build_once
from purerl.types import Agent, Hparams, Key, Metrics, PyTree, Requirements, State, example_of


class MinibatchState(NamedTuple):
    """The wrapped agent's state."""

    agent: State


class DrawFn(Protocol):
    """Draw the data of one update, so that memory does not bound how many there are."""

    def __call__(self, key: Key, data: PyTree, /) -> PyTree:
        """Data for the wrapped agent; `data` is what `fit` was given."""


@build_once
def with_minibatches(agent: Agent, batch_size: int) -> Agent:
    """Show the agent `batch_size` rows of the data in each update, drawn uniformly with replacement.

    Drawing takes O(batch_size) for data of any size. The number of times that a row is drawn is nearly
    Poisson distributed, with mean num_updates · batch_size / B.

    Args:
      agent: any agent for `fit` whose data are arrays leading with [B].
      batch_size: rows per update.

    Returns:
      An agent for `fit` whose state has the field `agent`.

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
      ValueError: `batch_size` is not positive; at the first use, the agent needs more than single rows; in `update`,
        leaves of the data that lead with different lengths.

    Examples:
      >>> import jax.numpy as jnp
      >>> from purerl.types import TrainState
      >>> init = lambda key, hparams, example, num_envs=1: TrainState((), (), hparams, 0)
      >>> size = Agent(init, lambda *_: (0, ()), lambda key, state, data: (state, {"rows": jnp.float32(len(data))}))
      >>> state, metrics = with_minibatches(size, 4).update(jax.random.key(0), MinibatchState(()), jnp.arange(100))
      >>> int(metrics["rows"])
      4
    """
    _inner.check_agent(agent, "with_minibatches")
    check_positive(batch_size=batch_size)
    if agent.requires.data != "rows":
        return _inner.refused(
            f"with_minibatches draws single rows, but this agent needs {_NEEDED[agent.requires.data]}; wrap an agent "
            "that learns from rows, and put with_replay around one that learns from windows of a trajectory"
        )

    def draw(key: Key, data: PyTree) -> PyTree:
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
        if len(sizes) != 1:
            raise ValueError(f"with_minibatches: the data's columns have different lengths {sorted(sizes)}")
        rows = prng.integers(key, (batch_size,), sizes.pop())
        return jax.tree.map(lambda x: x[rows], data)  # [B, ...] -> [batch_size, ...]

    return with_sampler(agent, draw)


_NEEDED = {
    "trajectory": "steps in order of time",
    "stream": "a trajectory that continues from update to update (replay, traces or reward scaling)",
    "episodes": "whole episodes",
    "whole": "its data whole",
}


@build_once
def with_sampler(agent: Agent, draw: DrawFn) -> Agent:
    """Show the agent `draw(key, data)` in place of the data: endless fresh data from a simulator, or any subset.

    Args:
      agent: any agent for `fit`.
      draw: pure function of a key and of the data given to `fit`.

    Returns:
      An agent for `fit` whose state has the field `agent`; its `init` sees an example of drawn data.

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
    """
    _inner.check_agent(agent, "with_sampler")

    def init(key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> MinibatchState:
        init_key, draw_key = jax.random.split(key)
        return MinibatchState(agent.init(init_key, hparams, example_of(agent, draw(draw_key, example)), num_envs))

    def update(key: Key, state: MinibatchState, data: PyTree) -> tuple[MinibatchState, Metrics]:
        draw_key, update_key = jax.random.split(key)
        inner, metrics = agent.update(update_key, state.agent, draw(draw_key, data))
        return MinibatchState(inner), metrics

    requires = Requirements("whole", agent.requires.raw_observations)
    return Agent(init, _inner.act(agent), update, _inner.memory(agent), requires, _inner.cut(agent), agent.check)
