"""Robustness: returns of trained agents in environments with other parameters than those of their training."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops
from purerl.hparams import check_positive
from purerl.prng import check_key
from purerl.sweep.results.result import Result
from purerl.types import Agent, Env, PyTree


def robustness(
    key: jax.Array,
    agent: Agent,
    env: Env,
    states: Result | PyTree,
    env_params: PyTree,
    *,
    num_episodes: int = 16,
    max_steps: int = 1000,
    top: int | None = None,
) -> np.ndarray:
    """Returns of greedy episodes of every agent with every row of environment parameters, in one compiled program.

    There is one key for all of them, so agents and parameters share their random numbers.

    Args:
      key: typed key.
      agent: the agent.
      env: its environment.
      states: of the agents, a tree with leaves [A, ...] or a sequence of A trees; or a `Result`, whose kept agents
        play, the best trial first and each trial's seeds in their order: see `kept_agents`.
      env_params: leaves [Q, ...], such as `env_grid(...).env_params`.
      num_episodes: episodes of each pair, E.
      max_steps: length at which an episode is cut, in steps.
      top: number of the best trials of a `Result` to play; None: all that were kept.

    Returns:
      [A, Q, E] float32.

    Raises:
      TypeError, ValueError: the key is not typed, a size is not positive, no states were kept, they differ in shape
        (with static choices: pass one group at a time), or the leaves of `env_params` differ in their first axis.
    """
    check_key(key)
    check_positive(num_episodes=num_episodes, max_steps=max_steps, top=1 if top is None else top)
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(env_params)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError("every leaf of env_params must have the same leading axis: one entry per row of the table")
    play = _play(agent, env, num_episodes, max_steps)
    return np.asarray(play(key, _stack(states, top), jax.tree.map(jnp.asarray, env_params)))


def kept_agents(result: Result, top: int | None = None) -> list[tuple[int, int]]:
    """(rank, seed) of the agents whose states a result holds, in the order in which `robustness` plays them."""
    trial, seed = result.member_index.decode(result.kept)
    rank = 1 + np.argsort(result.order)[trial]
    best = np.unique(rank)[:top]
    return sorted((r, s) for r, s in zip(rank.tolist(), seed.tolist()) if r in best)


def _stack(states: Result | PyTree, top: int | None) -> PyTree:
    if isinstance(states, Result):
        states = [states.select(rank, seed).state for rank, seed in kept_agents(states, top)]
        if not states or states[0] is None:
            raise ValueError("the result has no states: search with keep=..., or load it with agent, env and hparams")
    if not isinstance(states, Sequence) or hasattr(states, "_fields"):
        return states
    shapes = {(jax.tree.structure(s), tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(s))) for s in states}
    if len(shapes) > 1:
        raise ValueError("the agents' states differ in shape: pass those of one group of static choices at a time")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@functools.lru_cache(maxsize=16)
def _play(agent: Agent, env: Env, num_episodes: int, max_steps: int) -> Any:
    def one(key: jax.Array, state: PyTree, env_params: PyTree) -> jax.Array:
        return loops.evaluate(
            key, agent, env, state, num_episodes=num_episodes, max_steps=max_steps, env_params=env_params
        ).episode_return

    return jax.jit(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)))
