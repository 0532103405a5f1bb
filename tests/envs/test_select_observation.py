"""Partial observations: what is kept, and CartPole without its velocities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import envs
from purerl.spaces import Box


def test_select_observation_keeps_the_named_elements_and_nothing_else(cartpole):
    env = envs.select_observation(cartpole, (2, 0))
    key = jax.random.key(0)
    whole, state = cartpole.reset(key)
    obs, partial_state = env.reset(key)
    np.testing.assert_array_equal(obs, whole[jnp.array([2, 0])])
    whole, part = cartpole.step(key, state, jnp.int32(1)), env.step(key, partial_state, jnp.int32(1))
    np.testing.assert_array_equal(part.obs, whole.obs[jnp.array([2, 0])])
    jax.tree.map(np.testing.assert_array_equal, part._replace(obs=()), whole._replace(obs=()))
    low, high = cartpole.observation_space.bounds()
    assert env.observation_space == Box((low[2], low[0]), (high[2], high[0]), (2,))
    assert env is envs.select_observation(cartpole, (2, 0))


def test_select_observation_says_what_is_wrong(cartpole):
    with pytest.raises(ValueError, match=r"indices must be some of 0, \.\.\., 3; got \(4,\)"):
        envs.select_observation(cartpole, (4,))
    with pytest.raises(ValueError, match=r"indices must be some of 0, \.\.\., 3; got \(0\.0, 1\.0\)"):
        envs.select_observation(cartpole, (0.0, 1.0))
    with pytest.raises(ValueError, match=r"indices must be some of 0, \.\.\., 3; got \(True, False\)"):
        envs.select_observation(cartpole, (True, False))
    with pytest.raises(TypeError, match="needs observations that are vectors"):
        envs.select_observation(envs.make("Breakout-MinAtar"), (0,))


def test_cartpole_without_velocities_goes_by_a_name(cartpole):
    env = envs.make("PositionCartPole-v1", gravity=5.0)
    assert env.observation_space.shape == (2,)
    assert envs.env_params("PositionCartPole-v1", gravity=5.0).gravity == 5.0
