"""Train one agent with hyperparameters that change while it learns, such as those that a population found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from purerl import loops
from purerl.hparams import cast, check_hparams, check_positive, set_hparams
from purerl.types import Agent, Env, Hparams, Metrics, PyTree, State


def train_schedule(
    key: jax.Array,
    agent: Agent,
    env: Env,
    schedule: Hparams,
    *,
    updates_per_round: int,
    num_envs: int,
    rollout_length: int,
    env_params: PyTree = None,
    rollout: Callable[..., Any] = loops.rollout,
) -> tuple[State, Metrics]:
    """Train one agent from scratch with hyperparameters that change from round to round.

    `PBTResult.schedule()` returns such hyperparameters. That schedule was selected together with the luck of its
    members; training on fresh seeds (`jax.vmap` over `key`) shows what the schedule alone is worth.

    Args:
      key: typed key.
      agent, env, num_envs, rollout_length, env_params, rollout: as in `loops.train`.
      schedule: the agent's hyperparameters with leaves [R].
      updates_per_round: updates with each of them.

    Returns:
      The trained state, and the metrics of `loops.train` with leaves [R · updates_per_round].

    Raises:
      TypeError, ValueError: as in `loops.train`.
    """
    check_positive(updates_per_round=updates_per_round)
    check_hparams(schedule)
    schedule = cast(schedule)
    first = jax.tree.map(lambda x: x[0], schedule)
    state = loops.start(key, agent, env, first, num_envs=num_envs, env_params=env_params)
    state, metrics = _follow(state, schedule, agent, env, updates_per_round, rollout_length, rollout)
    return state.agent_state, metrics


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _follow(state, schedule, agent, env, updates, rollout_length, rollout):  # type: ignore[no-untyped-def]
    def one(state: loops.LoopState, hparams: Hparams) -> tuple[loops.LoopState, Metrics]:
        state = state._replace(agent_state=set_hparams(state.agent_state, hparams))
        return loops.advance(state, agent, env, num_updates=updates, rollout_length=rollout_length, rollout=rollout)

    state, metrics = jax.lax.scan(one, state, schedule)
    return state, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), metrics)  # [R, U, ...] -> [R * U, ...]
