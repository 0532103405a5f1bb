"""The pendulum swung up from answers to "which of these two segments is better?" alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import envs, loops, networks
from purerl.agents.ppo import PPOHparams, ppo
from purerl.combinators import with_observation_normalization, with_reward_scaling
from purerl.rlhf import control
from purerl.types import Agent, Env


class Task(NamedTuple):
    """The environment and the agent that learns on it; build one and keep it."""

    env: Env
    agent: Agent


class SwingUp(NamedTuple):
    """Mean true return of the greedy policy over 64 episodes of 200 steps, and how it came to be."""

    greedy_return: jax.Array
    result: control.ControlResult


def task() -> Task:
    """Pendulum-v1, and PPO with normalised observations and scaled rewards."""
    env = envs.make("Pendulum-v1")
    agent = ppo(networks.actor_critic(env), num_epochs=10, num_minibatches=16)
    return Task(env, with_reward_scaling(with_observation_normalization(agent)))


def hparams(sizes: control.ControlSizes) -> PPOHparams:
    """PPO's, with a learning rate that falls to 0 over all rounds."""
    return PPOHparams(learning_rate=1e-3, discount=0.95, entropy_coef=0.0, anneal_updates=sizes.num_updates)


def run(
    key: jax.Array,
    task: Task,
    sizes: control.ControlSizes | None = None,
    say: Callable[[control.Round], Any] = lambda _: None,
) -> SwingUp:
    """Learn from answers, then look at the true return.

    Args:
      key: typed key.
      task: from `task()`.
      sizes: how much of everything; None takes the defaults, 700 answers.
      say: told of every round as it ends.
    """
    sizes = sizes or control.ControlSizes()
    result = control.learn_from_preferences(key, task.agent, task.env, hparams(sizes), sizes, say)
    play = jax.random.fold_in(key, sizes.num_rounds + 1)
    found = loops.evaluate(play, task.agent, task.env, result.state, num_episodes=64, max_steps=200)
    return SwingUp(jnp.mean(found.episode_return), result)
