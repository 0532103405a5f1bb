"""Implicit Q-learning: one update against formulas in float64, and the expectiles and policies of a tiny MDP."""

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import pytest

import purerl
from purerl import distributions

GAMMA = 0.8
HPARAMS = purerl.IQLHparams(0.05, 0.1, GAMMA, tau=0.3, expectile=0.8, inverse_temperature=1.5, max_weight=0.1)


class Network:
    """params [2, 2]: the mean of a Gaussian of deviation 1, and the value, each linear in the observation."""

    def init(self, key, obs):
        return 0.5 * jax.random.normal(key, (2, 2))

    def apply(self, params, obs):
        return distributions.diagonal_gaussian(obs @ params[:, :1], jnp.zeros(1)), obs @ params[:, 1]


def test_one_update_against_formulas():
    data = jax.tree.map(lambda x: x[0], linear.window())
    agent = purerl.iql(
        Network(), linear.Critic(), optimizer=lambda hparams: optax.sgd(hparams.learning_rate),
        critic_optimizer=lambda hparams: optax.sgd(hparams.critic_learning_rate),
    )  # fmt: skip
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), data.obs[0])
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, data)

    rows = linear.to_numpy(data)
    w, action = rows.mask, rows.action[:, 0]
    network, critics = linear.to_numpy(state.params)
    phi = linear.features(rows.obs, action)
    recorded = np.min([phi @ one for one in critics], axis=0)
    weights = np.minimum(np.exp(1.5 * (recorded - rows.obs @ network[:, 1])), 0.1)
    assert set(weights == 0.1) == {True, False}

    def loss(network):
        u = recorded - rows.obs @ network[:, 1]
        log_prob = -0.5 * (action - rows.obs @ network[:, 0]) ** 2 - 0.5 * np.log(2 * np.pi)
        each = np.where(u < 0, 0.2, 0.8) * u**2 - weights * log_prob
        return (w * each).sum() / max(w.sum(), 1)

    moved = network - 0.05 * linear.slope(loss, network)
    np.testing.assert_allclose(new.params.network, moved, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss/value"] + metrics["loss/policy"], loss(network), rtol=1e-4)
    target = rows.reward + GAMMA * (1 - rows.terminated) * (rows.next_obs @ moved[:, 1])
    expected = [one + 0.1 * phi.T @ (w * (target - phi @ one)) / linear.SIZE for one in critics]
    np.testing.assert_allclose(new.params.critics, expected, rtol=1e-4, atol=1e-6)
    targets = [0.7 * old + 0.3 * one for old, one in zip(critics, expected)]
    np.testing.assert_allclose(new.target_critics, targets, rtol=1e-4, atol=1e-6)


class Table:
    """A policy over three actions and a value per state; a critic of the same states and actions."""

    def init(self, key, obs, action=None):
        return jnp.zeros((2, 3)) if action is not None else (jnp.zeros((2, 3)), jnp.zeros(2))

    def apply(self, params, obs, action=None):
        if action is not None:
            return params[obs, action]
        return distributions.categorical(params[0][obs]), params[1][obs]


def expectile(values, level):
    """The root of Σ |level − 1{u < 0}| u, u = values − v, by bisection."""
    low, high = min(values), max(values)
    for _ in range(60):
        v = (low + high) / 2
        u = np.asarray(values) - v
        low, high = (v, high) if (np.where(u < 0, 1 - level, level) * u).sum() > 0 else (low, v)
    return v


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_a_chain_of_two_states_has_the_expectiles_as_values_and_the_weights_as_policy(level):
    """From state 0 action a pays a and leads to state 1, where action a pays 2 a and ends; all actions are recorded."""
    obs, action = jnp.repeat(jnp.arange(2), 3), jnp.tile(jnp.arange(3), 2)
    ends = obs == 1
    data = purerl.Transition(obs, action, (action * (1 + obs)).astype(float), ends, ~ends, jnp.ones(6, int))
    agent = purerl.iql(Table(), Table(), num_critics=1)
    hparams = purerl.IQLHparams(2e-2, 2e-2, 0.9, tau=0.2, expectile=level, inverse_temperature=0.5)
    state, _ = jax.jit(lambda key: purerl.fit(key, agent, data, hparams, num_updates=3000))(jax.random.key(0))
    last = expectile([0, 2, 4], level)
    first = expectile(np.arange(3) + 0.9 * last, level)
    policy, value = state.params.network
    np.testing.assert_allclose(value, [first, last], atol=0.03)
    weight = np.exp(0.5 * np.array([np.arange(3) + 0.9 * last - first, np.array([0, 2, 4]) - last]))
    np.testing.assert_allclose(jax.nn.softmax(policy), weight / weight.sum(1, keepdims=True), atol=0.03)
    assert agent.act(None, state, jnp.int32(0))[0] == 2
