"""Soft actor-critic with gSDE: noise that is a function of the state, its distribution, and what learns it."""

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import pytest

import purerl
from purerl import envs, networks
from purerl.spaces import Box
from purerl.types import Env

ENV = Env(None, None, Box(-10.0, 10.0, (2,)), Box(linear.LOW, linear.HIGH, (1,)))
OBS = jnp.array([[0.3, -0.4], [1.0, 0.5]])


ACTOR = networks.gsde_actor(ENV, (8,), initial_std=0.5)


@pytest.fixture(scope="module")
def agent():
    return purerl.sac(ACTOR, linear.Critic(), exploration="gsde")


@pytest.fixture(scope="module")
def state(agent):
    hparams = purerl.SACHparams(actor_learning_rate=1e-2, discount=0.8, temperature=100.0, noise_theta=0.0)
    return jax.jit(agent.init)(jax.random.key(0), purerl.hparams.cast(hparams), OBS[0])


def pieces(state):
    """Features [2, 8] of the two observations, means [2], and the deviations [8] of the matrix, float64."""
    params = linear.to_numpy(state.params.actor["params"])
    dense, mean = params["torso"]["Dense_0"], params["mean"]
    features = np.maximum(np.asarray(OBS, float) @ dense["kernel"] + dense["bias"], 0)
    return features, (features @ mean["kernel"] + mean["bias"])[:, 0], np.exp(params["log_std"][:, 0])


def raw(action):
    """Actions before they were squashed."""
    return np.arctanh(np.asarray(action, float) / linear.HIGH)


def test_over_episodes_the_noise_has_the_spread_and_the_correlation_of_a_random_linear_map(agent, state):
    @jax.jit
    def episode(keys, state):
        memory = jax.vmap(agent.memory, (0, None))(keys, state)
        act = jax.vmap(jax.vmap(lambda m, o: agent.act(keys[0], state, o, m)[0], (None, 0)), (0, None))
        return memory, act(memory, OBS)[..., 0], jax.vmap(ACTOR.apply, (None, 0))(state.params.actor, OBS).base

    memory, actions, base = episode(jax.random.split(jax.random.key(1), 4000), state)
    assert memory.shape == (4000, 8, 1)
    features, mean, std = pieces(state)
    np.testing.assert_allclose(std, 0.5, rtol=1e-6)
    covariance = (features * std**2) @ features.T
    np.testing.assert_allclose(raw(actions).mean(0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(raw(actions).T), covariance, atol=0.06 * covariance.max())
    np.testing.assert_allclose(np.exp(base.log_std[:, 0]), np.sqrt(np.diag(covariance)), rtol=1e-3)
    np.testing.assert_allclose(base.mean[:, 0], mean, atol=1e-6)


def test_within_an_episode_the_same_state_has_the_same_noise_or_one_that_forgets_at_the_rate_asked_for(agent, state):
    @jax.jit
    def steps(keys, theta):
        moved = state._replace(hparams=state.hparams._replace(noise_theta=theta))

        def episode(key):
            def step(memory, key):
                action, _, memory = agent.act(key, moved, OBS[0], memory)
                return memory, action[0]

            return jax.lax.scan(step, agent.memory(key, moved), jax.random.split(key, 5))[1]

        return jax.vmap(episode)(keys)

    keys = jax.random.split(jax.random.key(1), 3000)
    constant, forgetting = steps(keys, 0.0), raw(steps(keys, 0.2))
    np.testing.assert_array_equal(constant, jnp.broadcast_to(constant[:, :1], constant.shape))
    np.testing.assert_allclose(np.corrcoef(forgetting.T)[0], np.exp(-0.2 * np.arange(5)), atol=0.06)


def test_greed_is_the_mean(agent, state):
    action, _, still = jax.jit(lambda state: agent.act(None, state, OBS[0], agent.memory(None, state)))(state)
    np.testing.assert_allclose(raw(action)[0], pieces(state)[1][0], atol=1e-6)
    assert (still == 0).all()


def test_learning_reaches_the_deviations_of_the_matrix(agent, state):
    """A large temperature asks for entropy: every deviation grows whose feature is on somewhere in the batch."""
    data = linear.window()
    new, _ = jax.jit(agent.update)(jax.random.key(0), state, data)
    dense = linear.to_numpy(state.params.actor["params"]["torso"]["Dense_0"])
    on = (np.asarray(data.obs[0], float) @ dense["kernel"] + dense["bias"]).max(0) > 0
    grown = (new.params.actor["params"]["log_std"] > state.params.actor["params"]["log_std"])[:, 0]
    assert on.any()
    np.testing.assert_array_equal(grown, on)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="needs an actor with noise_shape, such as gsde_actor"):
        purerl.sac(linear.GaussianActor(), linear.Critic(), exploration="gsde")
    with pytest.raises(ValueError, match="hidden must have a layer"):
        networks.gsde_actor(ENV, ())
    with pytest.raises(ValueError, match="initial_std must be above 0, got 0"):
        networks.gsde_actor(ENV, initial_std=0.0)
    with pytest.raises(TypeError, match="finite bounds"):
        networks.gsde_actor(envs.probe())
