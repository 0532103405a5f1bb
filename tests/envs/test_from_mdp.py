"""An MDP sampled: frequencies, endings, other MDPs as parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import mdp as mdps
from purerl.envs import from_mdp
from purerl.spaces import Discrete


@pytest.fixture(scope="module")
def mdp():
    return mdps.from_table(
        [
            [[(0.2, 1, 1.0, False), (0.5, 2, 2.0, False), (0.3, 0, -1.0, True)], [(1.0, 0, 0.25, False)]],
            [[(1.0, 2, 0.0, False)], [(0.0, 0, 9.0, True), (1.0, 1, 0.0, False)]],
            [[(1.0, 2, 0.0, False)], [(1.0, 2, 3.0, True)]],
        ],
        [0.25, 0.0, 0.75],
    )


def test_outcomes_come_as_often_as_they_should(mdp):
    env = from_mdp(mdp, max_steps=10)
    assert (env.observation_space, env.action_space) == (Discrete(3), Discrete(2))
    keys = jax.random.split(jax.random.key(0), 20_000)
    obs, state = jax.vmap(env.reset)(keys)
    assert obs.dtype == jnp.int32
    np.testing.assert_allclose(np.bincount(obs, minlength=3) / len(keys), [0.25, 0, 0.75], atol=0.015)

    at_0 = jax.tree.map(jnp.zeros_like, jax.tree.map(lambda leaf: leaf[0], state))
    step = jax.vmap(env.step, in_axes=(0, None, None))(keys, at_0, 0)
    assert step.reward.dtype == jnp.float32
    for next_state, reward, terminated, probability in ((1, 1, False, 0.2), (2, 2, False, 0.5), (0, -1, True, 0.3)):
        hit = (step.obs == next_state) & (step.reward == reward) & (step.terminated == terminated)
        assert np.mean(hit) == pytest.approx(probability, abs=0.015)
    assert not step.truncated.any()

    at_1 = at_0._replace(state=jnp.int32(1))
    step = jax.vmap(env.step, in_axes=(0, None, None))(keys, at_1, 1)
    assert (step.obs == 1).all()  # never an outcome of probability 0


@pytest.fixture(scope="module")
def sparse():
    """Probabilities of 1000 events, half of them 0, whose rounded cumulative sum rises at some of these and falls."""
    rng = np.random.default_rng(0)
    probability = rng.random(1000) * (rng.random(1000) < 0.5)
    probability = jnp.asarray(probability / probability.sum(), jnp.float32)
    change = np.diff(jnp.cumsum(probability))
    assert (change[probability[1:] == 0] != 0).any()
    return probability


def near_the_steps(probability):
    """The numbers that `jax.random.uniform` can draw around every step of the cumulative sum, and the largest."""
    total = np.cumsum(np.asarray(probability, np.float64))
    steps = np.floor(total[:, None] / total[-1] * 2**23) + np.arange(-3, 4)
    return jnp.asarray(np.clip(steps.ravel(), 0, 2**23 - 1) * 2.0**-23, jnp.float32)


def test_no_episode_starts_in_a_state_of_probability_0(sparse, monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key: key)
    env = from_mdp(mdps.random_walk(len(sparse))._replace(initial=sparse), max_steps=9)
    obs, _ = jax.vmap(env.reset)(near_the_steps(sparse))
    assert (sparse[obs] > 0).all()
    assert len(np.unique(obs)) == (sparse > 0).sum()


def test_no_outcome_of_probability_0_occurs(sparse, monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key: key)
    shape = (1, 1, len(sparse))
    rewards = jnp.arange(len(sparse), dtype=jnp.float32).reshape(shape)
    one_state = mdps.MDP(jnp.zeros(shape), sparse.reshape(shape), rewards, jnp.zeros(shape, bool), jnp.ones(1))
    env = from_mdp(one_state, max_steps=9)
    _, env_state = env.reset(jnp.float32(0))
    steps = jax.vmap(lambda key: env.step(key, env_state, 0))(near_the_steps(sparse))
    assert (sparse[steps.reward.astype(int)] > 0).all()


def test_time_runs_out_only_where_nothing_ended(mdp):
    env = from_mdp(mdp, max_steps=3)
    _, state = env.reset(jax.random.key(0))
    state = state._replace(state=jnp.int32(2))
    seen = []
    for action in (0, 0, 0):
        step = env.step(jax.random.key(1), state, action)
        state = step.env_state
        seen.append((bool(step.terminated), bool(step.truncated)))
    assert seen == [(False, False), (False, False), (False, True)]
    step = env.step(jax.random.key(1), state._replace(time=jnp.int32(2)), 1)
    assert (bool(step.terminated), bool(step.truncated)) == (True, False)


def test_another_mdp_takes_its_place(mdp):
    env = from_mdp(mdp, max_steps=3)
    rewards = jnp.stack([mdp.reward, 10 * mdp.reward])
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mdp)._replace(reward=rewards)
    _, state = env.reset(jax.random.key(0))
    state = state._replace(state=jnp.int32(2))
    step = jax.vmap(lambda params: env.step(jax.random.key(0), state, 1, params))(stack)
    np.testing.assert_array_equal(step.reward, [3, 30])
    with pytest.raises(ValueError, match="env_params"):
        env.step(jax.random.key(0), state, 1, mdps.gridworld_3x4())


def test_bad_input_is_refused(mdp):
    with pytest.raises(ValueError, match="max_steps"):
        from_mdp(mdp, 0)
    with pytest.raises(ValueError, match="state 0, action 0"):
        from_mdp(mdp._replace(probability=mdp.probability / 2), 5)
