"""Networks of real actions: bounds, units, spread at the start, images, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import networks
from purerl.spaces import Box, Discrete
from purerl.types import Env

BUILDERS = [networks.gaussian_actor, networks.deterministic_actor, networks.critic]
FLAT, ACTIONS = Box(-1.0, 1.0, (3,)), Box((-2.0, 0.0), (4.0, 1.0), (2,))


def fake_env(observation_space=FLAT, action_space=ACTIONS):
    return Env(None, None, observation_space, action_space)


def test_a_gaussian_actor_starts_centred_with_deviation_one_and_keeps_its_deviation_in_bounds():
    actor, obs = networks.gaussian_actor(fake_env(), (8,)), jnp.array([0.5, -1.0, 0.3])
    params = jax.jit(actor.init)(jax.random.key(0), obs)
    policy = actor.apply(params, obs)
    np.testing.assert_allclose(policy.mode(), [1.0, 0.5], atol=0.05)
    np.testing.assert_allclose(policy.base.log_std, 0.0, atol=0.05)
    params["params"]["log_std"]["bias"] = jnp.array([1e6, -1e6])
    np.testing.assert_allclose(actor.apply(params, obs).base.log_std, [2.0, -5.0], rtol=1e-6)
    samples = jax.jit(jax.vmap(lambda key: policy.sample(seed=key)))(jax.random.split(jax.random.key(1), 100))
    assert ((samples >= jnp.array([-2.0, 0.0])) & (samples <= jnp.array([4.0, 1.0]))).all()


def test_a_deterministic_actor_reaches_the_bounds_and_not_beyond():
    actor, obs = networks.deterministic_actor(fake_env(), ()), jnp.array([1.0, 0.0, 0.0])
    params = jax.jit(actor.init)(jax.random.key(0), obs)
    np.testing.assert_allclose(actor.apply(params, obs), [1.0, 0.5], atol=0.05)
    params["params"]["mean"]["kernel"] = jnp.array([[1e3, -1e3], [0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(actor.apply(params, obs), [4.0, 0.0])


def test_a_critic_sees_actions_scaled_to_one():
    """Without hidden layers q = w · (s, scaled a) + c, so the slope in a is w over half the width of the bounds."""
    critic, obs = networks.critic(fake_env(), ()), jnp.array([0.5, -1.0, 0.3])
    params = jax.jit(critic.init)(jax.random.key(0), obs, jnp.zeros(2))
    weights = params["params"]["q"]["kernel"][:, 0]
    slope = jax.grad(critic.apply, argnums=2)(params, obs, jnp.array([1.0, 0.2]))
    np.testing.assert_allclose(slope, weights[3:] / jnp.array([3.0, 0.5]), rtol=1e-5)
    np.testing.assert_allclose(critic.apply(params, obs, jnp.array([1.0, 0.5])), obs @ weights[:3], rtol=1e-5)


def test_images_pass_a_convolution_whose_action_joins_after_it():
    env = fake_env(Box(0.0, 1.0, (5, 5, 2)))
    obs, action, key = jnp.ones((5, 5, 2)), jnp.ones(2), jax.random.key(0)
    critic = networks.critic(env, (4,))
    q, params = jax.eval_shape(lambda: critic.init_with_output(key, obs, action))
    assert params["params"]["torso"]["Dense_0"]["kernel"].shape == (3 * 3 * 16 + 2, 4)
    assert q.shape == ()
    policy, _ = jax.eval_shape(lambda: networks.gaussian_actor(env, (4,), dtype="bfloat16").init_with_output(key, obs))
    assert policy.base.mean.dtype == policy.base.log_std.dtype == jnp.float32


@pytest.mark.parametrize("build", BUILDERS)
def test_what_does_not_fit_is_refused(build):
    with pytest.raises(TypeError, match="action_space must be a Box with finite bounds, got Discrete"):
        build(fake_env(action_space=Discrete(3)))
    with pytest.raises(TypeError, match="action_space must be a Box with finite bounds"):
        build(fake_env(action_space=Box(-np.inf, 1.0, (1,))))
    with pytest.raises(ValueError, match=r"action_space has low == high == 0\.5 in element 1"):
        build(fake_env(action_space=Box((-1.0, 0.5), (1.0, 0.5), (2,))))
    with pytest.raises(ValueError, match="activation must be one of"):
        build(fake_env(), activation="relux")
    with pytest.raises(ValueError, match="hidden must hold positive widths"):
        build(fake_env(), hidden=(0,))


def test_an_action_of_another_shape_is_named():
    critic = networks.critic(fake_env(), (4,))
    with pytest.raises(ValueError, match=r"action has shape \(1,\), but the network was built for \(2,\)"):
        critic.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))
