"""A block of agents as one program: the three steps of a run, vmapped, each compiled once for a width and its sizes.

The block is spread over the local devices where its width divides by their number.

Agents differ in their key and their hyperparameters; agent, environment and sizes are static. What comes back to the
host is one number an agent and chunk; the states stay on the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purerl import loops
from purerl.distributed import over_devices
from purerl.loops import LoopState
from purerl.types import Agent, Env, Metrics


@functools.partial(jax.jit, static_argnames=("agent", "env", "num_envs"))
def start(keys: jax.Array, hparams: Any, env_params: Any, *, agent: Agent, env: Env, num_envs: int) -> LoopState:
    """`loops.start` of W agents: keys [W], hyperparameters with leaves [W], environment parameters shared by all."""

    def one(key: jax.Array, hparams: Any, env_params: Any) -> LoopState:
        return loops.start(key, agent, env, hparams, num_envs=num_envs, env_params=env_params)

    return over_devices(jax.vmap(one, (0, 0, None)), (keys, hparams), (env_params,))


@functools.partial(
    jax.jit, static_argnames=("agent", "env", "num_updates", "rollout_length", "rollout"), donate_argnames="states"
)
def advance(
    states: LoopState, *, agent: Agent, env: Env, num_updates: int, rollout_length: int, rollout: Callable[..., Any]
) -> tuple[LoopState, jax.Array]:
    """`loops.advance` of W agents for `num_updates` updates; `states` is donated.

    Returns:
      The next states, and the mean return of the episodes that finished in these updates, [W]; NaN where none did.
    """

    def one(state: LoopState) -> tuple[LoopState, jax.Array]:
        state, metrics = loops.advance(
            state, agent, env, num_updates=num_updates, rollout_length=rollout_length, rollout=rollout
        )
        return state, _episode_return(metrics)

    return over_devices(jax.vmap(one), (states,))


@functools.partial(jax.jit, static_argnames=("agent", "env", "num_episodes", "max_steps"))
def evaluate(
    states: LoopState, key: jax.Array, *, agent: Agent, env: Env, num_episodes: int, max_steps: int
) -> jax.Array:
    """Returns of greedy episodes, [W, num_episodes]; all agents play with one key, so they meet the same episodes."""

    def one(state: LoopState, key: jax.Array) -> jax.Array:
        return loops.evaluate(
            key,
            agent,
            env,
            state.agent_state,
            num_episodes=num_episodes,
            max_steps=max_steps,
            env_params=state.env_params,
        ).episode_return

    return over_devices(jax.vmap(one, (0, None)), (states,), (key,))


def _episode_return(metrics: Metrics) -> jax.Array:
    """Σ episodes · mean return / Σ episodes over the updates of a chunk, leaves [U]."""
    episodes = metrics["num_episodes"]
    total = jnp.sum(jnp.where(episodes > 0, metrics["episode_return"] * episodes, 0))
    return total / episodes.sum()
