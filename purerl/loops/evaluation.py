"""`evaluate`: whole episodes from fresh resets, without learning."""

from __future__ import annotations

import functools
import warnings
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from purerl import branches, prng
from purerl.envs.checking import check
from purerl.hparams import cast, check_positive
from purerl.loops import checking
from purerl.prng import check_key
from purerl.spaces import check_action
from purerl.types import Agent, Env, Key, PyTree, State

Episode: TypeAlias = tuple[Key, PyTree, PyTree, PyTree, jax.Array, jax.Array, jax.Array]
"""Key, observation, environment state, memory, whether it still runs, return and length of one episode."""


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths (in steps) of evaluation episodes, each [num_episodes]."""

    episode_return: jax.Array
    episode_length: jax.Array


def evaluate(
    key: Key,
    agent: Agent,
    env: Env,
    state: State,
    *,
    num_episodes: int,
    max_steps: int | None = None,
    greedy: bool = True,
    env_params: PyTree = None,
) -> Evaluation:
    """Play whole episodes from fresh resets, without learning.

    An episode that has not finished within `max_steps` is cut there, with its return and length so far. Episode i uses
    `split(key)[i]`, so the same key compares agents on the same episodes.

    Args:
      key: typed key.
      agent, env: the agent and the environment.
      state: the agent's state, left unchanged.
      num_episodes: number of episodes, played side by side.
      max_steps: longest episode, in steps; None for the limit of the environment's own parameters, `env.max_steps`.
      greedy: take the greedy action (`act` without a key); otherwise sample.
      env_params: parameters of the environment; None takes its own.

    Returns:
      `Evaluation(episode_return, episode_length)`, each [num_episodes].

    Raises:
      TypeError: the agent's `act` returns something else than it should, or needs a key for the greedy action.
      ValueError: `max_steps` is None, but the environment has no limit, or `env_params` may have another one.
    """
    check_key(key)
    checking.check_agent(agent)
    max_steps = _limit(env, env_params) if max_steps is None else max_steps
    check_positive(num_episodes=num_episodes, max_steps=max_steps)
    env_params = cast(env_params)
    env = check(env, env_params)
    with branches.for_this_process():
        return _evaluate(key, agent, env, state, num_episodes, max_steps, greedy, env_params)


def longest_episode(env: Env, env_params: PyTree = None, default: int = 1000) -> int:
    """Length at which an episode is cut if nobody says: the environment's own limit, if it has one and keeps it."""
    limit = getattr(env, "max_steps", None)
    return default if limit is None or env_params is not None else limit


def cut_episodes_at(env: Env, env_params: PyTree = None) -> int:
    """`longest_episode`, with a warning if episodes may be cut there that nobody said to cut.

    Warns:
      UserWarning: the environment has no time limit, or `env_params` may have one that is longer than 1,000 steps.
    """
    limit, longest = getattr(env, "max_steps", None), longest_episode(env, env_params)
    if limit is None or limit > longest:
        why = "the environment has no time limit" if limit is None else "env_params may have another time limit"
        warnings.warn(
            f"{why}, so evaluation episodes are cut after {longest:,} steps, and an episode that never ends leaves its "
            "learning curve empty: pass eval_max_steps, and wrap an endless environment in envs.time_limit",
            stacklevel=3,
        )
    return longest


def _limit(env: Env, env_params: PyTree) -> int:
    limit = getattr(env, "max_steps", None)
    if limit is not None and env_params is None:
        return limit
    why = "the environment has no time limit" if limit is None else "env_params may have another time limit"
    raise ValueError(f"evaluate needs max_steps, because {why}")


@functools.partial(jax.jit, static_argnums=(1, 2, 4, 5, 6))
def _evaluate(
    key: Key,
    agent: Agent,
    env: Env,
    state: State,
    num_episodes: int,
    max_steps: int,
    greedy: bool,
    env_params: PyTree,
) -> Evaluation:
    def begin(key: Key) -> Episode:
        reset_key, memory_key, step_key = prng.split(key, 3)
        obs, env_state = prng.standard(env.reset(prng.unrolled(reset_key), env_params))
        memory = agent.memory(None if greedy else memory_key, state) if agent.memory else ()
        return step_key, obs, env_state, memory, jnp.bool_(True), jnp.float32(0), jnp.int32(0)

    def step(carry: Episode, t: jax.Array) -> Episode:
        key, obs, env_state, memory, alive, total, length = carry
        act_key, env_key = prng.split(prng.fold_in(key, t))
        act_key = None if greedy else prng.unrolled(act_key)
        action, _, memory = checking.act(agent, act_key, state, obs, memory)
        check_action(action, env.action_space)
        new = env.step(env_key, env_state, action, env_params)
        total += jnp.where(alive, new.reward, 0)
        length += alive
        alive &= ~(new.terminated | new.truncated)
        return key, new.obs, new.env_state, memory, alive, total, length

    def body(carry: tuple[jax.Array, Episode]) -> tuple[jax.Array, Episode]:
        t, episodes = carry
        return t + 1, jax.vmap(step, (0, None))(episodes, t)

    def unfinished(carry: tuple[jax.Array, Episode]) -> jax.Array:
        t, episodes = carry
        return (t < max_steps) & episodes[4].any()

    episodes = jax.vmap(begin)(prng.split(key, num_episodes))  # leaves [num_episodes, ...]
    _, (_, _, _, _, _, total, length) = jax.lax.while_loop(unfinished, body, (jnp.int32(0), episodes))
    return Evaluation(total, length)
