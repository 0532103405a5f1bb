"""Swing a pendulum up from 700 answers to "which of these two is better?", one in ten of them at random."""

import jax

import purerl
from purerl.combinators import with_observation_normalization, with_reward_scaling
from purerl.rlhf import control

env = purerl.envs.make("Pendulum-v1")
agent = purerl.ppo(purerl.networks.actor_critic(env), num_epochs=10, num_minibatches=16)
agent = with_reward_scaling(with_observation_normalization(agent))

sizes = control.ControlSizes(num_rounds=7, first_labels=100, labels_per_round=100, error_rate=0.1)
hparams = purerl.PPOHparams(learning_rate=1e-3, discount=0.95, entropy_coef=0.0, anneal_updates=sizes.num_updates)


def say(ended):
    print(f"{ended.num_labels} answers: true reward {ended.true_reward:.2f} a step", flush=True)


result = control.learn_from_preferences(jax.random.key(0), agent, env, hparams, sizes, say)
returns = purerl.evaluate(jax.random.key(1), agent, env, result.state, num_episodes=64, max_steps=200).episode_return
print(f"return {returns.mean():.0f}; learned and true reward correlate by {result.rounds.correlation[-1]:.2f}")
