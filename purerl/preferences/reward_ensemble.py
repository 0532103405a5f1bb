"""A reward learned from answers about pairs of segments: an ensemble of small networks, and an environment paid by it.

Source: Christiano et al. 2017, section 2.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import loops, losses
from purerl.rlhf.supervised import LearnerHparams, adam, descend
from purerl.spaces import Box, Discrete, Space
from purerl.types import Agent, Env, EnvStep, Metrics, TrainState

Params = Any


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


def features(obs: Any, action: Any, action_space: Space) -> jax.Array:
    """One vector [D] from an observation and an action as the environment takes it: within its bounds, or one-hot.

    A reward model that saw a policy's numbers beyond the bounds could pay for what never happens.
    """
    if isinstance(action_space, Box):
        action = jnp.clip(action, *action_space.bounds())
    if isinstance(action_space, Discrete):
        action = jax.nn.one_hot(action, action_space.n)
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


def scaling(x: jax.Array) -> Scaling:
    """Mean and deviation of the rows of x [..., D]."""
    rows = x.reshape(-1, x.shape[-1])
    return Scaling(jnp.mean(rows, axis=0), jnp.std(rows, axis=0) + 1e-6)


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
        paid = learned_reward(env_params, features(env_state.obs, action, env.action_space))
        return new._replace(env_state=WatchedState(new.env_state, new.obs), reward=paid, info=())

    return Env(reset, step, env.observation_space, env.action_space)
