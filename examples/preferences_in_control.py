"""Swing a pendulum up from 700 answers to "which of these two is better?", one in ten of them at random."""

import jax

import purerl
from purerl.combinators import with_observation_normalization, with_reward_scaling
from purerl.rlhf import control

env = purerl.envs.make("Pendulum-v1")
agent = purerl.ppo(purerl.networks.actor_critic(env), num_epochs=10, num_minibatches=16)
agent = with_reward_scaling(with_observation_normalization(agent))
hparams = purerl.PPOHparams(learning_rate=1e-3, discount=0.9, entropy_coef=0.0, anneal_updates=420)
result = control.learn_from_preferences(jax.random.key(0), agent, env, hparams)
returns = purerl.evaluate(jax.random.key(1), agent, env, result.state, num_episodes=64, max_steps=200).episode_return
print(f"return {returns.mean():.0f}; learned and true reward correlate by {result.correlation:.2f}")
