"""Actor-critic: its step against an independent formula in float64, V-trace off the policy, and the probes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import distributions, envs, networks
from purerl.types import Transition

HPARAMS = purerl.ActorCriticHparams(learning_rate=1e-2, discount=0.9, entropy_coef=0.0)
NUM_OBS = 4


class Table(NamedTuple):
    """An actor-critic network of one logit for each observation and action, and one value for each observation."""

    init: Any
    apply: Any


def table():
    def init(key, obs):
        logits, value = jax.random.normal(key, (NUM_OBS, 3)), jnp.linspace(-1.0, 2.0, NUM_OBS)
        return {"logits": logits, "value": value}

    def apply(params, obs):
        return distributions.categorical(params["logits"][obs]), params["value"][obs]

    return Table(init, apply)


def trajectory(seed=0, length=7, num_envs=5):
    """Random steps; next_obs agrees with obs where an episode goes on, and behaviour was another policy's."""
    rng = np.random.default_rng(seed)
    shape = (length, num_envs)
    obs, action = rng.integers(0, NUM_OBS, shape), rng.integers(0, 3, shape)
    ends = rng.random((2, *shape)) < 0.2
    terminated, truncated = ends[0], ends[1] & ~ends[0]
    other = rng.integers(0, NUM_OBS, shape)
    next_obs = np.where(terminated | truncated, other, np.concatenate([obs[1:], other[-1:]]))
    reward = rng.normal(size=shape).astype(np.float32)
    aux = {"log_prob": rng.uniform(-2.5, -0.3, shape).astype(np.float32)}
    return Transition(obs, action, reward, terminated, truncated, next_obs, aux)


def targets(kind, data, hparams, log_prob, value, next_value, num_steps):
    """Advantages and value targets, by loops over the definitions."""
    length, gamma, lam = len(data.reward), hparams.discount, hparams.gae_lambda
    discount, done = gamma * ~data.terminated, data.terminated | data.truncated
    if kind == "n_step":
        target = np.zeros_like(value)
        for t, i in np.ndindex(value.shape):
            weight, end = 1.0, t
            while True:
                target[t, i] += weight * data.reward[end, i]
                weight *= discount[end, i]
                if done[end, i] or end + 1 == min(t + num_steps, length):
                    break
                end += 1
            target[t, i] += weight * next_value[end, i]
        return target - value, target
    rho = c = np.ones_like(value)
    if kind == "vtrace":
        ratio = np.exp(log_prob - data.aux["log_prob"])
        rho, c = np.minimum(hparams.rho_bar, ratio), np.minimum(hparams.c_bar, ratio)
    target, after = np.zeros_like(value), next_value[-1]
    for t in range(length - 1, -1, -1):
        trace = lam * ~done[t]
        error = rho[t] * (data.reward[t] + discount[t] * next_value[t] - value[t])
        target[t] = value[t] + error + discount[t] * trace * c[t] * (after - next_value[t])
        after = target[t]
    if kind == "gae":
        return target - value, target
    ahead = np.concatenate([target[1:], next_value[-1:]])
    bootstrap = lam * ~done * ahead + (1 - lam * ~done) * next_value
    return rho * (data.reward + discount * bootstrap - value), target


@pytest.mark.parametrize("kind", ["gae", "n_step", "vtrace"])
def test_a_step_against_an_independent_formula(kind):
    """One step of plain gradient descent on tables: the derivatives of the three terms by hand, in float64."""
    data = trajectory()
    agent = purerl.actor_critic(
        table(), advantage=kind, num_steps=3, optimizer=lambda hparams: optax.sgd(hparams.learning_rate)
    )
    hparams = purerl.ActorCriticHparams(
        learning_rate=1.0, discount=0.9, gae_lambda=0.8, value_coef=0.7, entropy_coef=0.05, rho_bar=1.2, c_bar=0.9
    )
    state = agent.init(jax.random.key(1), purerl.hparams.cast(hparams), jnp.int32(0))
    after, metrics = jax.jit(agent.update)(jax.random.key(2), state, jax.tree.map(jnp.asarray, data))

    logits, values = (np.asarray(state.params[name], np.float64) for name in ("logits", "value"))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    probs, chosen = np.exp(log_probs), np.eye(3)[data.action]
    log_prob = (log_probs[data.obs] * chosen).sum(-1)
    value, next_value = values[data.obs], values[data.next_obs]
    advantage, target = targets(kind, data, hparams, log_prob, value, next_value, 3)
    entropy = -(probs * log_probs).sum(-1, keepdims=True)
    slope = -advantage[..., None] * (chosen - probs[data.obs])
    slope += 0.05 * (probs * (log_probs + entropy))[data.obs]  # of −entropy_coef · H
    expected_logits, expected_values = logits.copy(), values.copy()
    np.add.at(expected_logits, data.obs, -slope / data.reward.size)
    np.add.at(expected_values, data.obs, -0.7 * (value - target) / data.reward.size)
    np.testing.assert_allclose(after.params["logits"], expected_logits, atol=2e-6)
    np.testing.assert_allclose(after.params["value"], expected_values, atol=2e-6)
    np.testing.assert_allclose(metrics["loss/policy"], -(log_prob * advantage).mean(), rtol=2e-5)
    np.testing.assert_allclose(metrics["loss/value"], 0.5 * ((value - target) ** 2).mean(), rtol=2e-5)
    np.testing.assert_allclose(metrics["loss/entropy"], entropy[data.obs].mean(), rtol=2e-5)


def test_steps_that_do_not_count_change_nothing():
    """A trajectory with a mask is the one without the masked steps, here those of three of its five environments."""
    data = jax.tree.map(jnp.asarray, trajectory())
    agent = purerl.actor_critic(table(), normalize_advantage=True, num_epochs=2)
    state = agent.init(jax.random.key(1), purerl.hparams.cast(HPARAMS), jnp.int32(0))
    counted = jnp.array([1.0, 0.0, 0.0, 1.0, 0.0])
    masked = data._replace(mask=jnp.broadcast_to(counted, data.reward.shape))
    kept = jax.tree.map(lambda x: x[:, np.array([0, 3])], data)
    update = jax.jit(agent.update)
    one, two = update(jax.random.key(0), state, masked)[0], update(jax.random.key(0), state, kept)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.params, two.params)
    assert not np.allclose(one.params["logits"], state.params["logits"])
    assert one.num_updates == 1


@pytest.mark.parametrize(("kind", "continuous"), [pytest.param("vtrace", False, marks=pytest.mark.slow), ("gae", True)])
@pytest.mark.parametrize("num_seeds", probing.SEEDS)
def test_all_probes_with_every_seed(kind, continuous, num_seeds):
    """V-trace takes two steps on each trajectory."""
    env = envs.probe(continuous=continuous)
    network = networks.actor_critic(env, hidden=(16,))
    agent = purerl.actor_critic(network, advantage=kind, num_epochs=2 if kind == "vtrace" else 1)
    states = probing.learn(agent, env, HPARAMS, num_updates=400, num_seeds=num_seeds)
    probing.check_values(probing.values_of(network), states, 0.9, continuous=continuous)
    if not continuous:
        probing.check_actions(agent, states)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"advantage": "td"}, "advantage must be one of gae, n_step, vtrace; got 'td'"),
        ({"num_steps": 0}, "num_steps must be a positive integer, got 0"),
        ({"num_epochs": 1.5}, "num_epochs must be a positive integer, got 1.5"),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        purerl.actor_critic(table(), **options)
