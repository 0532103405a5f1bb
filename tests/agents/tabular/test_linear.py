"""Linear prediction against closed forms, and Baird's counter-example, on which off-policy TD must diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs
from purerl import mdp as mdps
from purerl.agents.tabular import linear
from purerl.types import Transition

KEY, DISCOUNT = jax.random.key(0), 0.9
FEATURES = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)


@pytest.fixture(scope="module")
def walk():
    return envs.from_mdp(mdps.random_walk(7), max_steps=100)


def always(obs):
    return jnp.ones(1)


@pytest.mark.parametrize("target", linear.TARGETS)
def test_least_squares_against_numpy(walk, target):
    """The weights after two updates are those of all data at once, in float64; a doubled feature lowers the rank."""
    agent = linear.least_squares(lambda s: FEATURES[s], always, target=target)
    state = agent.init(KEY, purerl.hparams.cast(linear.LinearHparams(discount=DISCOUNT)), jnp.int32(0))
    actors = purerl.loops.init_actors(KEY, agent, walk, state, num_envs=20)
    matrix, vector = np.zeros((3, 3)), np.zeros(3)
    update = jax.jit(agent.update)
    for i in range(2):
        collect = purerl.loops.rollout_episodes(jax.random.key(i), agent, walk, state, actors, length=50)
        data = collect[1]
        state, metrics = update(KEY, state, data)
        x, after = (np.asarray(FEATURES, np.float64)[np.asarray(s)] for s in (data.obs, data.next_obs))
        reward, mask = np.asarray(data.reward, np.float64), np.asarray(data.mask, np.float64)
        g = np.zeros((51, 20))
        for t in reversed(range(50)):
            ended = np.asarray(data.terminated | data.truncated)[t]
            g[t] = reward[t] * mask[t] + DISCOUNT * np.where(ended, 0, g[t + 1])
        following = DISCOUNT * after * (1 - np.asarray(data.terminated))[..., None] if target == "td" else 0
        matrix += np.einsum("tn,tnd,tne->de", mask, x, x - following)
        vector += np.einsum("tn,tn,tnd->d", mask, reward if target == "td" else g[:-1], x)
    np.testing.assert_allclose(state.weights, np.linalg.solve(matrix, vector), rtol=2e-3, atol=2e-4)
    assert metrics["rank"] == 3


def test_singular_systems_are_reported(walk):
    agent = linear.least_squares(lambda s: jnp.tile(FEATURES[s][:1], 2), always)
    state, metrics = purerl.train(
        KEY, agent, walk, linear.LinearHparams(discount=DISCOUNT), num_updates=1, num_envs=4, rollout_length=20
    )
    assert metrics["rank"][0] == 1
    np.testing.assert_allclose(state.weights[0], state.weights[1], rtol=1e-4)


def baird():
    """Data of Baird's counter-example: all seven states, both actions weighted as the acting policy takes them."""
    features = np.concatenate(
        [np.concatenate([2 * np.eye(6), np.zeros((6, 1)), np.ones((6, 1))], 1), [[0] * 6 + [1, 2]]]
    )
    obs = np.tile(np.arange(7)[:, None], (1, 7))
    action = np.tile([0, 0, 0, 0, 0, 0, 1], (7, 1))  # six times dashed to each of the upper six, once solid
    after = np.tile(np.arange(7), (7, 1))
    off, number = jnp.zeros((7, 7), bool), jnp.zeros((7, 7))
    kinds = [jnp.asarray(x, jnp.int32) for x in (obs, action, after)]
    return jnp.asarray(features, jnp.float32), Transition(kinds[0], kinds[1], number, off, off, kinds[2])


def test_bairds_counter_example_diverges_and_says_so():
    """Each update is the expected one of figure 11.2 (right), computed alongside in float64."""
    features, data = baird()
    agent = linear.linear_prediction(
        lambda s: features[s], lambda s: jnp.array([0.0, 1.0]), behavior=lambda s: jnp.array([6 / 7, 1 / 7])
    )
    hparams = purerl.hparams.cast(linear.LinearHparams(step_size=0.07, discount=0.99))
    state = agent.init(KEY, hparams, jnp.int32(0))._replace(weights=jnp.array([1.0, 1, 1, 1, 1, 1, 10, 1]))
    x, w = np.asarray(features, np.float64), np.array([1.0, 1, 1, 1, 1, 1, 10, 1])
    state, metrics = purerl.fit(KEY, agent, data, hparams, num_updates=1000, state=state)
    for _ in range(1000):
        w = w + 0.07 / 7 * (0.99 * x[6] @ w - x @ w) @ x
    np.testing.assert_allclose(state.weights, w, rtol=1e-2)
    assert metrics["weight_norm"][-1] > 5 * metrics["weight_norm"][0]
    assert metrics["diverged"][-1] == 0
    _, metrics = purerl.fit(
        KEY, agent, data, hparams._replace(step_size=jnp.float32(5.0)), num_updates=1000, state=state
    )
    assert metrics["diverged"][-1] == 1


def test_gradient_monte_carlo_and_td_reach_least_squares(walk):
    """With one feature a state both reach the exact values of the walk."""
    exact = np.asarray(mdps.policy_evaluation(mdps.random_walk(7), jnp.ones((7, 1)), DISCOUNT))
    for target in linear.TARGETS:
        agent = linear.linear_prediction(lambda s: jax.nn.one_hot(s, 7), always, target=target)
        state, _ = purerl.train(
            KEY, agent, walk, linear.LinearHparams(0.5, DISCOUNT), num_updates=400, num_envs=64, rollout_length=60,
            rollout=purerl.loops.rollout_episodes,
        )  # fmt: skip
        np.testing.assert_allclose(state.weights, exact, atol=0.12)


def test_steps_depend_on_the_ratios_of_weights_alone():
    agent = linear.linear_prediction(lambda s: FEATURES[s], always)
    state = agent.init(KEY, purerl.hparams.cast(linear.LinearHparams(0.5, DISCOUNT)), jnp.int32(0))
    obs, never = jnp.arange(6).reshape(3, 2), jnp.zeros((3, 2), bool)
    data = Transition(obs, jnp.zeros((3, 2), jnp.int32), jnp.arange(6.0).reshape(3, 2), never, never, obs + 1)
    expected, _ = agent.update(KEY, state, data)
    found, _ = agent.update(KEY, state, data._replace(weight=jnp.full((3, 2), 1e-2)))
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-5)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="target must be one of"):
        linear.least_squares(always, always, target="q")
    with pytest.raises(ValueError, match="on-policy"):
        linear.linear_prediction(always, always, behavior=always, target="monte_carlo")
