"""Learning from past steps: a ring of them in front of an agent."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import replay, schedules
from purerl.combinators import _inner
from purerl.hparams import check_positive, get_hparams
from purerl.replay import priority
from purerl.types import Agent, Experience, Metrics, Transition


class ReplayState(NamedTuple):
    """The wrapped agent's state beside the steps that it learns from.

    Attributes:
      agent: the wrapped agent's state.
      ring: `replay.Ring`, or `replay.priority.PriorityRing`.
    """

    agent: Any
    ring: Experience


def with_replay(
    agent: Agent,
    *,
    capacity: int,
    batch_size: int,
    length: int = 1,
    num_updates: int = 1,
    min_size: int | None = None,
    prioritized: bool = False,
) -> Agent:
    """Show the agent windows of past steps in place of its rollout.

    An update writes the rollout into the ring and then, `num_updates` times, draws `batch_size` windows of `length`
    consecutive steps, a trajectory [length, batch_size], and lets the agent learn from it. Until the ring holds
    `min_size` steps the agent stays as it is and its metrics are NaN.

    Prioritised replay reads α and β from the hyperparameters `priority_exponent`, `importance_exponent` and
    `importance_anneal_updates` (β rises to 1 over that many updates); the agent sees the importance weights as the
    data's `mask`, and its metrics must have an entry "priority", [batch_size], which becomes the windows' priorities.

    Args:
      agent: any agent whose `update` takes a `Transition`, such as `dqn(network)`.
      capacity: steps over all environments; rounded down to whole rows of one step an environment.
      batch_size: windows a gradient step.
      length: steps in a window; an agent takes the n-step return over it.
      num_updates: updates of the agent a rollout.
      min_size: steps before learning begins; None: `batch_size`.
      prioritized: draw windows by priority (Schaul et al. 2016) and not uniformly.

    Returns:
      An agent whose state has the fields `agent` and `ring`.

    Raises:
      ValueError: a size is not positive; `min_size` above `capacity`; at the first use, a capacity that is too small
        for the environments and the rollout, masked data, or an agent without priorities.
    """
    check_positive(capacity=capacity, batch_size=batch_size, length=length, num_updates=num_updates)
    least = batch_size if min_size is None else min_size
    if least > capacity:
        raise ValueError(f"min_size = {least} is more than capacity = {capacity}: learning would never begin")

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> ReplayState:
        inner = agent.init(key, hparams, example, num_envs)
        make = priority.init if prioritized else replay.init
        return ReplayState(inner, make(_example_step(agent, inner, example), capacity, num_envs))

    def update(key: jax.Array, state: ReplayState, data: Transition) -> tuple[ReplayState, Metrics]:
        if not isinstance(data.mask, tuple):
            raise ValueError("with_replay takes whole rollouts; rollout_episodes masks its steps")
        data = data._replace(memory=())
        ring: Any
        if prioritized:
            ring = priority.add(state.ring, data, get_hparams(state.agent).priority_exponent, length)
        else:
            ring = replay.add(state.ring, data)
        num_rows = ring.ring.num_rows if prioritized else ring.num_rows
        size = num_rows * data.reward.shape[1]
        ready = (size >= least) & (num_rows >= length)

        def learn(state: ReplayState, key: jax.Array) -> tuple[ReplayState, Metrics]:
            step = _prioritized_step if prioritized else _uniform_step
            new, metrics = step(key, agent, state, ready, batch_size, length)
            inner = jax.tree.map(lambda new, old: jnp.where(ready, new, old), new.agent, state.agent)
            return ReplayState(inner, new.ring), {name: jnp.where(ready, x, jnp.nan) for name, x in metrics.items()}

        keys = jax.random.split(key, num_updates)
        state, metrics = jax.lax.scan(learn, ReplayState(state.agent, ring), keys)
        return state, {name: x.mean() for name, x in metrics.items()} | {"replay/size": size}

    return Agent(init, _inner.act(agent), update, _inner.memory(agent))


def _uniform_step(
    key: jax.Array, agent: Agent, state: ReplayState, ready: jax.Array, batch_size: int, length: int
) -> tuple[ReplayState, Metrics]:
    draw_key, update_key = jax.random.split(key)
    window, _ = replay.sample(draw_key, state.ring, batch_size, length)
    inner, metrics = agent.update(update_key, state.agent, window)
    return ReplayState(inner, state.ring), {name: x for name, x in metrics.items() if name != "priority"}


def _prioritized_step(
    key: jax.Array, agent: Agent, state: ReplayState, ready: jax.Array, batch_size: int, length: int
) -> tuple[ReplayState, Metrics]:
    draw_key, update_key = jax.random.split(key)
    hparams = get_hparams(state.agent)
    updates = _num_updates(state.agent)
    beta = schedules.linear_schedule(updates, hparams.importance_exponent, 1.0, hparams.importance_anneal_updates)
    window, index, weight = priority.sample(draw_key, state.ring, batch_size, beta, length)
    window = window._replace(mask=jnp.broadcast_to(weight, window.reward.shape))
    inner, metrics = agent.update(update_key, state.agent, window)
    if "priority" not in metrics:
        raise ValueError("prioritized=True needs an agent whose metrics have an entry 'priority', such as dqn")
    ring = priority.update(state.ring, index, metrics["priority"], hparams.priority_exponent, ready)
    return ReplayState(inner, ring), {name: x for name, x in metrics.items() if name != "priority"}


def _num_updates(state: Any) -> jax.Array:
    return state.num_updates if hasattr(state, "num_updates") else _num_updates(state.agent)


def _example_step(agent: Agent, state: Any, example: Any) -> Transition:
    """Shapes and dtypes of one step that the agent makes."""

    def act(key: jax.Array) -> tuple[Any, Any]:
        memory = [] if agent.memory is None else [agent.memory(key, state)]
        return agent.act(key, state, example, *memory)[:2]

    action, aux = jax.eval_shape(act, jax.random.key(0))
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    flag: Any = jax.ShapeDtypeStruct((), bool)
    obs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), example)
    return Transition(obs, action, scalar, flag, flag, obs, aux)
