"""A reward learned from comparisons of segments: an ensemble of small networks, and an environment that pays it.

Source: Christiano et al. 2017, section 2.2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import loops, losses
from purerl.agents.common import optimization
from purerl.agents.common.optimization import AdamHparams
from purerl.once import build_once
from purerl.spaces import Box, Discrete, Space
from purerl.types import Agent, Env, EnvStep, Hparams, Key, Metrics, Params, PyTree, TrainState


class Comparisons(NamedTuple):
    """Labelled pairs of segments: features [B, L, D] of each, and the label: 1 if the first is preferred.

    `row` [B] int32 numbers the labels, so a row has the same weight in the ensemble in every minibatch.
    """

    first: jax.Array
    second: jax.Array
    preference: jax.Array
    row: jax.Array


class Scaling(NamedTuple):
    """Mean and standard deviation of data, each [D]; a column that is constant has the scale 1."""

    mean: jax.Array
    scale: jax.Array

    def apply(self, x: jax.Array) -> jax.Array:
        """(x - mean) / scale, [..., D]."""
        return (x - _along(self.mean, x)) / _along(self.scale, x)


def _along(row: jax.Array, x: jax.Array) -> jax.Array:
    """A row [D] with the rank of x [..., D]."""
    return row.reshape((1,) * (x.ndim - 1) + row.shape)


class LearnedReward(NamedTuple):
    """An ensemble of reward models, leaves [E, ...], and the scaling of their inputs [D] and outputs [E]."""

    members: Params
    inputs: Scaling
    outputs: Scaling


def features(obs: PyTree, action: PyTree, action_space: Space) -> jax.Array:
    """One vector [D] of an observation and an action, the action clipped to its bounds, or one-hot.

    The environment clips actions too; a reward model that saw them unclipped could reward what never happens.

    Examples:
      >>> features(jnp.array([0.5]), jnp.int32(1), Discrete(3)).tolist()
      [0.5, 0.0, 1.0, 0.0]
    """
    if isinstance(action_space, Box):
        action = jnp.clip(action, *action_space.bounds())
    if isinstance(action_space, Discrete):
        action = jax.nn.one_hot(action, action_space.n)
    leaves = [jnp.asarray(x, jnp.float32).reshape(-1) for x in jax.tree.leaves((obs, action))]
    return jnp.concatenate(leaves)


def init_member(key: Key, size: int, hidden: tuple[int, ...] = (64, 64)) -> Params:
    """Weights of one reward model: an MLP from [D] to a scalar."""
    sizes = (size, *hidden, 1)
    keys = jax.random.split(key, len(sizes) - 1)
    weights = [jax.random.normal(k, (a, b)) * (2 / a) ** 0.5 for k, a, b in zip(keys, sizes, sizes[1:])]
    return [(weight, jnp.zeros(weight.shape[1])) for weight in weights]


def apply_member(params: Params, x: jax.Array) -> jax.Array:
    """Rewards [...] of features [..., D]."""
    for weight, bias in params[:-1]:
        x = jax.nn.silu(x @ weight + _along(bias, x))  # [..., D] -> [..., hidden]
    weight, bias = params[-1]
    return (x @ weight + _along(bias, x))[..., 0]  # [..., hidden] -> [...]


def learned_reward(reward: LearnedReward, x: jax.Array) -> jax.Array:
    """Mean over the ensemble of each member's standardised reward of features [..., D]."""
    return jnp.mean(reward.outputs.apply(_each(reward.members, reward.inputs.apply(x))), axis=-1)


def _each(members: Params, x: jax.Array) -> jax.Array:
    """Every member's reward of standardised features [..., D]: [..., E]."""
    return jax.vmap(apply_member, (0, None), -1)(members, x)


def scaling(x: jax.Array) -> Scaling:
    """Mean and standard deviation of the rows of x [..., D].

    A column that is constant, up to rounding errors, is not scaled: divided by its deviation of about 0, the first
    value that differs would exceed everything that the reward models were fitted to.

    Examples:
      >>> scaling(jnp.array([[1.0, 5.0], [3.0, 5.0]])).apply(jnp.array([3.0, 6.0])).round(3).tolist()
      [1.0, 1.0]
    """
    rows = x.reshape(-1, x.shape[-1])
    mean, span = jnp.mean(rows, axis=0), jnp.max(rows, axis=0) - jnp.min(rows, axis=0)
    varies = span > 1e-6 * jnp.maximum(jnp.abs(mean), 1)
    return Scaling(mean, jnp.where(varies, jnp.std(rows, axis=0) + 1e-6, 1.0))


@build_once
def ensemble_agent(num_members: int, error_rate: float, weight_decay: float = 1e-3) -> Agent:
    """An agent for `fit` on `Comparisons`: an ensemble whose members fit their own weightings of the rows.

    Member e descends on Σ w_ei segment_preference_i / Σ w_ei + weight_decay · |weights|², with w_ei exponential (the
    Bayesian bootstrap), fixed by the row's number.

    Args:
      num_members: E.
      error_rate: assumed probability that the labeller answers at random.
      weight_decay: see above.

    Returns:
      An agent whose state's `params` lead with [E]; it cannot act.
    """
    bootstrap_key = jax.random.key(num_members)

    def init(key: Key, hparams: Hparams, example: Comparisons, num_envs: int = 1) -> TrainState:
        size = example.first.shape[-1]
        params = jax.vmap(lambda k: init_member(k, size))(jax.random.split(key, num_members))
        return optimization.train_state(optimization.tree_adam, hparams, params)

    def member_loss(params: Params, weight: jax.Array, data: Comparisons) -> jax.Array:
        rewards = apply_member(params, data.first), apply_member(params, data.second)
        each = losses.segment_preference(*rewards, data.preference, error_rate=error_rate)
        decay = sum(jnp.sum(jnp.square(w)) for w, _ in params)
        return jnp.sum(weight * each) / jnp.maximum(jnp.sum(weight), 1e-8) + weight_decay * decay

    def weight(row: jax.Array) -> jax.Array:
        return jax.random.exponential(jax.random.fold_in(bootstrap_key, row), (num_members,))

    def update(key: Key, state: TrainState, data: Comparisons) -> tuple[TrainState, Metrics]:
        weights = jax.vmap(weight, out_axes=1)(data.row)  # [B] -> [E, B]

        def loss(params: Params) -> tuple[jax.Array, Metrics]:
            each = jax.vmap(member_loss, (0, 0, None))(params, weights, data)  # [E]
            return jnp.sum(each), {"loss/total": jnp.mean(each)}

        return optimization.gradient_update(optimization.tree_adam, loss, state)

    def act(key: Key | None, state: TrainState, obs: PyTree) -> tuple[PyTree, PyTree]:
        raise TypeError("an ensemble of reward models does not act")

    return Agent(init, act, update)


def fit_reward(
    key: Key, agent: Agent, asked: Comparisons, hparams: AdamHparams, num_updates: int, x: jax.Array
) -> LearnedReward:
    """An ensemble fitted to comparisons of standardised features, its rewards standardised over features x [B, D].

    Args:
      key: typed key.
      agent: an `ensemble_agent` behind `with_minibatches`.
      asked: the labelled pairs; the mean and deviation of all their steps standardise the inputs.
      hparams: the agent's.
      num_updates: updates of the fit, which starts from fresh weights.
      x: the steps on which each member's reward gets mean 0 and deviation 1.
    """
    inputs = scaling(jnp.stack([asked.first, asked.second]))
    data = asked._replace(first=inputs.apply(asked.first), second=inputs.apply(asked.second))
    members = loops.fit(key, agent, data, hparams, num_updates=num_updates)[0].agent.params
    return LearnedReward(members, inputs, scaling(_each(members, inputs.apply(x))))


class WatchedState(NamedTuple):
    """The environment's state and its last observation."""

    inner: PyTree
    obs: PyTree


@build_once
def with_learned_reward(env: Env) -> Env:
    """The same environment with the reward of `env_params`, a `LearnedReward`. The true reward never leaves it."""

    def reset(key: Key, env_params: LearnedReward | None = None) -> tuple[PyTree, WatchedState]:
        obs, state = env.reset(key)
        return obs, WatchedState(state, obs)

    def step(key: Key, env_state: WatchedState, action: PyTree, env_params: LearnedReward | None = None) -> EnvStep:
        if env_params is None:
            raise ValueError("with_learned_reward: pass the LearnedReward as env_params=")
        new = env.step(key, env_state.inner, action)
        paid = learned_reward(env_params, features(env_state.obs, action, env.action_space))
        return new._replace(env_state=WatchedState(new.env_state, new.obs), reward=paid, info=())

    draw = env.render
    render = None if draw is None else lambda env_state: draw(env_state.inner)
    return env._replace(reset=reset, step=step, render=render)
