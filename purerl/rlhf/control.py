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
from purerl.combinators.minibatches import with_minibatches
from purerl.rlhf.descent import LearnerHparams, adam, descend
from purerl.types import Agent, Env, EnvStep, Metrics, TrainState, cast, check_positive

Params = Any


class Segments(NamedTuple):
    """Pieces of trajectories: features [..., L, D] of (observation, action), and the true reward [..., L]."""

    features: jax.Array
    reward: jax.Array


class Comparisons(NamedTuple):
    """Labelled pairs of segments: features [B, L, D] of each, and the label: 1 where the first is preferred.

    `row` [B] int32 numbers the answers: a row keeps its weight in the ensemble whatever minibatch it is drawn into.
    """

    first: jax.Array
    second: jax.Array
    preference: jax.Array
    row: jax.Array


class Scaling(NamedTuple):
    """Mean and deviation of data, each [D]."""

    mean: jax.Array
    scale: jax.Array

    def apply(self, x: jax.Array) -> jax.Array:
        """x [..., D] less the mean, over the deviation."""
        return (x - self.mean) / self.scale


class LearnedReward(NamedTuple):
    """An ensemble of reward models, leaves [E, ...], and what standardises their inputs [D] and outputs [E]."""

    members: Params
    inputs: Scaling
    outputs: Scaling


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
    return jnp.mean(reward.outputs.apply(_each(reward.members, reward.inputs.apply(x))), axis=-1)


def _each(members: Params, x: jax.Array) -> jax.Array:
    """Every member's reward of standardised features [..., D]: [..., E]."""
    return jax.vmap(apply_member, (0, None), -1)(members, x)


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
    return Comparisons(first.features, second.features, answer.astype(jnp.float32), jnp.arange(len(answer)))


def ensemble_agent(num_members: int, error_rate: float, weight_decay: float = 1e-3) -> Agent:
    """An agent for `fit` on `Comparisons`: an ensemble, every member of which fits its own weighting of the rows.

    Member e descends on Σ w_ei segment_preference_i / Σ w_ei + weight_decay · |weights|², with w_ei exponential (the
    Bayesian bootstrap), fixed by the row's number.

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

    def weight(row: jax.Array) -> jax.Array:
        return jax.random.exponential(jax.random.fold_in(bootstrap_key, row), (num_members,))

    def update(key: jax.Array, state: TrainState, data: Comparisons) -> tuple[TrainState, Metrics]:
        weights = jax.vmap(weight, out_axes=1)(data.row)
        values, grads = jax.vmap(jax.value_and_grad(loss), (0, 0, None))(state.params, weights, data)
        new = descend(state, grads, adam)._replace(num_updates=state.num_updates + 1)
        return new, {"loss/total": jnp.mean(values)}

    def act(key: jax.Array | None, state: TrainState, obs: Any) -> tuple[Any, Any]:
        raise TypeError("an ensemble of reward models does not act")

    return Agent(init, act, update)


def scaling(x: jax.Array) -> Scaling:
    """Mean and deviation of the rows of x [..., D]."""
    rows = x.reshape(-1, x.shape[-1])
    return Scaling(jnp.mean(rows, axis=0), jnp.std(rows, axis=0) + 1e-6)


def fit_reward(
    key: jax.Array, agent: Agent, asked: Comparisons, hparams: LearnerHparams, num_updates: int, x: jax.Array
) -> LearnedReward:
    """An ensemble fitted to comparisons of standardised features, its rewards standardised over features x [B, D].

    Args:
      key: typed key.
      agent: an `ensemble_agent` behind `with_minibatches`.
      asked: the answers; the mean and deviation of all the steps in them standardise the inputs.
      hparams: the agent's.
      num_updates: updates of the fit, which starts from fresh weights.
      x: the steps on which each member's reward gets mean 0 and deviation 1.
    """
    inputs = scaling(jnp.stack([asked.first, asked.second]))
    data = asked._replace(first=inputs.apply(asked.first), second=inputs.apply(asked.second))
    members = loops.fit(key, agent, data, hparams, num_updates=num_updates)[0].agent.params
    return LearnedReward(members, inputs, scaling(_each(members, inputs.apply(x))))


class ControlSizes(NamedTuple):
    """How much of everything; labels in all are first_labels + (num_rounds - 1) · labels_per_round."""

    num_rounds: int = 7
    first_labels: int = 100
    labels_per_round: int = 100
    segment_length: int = 10
    error_rate: float = 0.1
    num_members: int = 3
    reward_updates: int = 200
    batch_size: int = 64
    rl_updates: int = 60
    num_envs: int = 16
    rollout_length: int = 128

    @property
    def num_labels(self) -> int:
        """Answers in all."""
        return self.first_labels + (self.num_rounds - 1) * self.labels_per_round


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
      hparams: the agent's; it learns for num_rounds · rl_updates updates in all.
      sizes: how much of everything; None takes the defaults.
    """
    sizes = sizes or ControlSizes()
    check_positive(
        num_rounds=sizes.num_rounds, first_labels=sizes.first_labels, labels_per_round=sizes.labels_per_round
    )
    blind = with_learned_reward(env)
    fitter = with_minibatches(ensemble_agent(sizes.num_members, sizes.error_rate), sizes.batch_size)
    fit_hparams = LearnerHparams(3e-3, anneal_updates=sizes.reward_updates)
    watch = jax.jit(lambda key, state: _watch(key, agent, env, state, sizes))
    example, _ = env.reset(key)
    state = agent.init(key, cast(hparams), example, sizes.num_envs)
    asked: Comparisons | None = None
    for number in range(sizes.num_rounds):
        watch_key, ask_key, fit_key, train_key = jax.random.split(jax.random.fold_in(key, number), 4)
        trajectory = watch(watch_key, state)
        asked = _ask(ask_key, trajectory, asked, sizes)
        answers = _repeated(asked, sizes.num_labels)
        reward = fit_reward(fit_key, fitter, answers, fit_hparams, sizes.reward_updates, _steps(trajectory))
        state, _ = loops.train(
            train_key, agent, blind, hparams, num_updates=sizes.rl_updates, num_envs=sizes.num_envs,
            rollout_length=sizes.rollout_length, env_params=reward, state=state,
        )  # fmt: skip
    trajectory = watch(key, state)
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


def _ask(key: jax.Array, trajectory: Any, asked: Comparisons | None, sizes: ControlSizes) -> Comparisons:
    """All answers so far: those given before, and a round's more about segments of the trajectory."""
    first_key, second_key, answer_key = jax.random.split(key, 3)
    rows = sizes.first_labels if asked is None else sizes.labels_per_round
    first, second = (segments(k, trajectory, rows, sizes.segment_length) for k in (first_key, second_key))
    new = ask(answer_key, first, second, sizes.error_rate)
    if asked is None:
        return new
    new = new._replace(row=len(asked.row) + new.row)
    return jax.tree.map(lambda old, x: jnp.concatenate([old, x]), asked, new)


def _repeated(asked: Comparisons, total: int) -> Comparisons:
    """The answers over and over up to `total` rows: data of one shape in every round, so that fitting compiles once."""
    return jax.tree.map(lambda x: x[jnp.arange(total) % len(x)], asked)
