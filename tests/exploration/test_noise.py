"""Lasting noise: its moments against closed forms, on draws and by exact composition of the transition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.exploration import noise


@pytest.mark.parametrize(("theta", "sigma", "dt"), [(0.15, 0.2, 1.0), (2.0, 0.7, 0.05)])
def test_ou_has_the_stationary_variance_and_autocorrelation_of_the_process(theta, sigma, dt):
    """20,000 independent paths of 12 steps: standard error of a correlation 0.007."""
    start = noise.ou_stationary(jax.random.key(0), (20_000,), theta, sigma)

    def step(x, key):
        x = noise.ou_noise(key, x, theta, sigma, dt)
        return x, x

    _, path = jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 12))
    path = np.concatenate([start[None], path])
    np.testing.assert_allclose(path.var(axis=1), sigma**2 / (2 * theta), rtol=0.05)
    for lag in (1, 5, 12):
        assert np.corrcoef(path[0], path[lag])[0, 1] == pytest.approx(np.exp(-theta * dt * lag), abs=0.03)


def moments(theta, sigma, dt, x=1.0):
    """Mean and standard deviation of one step, read off exactly: the step is affine in x and in its normal draw."""
    key = jax.random.key(3)
    epsilon = jax.random.normal(key, (1,))
    at = [float(noise.ou_noise(key, jnp.array([x]), theta, s, dt)[0]) for s in (0.0, sigma)]
    return at[0], (at[1] - at[0]) / float(epsilon[0])


def test_ou_over_one_long_step_equals_many_short_ones():
    theta, sigma = 0.4, 0.3
    mean, variance = 1.0, 0.0
    for _ in range(10):
        decay, std = moments(theta, sigma, 0.2)
        mean, variance = mean * decay, variance * decay**2 + std**2
    long_mean, long_std = moments(theta, sigma, 2.0)
    np.testing.assert_allclose([long_mean, long_std**2], [mean, variance], rtol=1e-4)


def test_ou_without_pull_is_a_random_walk_and_takes_traced_parameters():
    mean, std = moments(0.0, 0.5, 0.25)
    np.testing.assert_allclose([mean, std], [1.0, 0.25], rtol=1e-5)
    step = jax.jit(noise.ou_noise)
    key, x = jax.random.key(0), jnp.ones(3)
    np.testing.assert_allclose(step(key, x, 0.15, 0.2, 1.0), noise.ou_noise(key, x), rtol=1e-6)
    assert step(key, x, 0.0, 0.2, 1.0).dtype == jnp.float32


def test_gsde_noise_is_a_function_of_the_state_with_the_stated_deviation():
    log_std = jnp.log(jnp.array([[0.5, 1.0], [2.0, 0.1], [1.0, 0.3]]))
    features = jnp.array([[1.0, -0.5, 0.2], [0.0, 2.0, -1.0]])
    weights = jax.vmap(noise.gsde_weights, (0, None))(jax.random.split(jax.random.key(0), 20_000), log_std)
    draws = jax.vmap(noise.gsde_noise, (None, 0))(features, weights)
    expected = np.exp(noise.gsde_log_std(features, log_std))
    by_hand = np.sqrt(np.square(features) @ np.square(np.exp(log_std)))
    np.testing.assert_allclose(expected, by_hand, rtol=1e-4)
    np.testing.assert_allclose(np.std(draws, axis=0), expected, rtol=0.03)
    np.testing.assert_array_equal(draws[0], noise.gsde_noise(features, weights[0]))


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        noise.gsde_noise(jnp.ones(4), jnp.ones((3, 2)))
    with pytest.raises(AssertionError):
        noise.ou_noise(jax.random.key(0), jnp.zeros(2, jnp.int32))


def test_the_noise_keeps_its_dtype_beside_wider_parameters():
    wide = jnp.float32(0.2)
    assert noise.ou_noise(jax.random.key(0), jnp.zeros(2, jnp.bfloat16), wide, wide, wide).dtype == jnp.bfloat16
