"""Learning from preferences in control: no reward is ever shown to the agent, only which of two segments is better.

    watch the present policy -> ask about pairs of segments -> fit an ensemble of reward models -> RL on their mean

Source: Christiano et al. 2017, section 2.2. The labeller here is simulated: it prefers the segment with the higher true
return, and answers at random now and then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import loops, losses
from purerl.rlhf.descent import LearnerHparams, adam, descend
from purerl.types import Agent, Env, EnvStep, Metrics, TrainState, cast, check_positive

Params = Any


class Segments(NamedTuple):
    """Pieces of trajectories: features [..., L, D] of (observation, action), and the true reward [..., L]."""

    features: jax.Array
    reward: jax.Array


class Comparisons(NamedTuple):
    """Labelled pairs of segments: features [B, L, D] of each, and the label: 1 where the first is preferred."""

    first: jax.Array
    second: jax.Array
    preference: jax.Array


class LearnedReward(NamedTuple):
    """An ensemble of reward models, leaves [E, ...], and mean and deviation of each one's reward on data, [E]."""

    members: Params
    mean: jax.Array
    scale: jax.Array


def features(obs: Any, action: Any) -> jax.Array:
    """One vector [D] from an observation and an action."""
    leaves = [jnp.asarray(x, jnp.float32).reshape(-1) for x in jax.tree.leaves((obs, action))]
    return jnp.concatenate(leaves)


def init_member(key: jax.Array, size: int, hidden: tuple[int, ...] = (64, 64)) -> Params:
    """Weights of one reward model: an MLP from [D] to a scalar."""
    sizes = (size, *hidden, 1)
    keys = jax.random.split(key, len(sizes) - 1)
    weights = [jax.random.normal(k, (a, b)) * (2 / a) ** 0.5 for k, a, b in zip(keys, sizes, sizes[1:])]
    return [(weight, jnp.zeros(weight.shape[1])) for weight in weights]


def apply_member(params: Params, x: jax.Array) -> jax.Array:
    """Rewards [...] of features [..., D]."""
    for weight, bias in params[:-1]:
        x = jax.nn.silu(x @ weight + bias)
    weight, bias = params[-1]
    return (x @ weight + bias)[..., 0]


def learned_reward(reward: LearnedReward, x: jax.Array) -> jax.Array:
    """Mean over the ensemble of each member's standardised reward of features [..., D]."""
    each = jax.vmap(apply_member, (0, None))(reward.members, x)
    shape = (-1,) + (1,) * (each.ndim - 1)
    return jnp.mean((each - reward.mean.reshape(shape)) / reward.scale.reshape(shape), axis=0)


class WatchedState(NamedTuple):
    """The environment's state and the observation that it was left with."""

    inner: Any
    obs: Any


def with_learned_reward(env: Env) -> Env:
    """The same environment, paid by `env_params`, a `LearnedReward`. Nothing of the true reward leaves it."""

    def reset(key: jax.Array, env_params: LearnedReward | None = None) -> tuple[Any, WatchedState]:
        obs, state = env.reset(key)
        return obs, WatchedState(state, obs)

    def step(key: jax.Array, env_state: WatchedState, action: Any, env_params: LearnedReward | None = None) -> EnvStep:
        if env_params is None:
            raise ValueError("with_learned_reward: pass env_params=, the LearnedReward to be paid by")
        new = env.step(key, env_state.inner, action)
        paid = learned_reward(env_params, features(env_state.obs, action))
        return new._replace(env_state=WatchedState(new.env_state, new.obs), reward=paid, info=())

    return Env(reset, step, env.observation_space, env.action_space)


def segments(key: jax.Array, trajectory: Any, rows: int, length: int) -> Segments:
    """`rows` segments of `length` steps cut at random from a trajectory [T, N].

    One may reach over an episode's end: it is then two pieces, whose rewards add up all the same.
    """
    num_steps, num_envs = trajectory.reward.shape
    time_key, env_key = jax.random.split(key)
    start = jax.random.randint(time_key, (rows, 1), 0, num_steps - length + 1) + jnp.arange(length)
    column = jax.random.randint(env_key, (rows, 1), 0, num_envs)
    cut = jax.tree.map(lambda x: x[start, column], (trajectory.obs, trajectory.action, trajectory.reward))
    return Segments(jax.vmap(jax.vmap(features))(cut[0], cut[1]), cut[2])


def ask(key: jax.Array, first: Segments, second: Segments, error_rate: float) -> Comparisons:
    """A simulated labeller: the segment of higher true return, or with probability `error_rate` a random answer."""
    wrong_key, coin_key = jax.random.split(key)
    better = jnp.sum(first.reward, axis=-1) > jnp.sum(second.reward, axis=-1)
    random = jax.random.bernoulli(wrong_key, error_rate, better.shape)
    answer = jnp.where(random, jax.random.bernoulli(coin_key, 0.5, better.shape), better)
    return Comparisons(first.features, second.features, answer.astype(jnp.float32))


def ensemble_agent(num_members: int, error_rate: float, weight_decay: float = 1e-4) -> Agent:
    """An agent for `fit` on `Comparisons`: an ensemble, every member of which fits its own weighting of the rows.

    Member e descends on Σ w_ei segment_preference_i / Σ w_ei + weight_decay · |weights|², with w_ei exponential (the
    Bayesian bootstrap), drawn once. Rows whose preference is negative are empty and do not count.

    Args:
      num_members: E.
      error_rate: how often the labeller is thought to answer at random.
      weight_decay: see above.

    Returns:
      An agent whose state's `params` lead with [E]; it cannot act.
    """
    bootstrap_key = jax.random.key(num_members)

    def init(key: jax.Array, hparams: Any, example: Comparisons, num_envs: int = 1) -> TrainState:
        size = example.first.shape[-1]
        params = jax.vmap(lambda k: init_member(k, size))(jax.random.split(key, num_members))
        return TrainState(params, adam(hparams).init(params), hparams, jnp.int32(0))

    def loss(params: Params, weight: jax.Array, data: Comparisons) -> jax.Array:
        rewards = apply_member(params, data.first), apply_member(params, data.second)
        each = losses.segment_preference(*rewards, data.preference, error_rate=error_rate)
        decay = sum(jnp.sum(jnp.square(w)) for w, _ in params)
        return jnp.sum(weight * each) / jnp.maximum(jnp.sum(weight), 1e-8) + weight_decay * decay

    def update(key: jax.Array, state: TrainState, data: Comparisons) -> tuple[TrainState, Metrics]:
        weights = jax.random.exponential(bootstrap_key, (num_members, data.preference.shape[0]))
        weights = jnp.where(data.preference < 0, 0.0, weights)
        values, grads = jax.vmap(jax.value_and_grad(loss), (0, 0, None))(state.params, weights, data)
        new = descend(state, grads, adam)._replace(num_updates=state.num_updates + 1)
        return new, {"loss/total": jnp.mean(values)}

    def act(key: jax.Array | None, state: TrainState, obs: Any) -> tuple[Any, Any]:
        raise TypeError("an ensemble of reward models does not act")

    return Agent(init, act, update)


def standardized(members: Params, x: jax.Array) -> LearnedReward:
    """Members with the mean and deviation of their rewards over features [B, D]."""
    each = jax.vmap(apply_member, (0, None))(members, x)
    return LearnedReward(members, jnp.mean(each, axis=1), jnp.std(each, axis=1) + 1e-6)


class ControlSizes(NamedTuple):
    """How much of everything; labels in all are num_rounds · labels_per_round."""

    num_rounds: int = 7
    labels_per_round: int = 100
    segment_length: int = 25
    error_rate: float = 0.1
    num_members: int = 3
    reward_updates: int = 300
    rl_updates: int = 60
    num_envs: int = 16
    rollout_length: int = 128


class ControlResult(NamedTuple):
    """The policy's state, the reward that was learned, and its correlation with the true one on the policy's steps."""

    state: Any
    reward: LearnedReward
    correlation: jax.Array


def learn_from_preferences(
    key: jax.Array, agent: Agent, env: Env, hparams: Any, sizes: ControlSizes | None = None
) -> ControlResult:
    """Rounds of watching, asking, fitting and reinforcement learning; every round's answers are kept.

    Args:
      key: typed key.
      agent: any agent for `train` on `env`; its reward is the learned one, standardised.
      env: the environment, whose own reward only the labeller sees.
      hparams: the agent's.
      sizes: how much of everything; None takes the defaults.
    """
    sizes = sizes or ControlSizes()
    check_positive(num_rounds=sizes.num_rounds, labels_per_round=sizes.labels_per_round)
    blind, fitter = with_learned_reward(env), ensemble_agent(sizes.num_members, sizes.error_rate)
    example, _ = env.reset(key)
    state = agent.init(key, cast(hparams), example, sizes.num_envs)
    asked: Comparisons | None = None
    for number in range(sizes.num_rounds):
        watch_key, ask_key, fit_key, train_key = jax.random.split(jax.random.fold_in(key, number), 4)
        trajectory = _watch(watch_key, agent, env, state, sizes)
        asked = _ask(ask_key, trajectory, asked, number, sizes)
        fitted, _ = loops.fit(fit_key, fitter, asked, LearnerHparams(1e-3), num_updates=sizes.reward_updates)
        reward = standardized(fitted.params, _steps(trajectory))
        state, _ = loops.train(
            train_key, agent, blind, hparams, num_updates=sizes.rl_updates, num_envs=sizes.num_envs,
            rollout_length=sizes.rollout_length, env_params=reward, state=state,
        )  # fmt: skip
    trajectory = _watch(key, agent, env, state, sizes)
    learned = learned_reward(reward, _steps(trajectory))
    return ControlResult(state, reward, jnp.corrcoef(learned, trajectory.reward.reshape(-1))[0, 1])


def _watch(key: jax.Array, agent: Agent, env: Env, state: Any, sizes: ControlSizes) -> Any:
    """A trajectory of the present policy, with the true reward: what the labeller looks at."""
    actors = loops.init_actors(key, agent, env, state, num_envs=sizes.num_envs)
    return loops.rollout(key, agent, env, state, actors, length=2 * sizes.rollout_length)[1]


def _steps(trajectory: Any) -> jax.Array:
    """Features [T N, D] of every step."""
    each = jax.vmap(jax.vmap(features))(trajectory.obs, trajectory.action)
    return each.reshape(-1, each.shape[-1])


def _ask(key: jax.Array, trajectory: Any, asked: Comparisons | None, number: int, sizes: ControlSizes) -> Comparisons:
    """The table of answers, of one size for all rounds, with this round's rows filled in."""
    first_key, second_key, answer_key = jax.random.split(key, 3)
    rows, length = sizes.labels_per_round, sizes.segment_length
    first, second = (segments(k, trajectory, rows, length) for k in (first_key, second_key))
    new = ask(answer_key, first, second, sizes.error_rate)
    if asked is None:
        total = sizes.num_rounds * rows
        asked = jax.tree.map(lambda x: jnp.full((total, *x.shape[1:]), -1.0), new)
    start = number * rows
    return jax.tree.map(lambda table, x: table.at[start : start + rows].set(x), asked, new)
