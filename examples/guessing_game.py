"""A guessing game in dialogue: PPO over several turns learns to ask, which PPO on single answers cannot.

The user thinks of a number from 0 to 14 and answers each guess by "higher" or "lower". The return is 1 if the last
guess is right: at best 1/15 with one guess, 4/15 with four guesses without the answers, and 1 by bisection.
"""

import jax
import jax.numpy as jnp

import purerl
from purerl import rlhf

NUMBERS, TURNS = 15, 4
HIGHER, LOWER, START, PAD, VOCAB = range(NUMBERS, NUMBERS + 5)
network = rlhf.transformer(VOCAB, width=32, depth=2)
rollout = rlhf.token_rollout(network, eos_id=-1, pad_id=PAD)
hparams = rlhf.RLHFHparams(learning_rate=3e-3, beta=0.02, anneal_updates=300, gae_lambda=1.0)


def last_guess(tokens, own):
    return tokens[jnp.max(jnp.where(own, jnp.arange(own.shape[0]), 0))]


def user(key, tokens, own, number):
    """One word; padding alone ends the conversation."""
    guess = last_guess(tokens, own)
    return jnp.where(guess == number, PAD, jnp.where(number > guess, HIGHER, LOWER))[None]


def reward(tokens, own, number):
    return (last_guess(tokens, own) == number).astype(jnp.float32)


def game(num_turns):
    """One token per turn, with the number hidden from the model."""
    talk = rlhf.Conversation(user, num_turns, reply_length=1)
    prompts = jnp.full((NUMBERS, 1), START)
    return rlhf.token_env(prompts, reward, 1, -1, PAD, vocab_size=VOCAB, conversation=talk, hidden=jnp.arange(NUMBERS))


def train(num_turns):
    """A policy trained on games of so many turns, and its agent."""
    agent = rlhf.ppo(network, num_epochs=2, num_minibatches=4)
    return agent, purerl.train(
        jax.random.key(0), agent, game(num_turns), hparams, num_updates=300, num_envs=512,
        rollout_length=2 * num_turns - 1, rollout=rollout,
    )[0]  # fmt: skip


def mean_return(agent, state):
    """Mean return of the greedy policy over 1,000 games of four turns."""
    played = purerl.evaluate(jax.random.key(1), agent, game(TURNS), state, num_episodes=1_000, max_steps=TURNS)
    return float(played.episode_return.mean())


for num_turns in (1, TURNS):
    agent, state = train(num_turns)
    print(f"trained on {num_turns} turns: mean return {mean_return(agent, state):.3f}")
