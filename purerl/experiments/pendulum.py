"""Pendulum swing-up from answers to "which of these two segments is better?" alone.

PPO acts while labels are collected, because its many environments soon show good and bad behaviour. Soft actor-critic
is then trained from scratch on the final learned reward: where that reward is flat, as it is for a hanging pendulum,
PPO's shrinking noise does not escape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import envs, loops, networks
from purerl.agents.ppo import PPOHparams, ppo
from purerl.agents.sac import SACHparams, sac
from purerl.combinators import with_observation_normalization, with_replay, with_reward_scaling
from purerl.preferences import control
from purerl.preferences.reward_ensemble import LearnedReward, with_learned_reward
from purerl.types import Agent, Env, Key, State

SIZES = control.ControlSizes(last_updates=1)
SAC = SACHparams(actor_learning_rate=1e-3, temperature_learning_rate=3e-3, discount=0.98)


class Task(NamedTuple):
    """The environment, its copy with the learned reward, and the two agents; build one and keep it.

    Attributes:
      env, blind: the environment, and `with_learned_reward(env)`.
      explorer: PPO, whose segments are labelled.
      learner: soft actor-critic, which learns on the final reward.
    """

    env: Env
    blind: Env
    explorer: Agent
    learner: Agent


class SwingUp(NamedTuple):
    """Mean true return of the greedy policy over 64 episodes of 200 steps, with the states that led to it.

    Attributes:
      greedy_return: of `state`.
      explorer_return: of the explorer, after its last round.
      state: of the learner.
      result: labels, rounds and the learned reward.
    """

    greedy_return: jax.Array
    explorer_return: jax.Array
    state: State
    result: control.ControlResult


def task() -> Task:
    """Pendulum-v1; PPO with normalised observations and scaled rewards; SAC with a replay of 20,000 steps."""
    env = envs.make("Pendulum-v1")
    explorer = ppo(networks.actor_critic(env), num_epochs=10, num_minibatches=16)
    learner = sac(networks.gaussian_actor(env, hidden=(64, 64)), networks.critic(env, hidden=(64, 64)))
    return Task(
        env,
        with_learned_reward(env),
        with_reward_scaling(with_observation_normalization(explorer)),
        with_replay(learner, capacity=20_000, batch_size=64, min_size=500),
    )


def hparams(sizes: control.ControlSizes) -> PPOHparams:
    """PPO's hyperparameters, with a learning rate that falls to 0 over all rounds."""
    return PPOHparams(learning_rate=1e-3, discount=0.95, entropy_coef=0.0, anneal_updates=sizes.num_updates)


def run(
    key: Key,
    task: Task,
    sizes: control.ControlSizes = SIZES,
    say: Callable[[control.Round], None] = lambda _: None,
    num_updates: int = 10_000,
) -> SwingUp:
    """Learn from labels, then measure the true return.

    Args:
      key: typed key.
      task: from `task()`.
      sizes: of the phase that learns the reward; the default asks for 700 labels.
      say: called with the result of each round.
      num_updates: of the learner, on the final reward; one per step of two environments.
    """
    result = control.learn_from_preferences(key, task.explorer, task.env, hparams(sizes), sizes, say)
    train_key, play_key = jax.random.split(jax.random.fold_in(key, sizes.num_rounds + 1))
    state = _learn(train_key, task, result.reward, num_updates)
    # Both are evaluated on the same episodes.
    learned = _true_return(play_key, task.learner, task.env, state)
    watched = _true_return(jax.random.clone(play_key), task.explorer, task.env, result.state)
    return SwingUp(learned, watched, state, result)


def _learn(key: Key, task: Task, reward: LearnedReward, num_updates: int) -> State:
    """Soft actor-critic on a learned reward, from scratch."""
    return loops.train(
        key, task.learner, task.blind, SAC, num_updates=num_updates, num_envs=2, rollout_length=1, env_params=reward
    )[0]


def _true_return(key: Key, agent: Agent, env: Env, state: State) -> jax.Array:
    return jnp.mean(loops.evaluate(key, agent, env, state, num_episodes=64, max_steps=200).episode_return)
