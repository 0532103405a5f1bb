"""Learning from preferences in control: the agent never sees a reward, only which of two segments is preferred.

    roll out the policy -> ask about pairs of segments -> fit an ensemble of reward models -> RL on their mean

Source: Christiano et al. 2017, section 2.2. The labeller is simulated: it prefers the segment with the higher true
return, and answers at random with a given probability.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import loops
from purerl.agents.common.optimization import AdamHparams
from purerl.combinators.minibatches import with_minibatches
from purerl.hparams import cast, check_positive
from purerl.preferences.reward_ensemble import (
    Comparisons,
    LearnedReward,
    ensemble_agent,
    features,
    fit_reward,
    learned_reward,
    with_learned_reward,
)
from purerl.spaces import Space
from purerl.types import Agent, Env, Hparams, Key, State, Transition


class Segments(NamedTuple):
    """Pieces of trajectories: features [..., L, D] of (observation, action), and the true reward [..., L]."""

    features: jax.Array
    reward: jax.Array


def segments(key: Key, steps: Segments, rows: int, length: int) -> Segments:
    """`rows` segments of `length` steps, drawn uniformly from a trajectory [T, N].

    A segment may cross the end of an episode; its return is then the sum over both pieces.

    Raises:
      ValueError: the segments are longer than the trajectory.
    """
    num_steps, num_envs = steps.reward.shape
    if length > num_steps:
        raise ValueError(f"length = {length} exceeds the {num_steps} steps of the trajectory")
    time_key, env_key = jax.random.split(key)
    start = jax.random.randint(time_key, (rows, 1), 0, num_steps - length + 1) + jnp.arange(length)
    column = jax.random.randint(env_key, (rows, 1), 0, num_envs)
    return jax.tree.map(lambda x: x[start, column], steps)


def ask(key: Key, first: Segments, second: Segments, error_rate: float) -> Comparisons:
    """A simulated labeller prefers the higher true return, and answers at random with probability `error_rate`.

    Between equal returns it is indifferent: the label is 1/2.
    """
    wrong_key, coin_key = jax.random.split(key)
    returns = jnp.sum(first.reward, axis=-1), jnp.sum(second.reward, axis=-1)
    better = jnp.where(returns[0] == returns[1], 0.5, returns[0] > returns[1])
    random = jax.random.bernoulli(wrong_key, error_rate, better.shape)
    answer = jnp.where(random, jax.random.bernoulli(coin_key, 0.5, better.shape), better)
    return Comparisons(first.features, second.features, answer.astype(jnp.float32), jnp.arange(len(answer)))


class ControlSizes(NamedTuple):
    """Sizes of `learn_from_preferences`; the last round, on the final reward, takes `last_updates`.

    A `reward_learning_rate` of 0 leaves the reward models at their initialisation.
    """

    num_rounds: int = 7
    first_labels: int = 100
    labels_per_round: int = 100
    segment_length: int = 10
    error_rate: float = 0.1
    num_members: int = 3
    reward_updates: int = 200
    reward_learning_rate: float = 3e-3
    batch_size: int = 64
    rl_updates: int = 60
    last_updates: int = 60
    num_envs: int = 16
    rollout_length: int = 128

    @property
    def num_labels(self) -> int:
        """Total number of labels."""
        return self.first_labels + (self.num_rounds - 1) * self.labels_per_round

    @property
    def num_updates(self) -> int:
        """Total number of updates of the policy."""
        return (self.num_rounds - 1) * self.rl_updates + self.last_updates


class Round(NamedTuple):
    """Result of a round, measured on steps of the new policy, which samples its actions.

    Attributes:
      num_labels: labels given so far.
      true_reward: mean per step.
      correlation: of learned and true reward.
    """

    num_labels: jax.Array
    true_reward: jax.Array
    correlation: jax.Array


class ControlResult(NamedTuple):
    """The policy's state, the learned reward, the rounds [num_rounds], and the last policy's steps [T, N]."""

    state: State
    reward: LearnedReward
    rounds: Round
    steps: Segments


def learn_from_preferences(
    key: Key,
    agent: Agent,
    env: Env,
    hparams: Hparams,
    sizes: ControlSizes | None = None,
    say: Callable[[Round], None] = lambda _: None,
) -> ControlResult:
    """Rounds of rollouts, labels, fitting and reinforcement learning; labels of all rounds are kept.

    Args:
      key: typed key.
      agent: any agent for `train` on `env`; its reward is the learned one, standardised.
      env: the environment, whose own reward only the labeller sees.
      hparams: the agent's; it learns for `sizes.num_updates` updates in total.
      sizes: None takes the defaults.
      say: called with the result of each round.

    Raises:
      ValueError: a size is not positive, or segments are longer than the 2 · `rollout_length` steps of a round.
    """
    sizes = sizes or ControlSizes()
    check_positive(
        num_rounds=sizes.num_rounds, first_labels=sizes.first_labels, labels_per_round=sizes.labels_per_round
    )
    if sizes.segment_length > 2 * sizes.rollout_length:
        raise ValueError(
            f"segment_length = {sizes.segment_length} exceeds 2 * rollout_length = {2 * sizes.rollout_length}, "
            "the steps that segments are drawn from"
        )
    blind = with_learned_reward(env)
    fitter = with_minibatches(ensemble_agent(sizes.num_members, sizes.error_rate), sizes.batch_size)
    fit_hparams = AdamHparams(sizes.reward_learning_rate, anneal_updates=sizes.reward_updates)
    watch = jax.jit(lambda key, state: _watch(key, agent, env, state, sizes))
    init_key, reset_key = jax.random.split(jax.random.fold_in(key, sizes.num_rounds + 2))
    example, _ = env.reset(reset_key)
    state = agent.init(init_key, cast(hparams), example, sizes.num_envs)
    steps = watch(jax.random.fold_in(key, sizes.num_rounds), state)
    asked: Comparisons | None = None
    rounds = []
    for number in range(sizes.num_rounds):
        watch_key, ask_key, fit_key, train_key = jax.random.split(jax.random.fold_in(key, number), 4)
        asked = _ask(ask_key, steps, asked, sizes)
        answers = _repeated(asked, sizes.num_labels)
        reward = fit_reward(fit_key, fitter, answers, fit_hparams, sizes.reward_updates, _rows(steps))
        state, _ = loops.train(
            train_key, agent, blind, hparams, num_envs=sizes.num_envs, rollout_length=sizes.rollout_length,
            num_updates=sizes.last_updates if number == sizes.num_rounds - 1 else sizes.rl_updates,
            env_params=reward, state=state,
        )  # fmt: skip
        steps = watch(watch_key, state)
        rounds.append(_round(len(asked.row), reward, steps))
        say(rounds[-1])
    return ControlResult(state, reward, jax.tree.map(lambda *x: jnp.stack(x), *rounds), steps)


def _watch(key: Key, agent: Agent, env: Env, state: State, sizes: ControlSizes) -> Segments:
    """Steps [T, N] of the policy with their true reward, for the labeller."""
    begin_key, rollout_key = jax.random.split(key)
    actors = loops.init_actors(begin_key, agent, env, state, num_envs=sizes.num_envs)
    trajectory = loops.rollout(rollout_key, agent, env, state, actors, length=2 * sizes.rollout_length)[1]
    return steps_of(trajectory, env.action_space)


def steps_of(trajectory: Transition, action_space: Space) -> Segments:
    """A trajectory [T, N] as features and true rewards."""
    each = jax.vmap(jax.vmap(lambda obs, action: features(obs, action, action_space)))
    return Segments(each(trajectory.obs, trajectory.action), trajectory.reward)


def _rows(steps: Segments) -> jax.Array:
    """Features [T N, D] of every step."""
    return steps.features.reshape(-1, steps.features.shape[-1])


def _round(num_labels: int, reward: LearnedReward, steps: Segments) -> Round:
    """The result of a round on given steps."""
    correlation = jnp.corrcoef(learned_reward(reward, _rows(steps)), steps.reward.reshape(-1))[0, 1]
    return Round(jnp.int32(num_labels), jnp.mean(steps.reward), correlation)


def _ask(key: Key, steps: Segments, asked: Comparisons | None, sizes: ControlSizes) -> Comparisons:
    """All answers so far: those given before, and a round's more about segments of the steps."""
    first_key, second_key, answer_key = jax.random.split(key, 3)
    rows = sizes.first_labels if asked is None else sizes.labels_per_round
    first, second = (segments(k, steps, rows, sizes.segment_length) for k in (first_key, second_key))
    new = ask(answer_key, first, second, sizes.error_rate)
    if asked is None:
        return new
    new = new._replace(row=len(asked.row) + new.row)
    return jax.tree.map(lambda old, x: jnp.concatenate([old, x]), asked, new)


def _repeated(asked: Comparisons, total: int) -> Comparisons:
    """The labels, repeated up to `total` rows: data of one shape in every round, so that fitting compiles once."""
    return jax.tree.map(lambda x: x[jnp.arange(total) % len(x)], asked)
