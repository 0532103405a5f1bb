"""Environments between two rollouts: where they stand, how they begin an episode, and one step of all of them."""

from __future__ import annotations

import functools
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from purerl import prng
from purerl.distributed import mesh
from purerl.envs.checking import check
from purerl.hparams import cast, check_positive
from purerl.loops import checking
from purerl.prng import check_key
from purerl.spaces import check_action
from purerl.types import Agent, Env, EnvStep, Key, PyTree, State, Transition

Actor: TypeAlias = tuple[PyTree, PyTree, PyTree]
"""Where environments stand: observations, states and the agent's memories."""


class Finished(NamedTuple):
    """Sums over the episodes that ended in one rollout, per environment: [N]."""

    return_sum: jax.Array
    length_sum: jax.Array
    num_episodes: jax.Array


class Actors(NamedTuple):
    """The state of N environments between two rollouts; every leaf except those of the two `info` leads with [N].

    Attributes:
      env_state: states of the environments.
      obs: their last observations.
      memory: the agent's memory in each; `()` for agents without memory.
      episode_return: float32, rewards of the running episode so far.
      episode_length: int32, its steps so far.
      finished: the episodes that ended within the last rollout.
      info: means over the last rollout of the scalars in the environment's info, a dict.
      info_at_end: means of the same scalars over the last steps of the episodes that ended in it, NaN if none did.
    """

    env_state: PyTree
    obs: PyTree
    memory: PyTree
    episode_return: jax.Array
    episode_length: jax.Array
    finished: Finished
    info: PyTree
    info_at_end: PyTree = {}


def init_actors(key: Key, agent: Agent, env: Env, state: State, *, num_envs: int, env_params: PyTree = None) -> Actors:
    """N environments at the start of an episode.

    Args:
      key: typed key.
      agent, env: the agent and the environment.
      state: the agent's state, from which its memory starts.
      num_envs: number of environments, N.
      env_params: parameters of the environment; None takes its own.

    Returns:
      The actors, with no finished episodes.

    Raises:
      TypeError: the agent's `act` returns something else than it should, or an action that does not fit the
        environment's action space.
      TypeError, ValueError: the environment returns something that the loops cannot use; see `envs.check`.
    """
    check_key(key)
    check_positive(num_envs=num_envs)
    env_params = cast(env_params)
    env = check(env, env_params)
    obs, env_state, memory = begin_episodes(key, agent, env, state, num_envs, env_params)
    step = jax.eval_shape(
        functools.partial(_one_step, agent, env),
        env_params,
        prng.split(jax.random.clone(key)),  # only for its shape: its key may come again
        state,
        first((obs, env_state, memory)),
    )
    info = {name: jnp.float32(0) for name in (step[3].info or {})}
    return split_actors(Actors(env_state, obs, memory, *no_episodes(num_envs), info, info))


def begin_episodes(key: Key, agent: Agent, env: Env, state: State, num_envs: int, env_params: PyTree) -> Actor:
    """Observations, environment states and memories of N fresh episodes."""
    reset_key, memory_key = prng.split(key)
    keys = prng.unrolled(prng.split(reset_key, num_envs))
    obs, env_state = prng.standard(jax.vmap(env.reset, (0, None))(keys, env_params))
    if agent.memory is None:
        return obs, env_state, ()
    return obs, env_state, jax.vmap(agent.memory, (0, None))(prng.split(memory_key, num_envs), state)


def split_actors(actors: Actors) -> Actors:
    """The actors split over devices by environment, if a mesh is set."""
    return mesh.split(actors._replace(info=(), info_at_end=()))._replace(
        info=actors.info, info_at_end=actors.info_at_end
    )


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _one_step(
    agent: Agent, env: Env, env_params: PyTree, keys: Key, state: State, actor: Actor
) -> tuple[PyTree, PyTree, PyTree, EnvStep]:
    """(action, aux, memory, EnvStep) of one step in one environment; keys: [2], for the agent and the environment."""
    obs, env_state, memory = actor
    # An environment that keeps keys may choose between them and this one, so they have to be of one kind.
    keeps_keys = any(map(prng.is_key, jax.tree.leaves(env_state)))
    act_key, env_key = prng.unrolled(keys[0]), keys[1] if keeps_keys else prng.unrolled(keys[1])
    action, aux, memory = checking.act(agent, act_key, state, obs, memory)
    check_action(action, env.action_space)
    return action, aux, memory, prng.standard(env.step(env_key, env_state, action, env_params))


def step_all(
    keys: Key, agent: Agent, env: Env, state: State, actors: Actors, env_params: PyTree
) -> tuple[Transition, EnvStep, Actors]:
    """One step in every environment, without resets: the actors stay in the episode that may have ended."""
    step = jax.vmap(functools.partial(_one_step, agent, env), (None, 0, None, 0))
    action, aux, memory, new = step(env_params, keys, state, (actors.obs, actors.env_state, actors.memory))
    transition = Transition(actors.obs, action, new.reward, new.terminated, new.truncated, new.obs, aux)
    actors = actors._replace(
        env_state=new.env_state,
        obs=new.obs,
        memory=memory,
        episode_return=actors.episode_return + new.reward,
        episode_length=actors.episode_length + 1,
    )
    return transition, new, actors


def no_episodes(num_envs: int) -> tuple[jax.Array, jax.Array, Finished]:
    """Running return, running length and finished episodes at the very start."""
    zeros, counts = jnp.zeros(num_envs, jnp.float32), jnp.zeros(num_envs, jnp.int32)
    return zeros, counts, Finished(zeros, counts, counts)


def count_episodes(
    finished: Finished, ended: jax.Array, episode_return: jax.Array, episode_length: jax.Array
) -> Finished:
    """Add the episodes that ended in this step, [N] bool, with their returns and lengths."""
    return Finished(
        finished.return_sum + jnp.where(ended, episode_return, 0),
        finished.length_sum + jnp.where(ended, episode_length, 0),
        finished.num_episodes + ended,
    )


def first(tree: PyTree) -> PyTree:
    """The first environment's part of a tree, [N, ...] -> [...]."""
    return jax.tree.map(lambda x: x[0], tree)
