"""Bandit agents: against plain NumPy, on the ten-armed testbed, and the testbed itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import purerl
from purerl.agents.tabular import bandit as bandits
from purerl.envs import BanditTestbedParams, bandit_testbed
from purerl.spaces import Box
from purerl.types import Transition


def optimal(rule, hparams, num_testbeds, num_steps, params=None):
    """Fraction of testbeds in which the best arm was pulled, and the mean regret, at every step."""
    env = bandit_testbed()
    agent = bandits.bandit(env, rule=rule)

    def run(key):
        sizes = {"num_updates": num_steps, "num_envs": 1, "rollout_length": 1}
        metrics = purerl.train(key, agent, env, hparams, env_params=params, **sizes)[1]
        return metrics["env/optimal"], metrics["env/regret"]

    one, regret = quick.jit_for_long_runs(jax.vmap(run))(jax.random.split(jax.random.key(0), num_testbeds))
    return np.asarray(one).mean(0), np.asarray(regret).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "expected"), [("epsilon_greedy", 0.800), ("ucb", 0.858)])
def test_the_ten_armed_testbed(rule, expected):
    """Optimal actions at step 1,000 over 20,000 testbeds, whose standard error is 0.003."""
    one, _ = optimal(rule, bandits.BanditHparams(epsilon=0.1, exploration=2.0), 20_000, 1000)
    assert one[-1] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("rule", ["epsilon_greedy", "ucb", "softmax", "gradient", "thompson_gaussian"])
def test_every_rule_finds_better_arms(rule):
    """300 testbeds of 100 steps: half of random's regret of 1.54 at most at the end, and more than a tenth optimal."""
    hparams = bandits.BanditHparams(step_size=0.4 if rule == "gradient" else 0.0, temperature=0.3)
    one, regret = optimal(rule, hparams, 300, 100)
    assert regret[0] == pytest.approx(1.54, abs=0.2)
    assert regret[-10:].mean() < 0.77
    assert one[-10:].mean() > 0.4


@pytest.mark.parametrize("step_size", [0.0, 0.3])
def test_learning_against_numpy(step_size):
    agent = bandits.bandit(bandit_testbed(3), rule="gradient")
    state = agent.init(jax.random.key(0), purerl.hparams.cast(bandits.BanditHparams(step_size)), jnp.int32(0))
    rng = np.random.default_rng(0)
    action, reward = rng.integers(0, 3, (10, 2)), rng.normal(size=(10, 2))
    mask = rng.random((10, 2)) < 0.7
    off = jnp.zeros((10, 2), bool)
    arrays = jnp.asarray(action, jnp.int32), jnp.asarray(reward, jnp.float32)
    data = Transition(off, *arrays, off, off, off, mask=jnp.asarray(mask, jnp.float32))
    state, _ = jax.jit(agent.update)(jax.random.key(0), state, data)
    value, count, preference, seen = np.zeros(3), np.zeros(3), np.zeros(3), []
    for a, r in zip(action[mask], reward[mask]):
        baseline = np.mean(seen) if seen else r
        policy = np.exp(preference) / np.exp(preference).sum()
        preference = preference + (step_size or 0.1) * (r - baseline) * (np.eye(3)[a] - policy)
        count[a] += 1
        value[a] += max(step_size, 1 / count[a]) * (r - value[a])
        seen.append(r)
    np.testing.assert_allclose(state.value, value, atol=1e-5)
    np.testing.assert_allclose(state.preference, preference, atol=1e-5)
    np.testing.assert_array_equal(state.pulls, count)
    assert agent.act(None, state, jnp.int32(0))[0] == np.argmax(preference)


def test_the_gradient_rule_learns_with_default_hyperparameters():
    agent = bandits.bandit(bandit_testbed(3), rule="gradient")
    sizes = {"num_updates": 5, "num_envs": 1, "rollout_length": 4}
    state, _ = purerl.train(jax.random.key(0), agent, bandit_testbed(3), bandits.BanditHparams(), **sizes)
    assert (state.preference != 0).all()


def test_thompson_sampling_on_a_bandit_of_gymnax():
    """Arms of 0.9 and 0.1: nine of ten rewards at the end, from five of ten; a fresh bandit for each of 300 seeds."""
    env = purerl.envs.make("BernoulliBandit-misc")
    agent, hparams = bandits.bandit(env, rule="thompson_bernoulli"), bandits.BanditHparams()

    def run(key):
        state, metrics = purerl.train(key, agent, env, hparams, num_updates=99, num_envs=1, rollout_length=1)
        return metrics["reward"], state

    reward, state = quick.jit_for_long_runs(jax.vmap(run))(jax.random.split(jax.random.key(0), 300))
    assert reward[:, 0].mean() == pytest.approx(0.5, abs=0.1)
    assert reward[:, -30:].mean() == pytest.approx(0.9, abs=0.02)
    np.testing.assert_array_equal(state.total.sum(1), np.asarray(reward).sum(1))


@pytest.mark.parametrize(("rule", "chance"), [("softmax", 1 / (1 + np.exp(-1.5))), ("thompson_bernoulli", 5 / 6)])
def test_how_often_an_arm_is_drawn(rule, chance):
    """Softmax of values 0 and 0.3 at 0.2; Beta(2, 1) exceeds Beta(1, 2) in five of six draws."""
    agent = bandits.bandit(bandit_testbed(2), rule=rule)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(bandits.BanditHparams(temperature=0.2)), jnp.int32(0))
    state = state._replace(value=jnp.array([0.0, 0.3]), pulls=jnp.ones(2), total=jnp.array([0.0, 1.0]))
    act = jax.jit(jax.vmap(lambda key: agent.act(key, state, jnp.int32(0))[0]))
    assert act(jax.random.split(jax.random.key(0), 4000)).mean() == pytest.approx(chance, abs=0.03)


def test_the_testbed_draws_what_it_says():
    env, params = bandit_testbed(4), BanditTestbedParams(mean=2.0, spread=3.0, noise=0.5, drift=0.1)
    keys = jax.random.split(jax.random.key(0), 4000)
    _, means = jax.vmap(env.reset, (0, None))(keys, params)
    np.testing.assert_allclose([means.mean(), means.std()], [2.0, 3.0], atol=0.1)
    step = jax.vmap(lambda key: env.step(key, means[0], jnp.int32(1), params))(keys)
    np.testing.assert_allclose([step.reward.mean(), step.reward.std()], [means[0, 1], 0.5], atol=0.04)
    np.testing.assert_allclose((step.env_state - means[0]).std(), 0.1, atol=0.005)
    np.testing.assert_allclose(step.info["regret"], means[0].max() - means[0, 1], rtol=1e-6)
    assert not step.terminated.any()


def test_mistakes_are_named():
    env = bandit_testbed(2)
    with pytest.raises(ValueError, match="rule must be one of"):
        bandits.bandit(env, rule="greedy")
    with pytest.raises(TypeError, match="Discrete action_space"):
        bandits.bandit(env._replace(action_space=Box(0, 1)))
    with pytest.raises(ValueError, match="num_arms"):
        bandit_testbed(0)
