"""Exploration noise that lasts over steps: Ornstein-Uhlenbeck and generalized state-dependent exploration (gSDE).

An agent keeps the noise of one environment in `Agent.memory`, so each environment has its own noise, which is drawn
again at the start of every episode:

    def memory(key, state):                             # key=None: the greedy agent, without noise
        shape = action_space.shape
        return jnp.zeros(shape) if key is None else ou_stationary(key, shape, theta, sigma)

    def act(key, state, obs, memory):
        action = policy(state.params, obs)
        if key is None:
            return action, (), memory
        noise = ou_noise(key, memory, theta, sigma)
        return jnp.clip(action + noise, low, high), (), noise

With gSDE the memory is the matrix of `gsde_weights`, constant over an episode, and the noise is
`gsde_noise(features, weights)`; a loss scores actions by a Gaussian with the log standard deviation `gsde_log_std`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def ou_noise(
    key: jax.Array,
    noise: jax.Array,
    theta: float | jax.Array = 0.15,
    sigma: float | jax.Array = 0.2,
    dt: float | jax.Array = 1.0,
) -> jax.Array:
    """The next value of an Ornstein-Uhlenbeck process, dx = −θ x dt + σ dW, from its exact transition.

    x' = ρ x + s ε, ρ = exp(−θ dt), s² = σ² (1 − ρ²) / (2θ) (σ² dt if θ = 0), ε standard normal. The stationary
    variance is σ² / (2θ) and the autocorrelation after k steps exp(−k θ dt), whatever dt.

    Args:
      key: PRNG key.
      noise: [...] floating, x.
      theta: scalar θ ≥ 0, the rate of decay, per unit of time.
      sigma: scalar or [...], σ ≥ 0, in units of the noise per √time.
      dt: scalar, length of a step in units of time.

    Returns:
      [...] x'.

    Raises:
      AssertionError: noise is not floating.

    Gradient: nothing is stopped.

    Source: Uhlenbeck & Ornstein (1930); as exploration Lillicrap et al. 2016, arXiv:1509.02971, section 7 (θ = 0.15,
    σ = 0.2). Common code takes an Euler step, x' = (1 − θ dt) x + σ √dt ε, whose variance is larger.

    Examples:
      >>> from purerl.exploration import noise
      >>> x = noise.ou_noise(jax.random.key(0), jnp.array([1.0]), theta=0.5, sigma=0.0)
      >>> [round(v, 3) for v in x.tolist()]  # exp(−0.5)
      [0.607]
    """
    chex.assert_type(noise, float)
    theta, sigma, dt = (jnp.asarray(x, noise.dtype) for x in (theta, sigma, dt))
    epsilon = jax.random.normal(key, noise.shape, noise.dtype)
    rate = jnp.where(theta == 0, 1.0, 2.0 * theta)
    variance = jnp.where(theta == 0, dt, -jnp.expm1(-2.0 * theta * dt) / rate)
    return jnp.exp(-theta * dt) * noise + sigma * jnp.sqrt(variance) * epsilon


def ou_stationary(
    key: jax.Array, shape: tuple[int, ...], theta: float | jax.Array = 0.15, sigma: float | jax.Array = 0.2
) -> jax.Array:
    """A sample of the stationary distribution of `ou_noise`, after which every value has the same variance.

    x ~ N(0, σ² / (2θ)).

    Args:
      key: PRNG key.
      shape: shape of the noise.
      theta: scalar θ > 0.
      sigma: scalar or `shape`, σ ≥ 0.

    Returns:
      `shape`, default float.

    Gradient: nothing is stopped.

    Source: Uhlenbeck & Ornstein (1930), the limit of their eq. 9.

    Examples:
      >>> from purerl.exploration import noise
      >>> noise.ou_stationary(jax.random.key(0), (3,)).shape
      (3,)
    """
    return sigma / jnp.sqrt(2.0 * jnp.asarray(theta)) * jax.random.normal(key, shape)


def gsde_weights(key: jax.Array, log_std: jax.Array) -> jax.Array:
    """The exploration matrix of gSDE, drawn once and kept for an episode (or for n steps).

    W[i, j] = exp(log_std[i, j]) · ε[i, j], ε standard normal.

    Args:
      key: PRNG key.
      log_std: [D, A] floating, learned log standard deviations.

    Returns:
      [D, A] W.

    Raises:
      AssertionError: log_std is not floating, or not [D, A].

    Gradient: nothing is stopped.

    Source: Raffin et al. 2022, arXiv:2005.05719, section 3.

    Examples:
      >>> from purerl.exploration import noise
      >>> noise.gsde_weights(jax.random.key(0), log_std=jnp.zeros((4, 2))).shape
      (4, 2)
    """
    chex.assert_rank(log_std, 2)
    chex.assert_type(log_std, float)
    return jnp.exp(log_std) * jax.random.normal(key, log_std.shape, log_std.dtype)


def gsde_noise(features: jax.Array, weights: jax.Array) -> jax.Array:
    """The noise of gSDE in a state; the same state has the same noise as long as the matrix is kept.

    n = zᵀ W.

    Args:
      features: [..., D] floating, z, the policy's last hidden layer (its gradient is commonly stopped).
      weights: [D, A], from `gsde_weights`.

    Returns:
      [..., A] noise, added to the mean of the policy.

    Raises:
      AssertionError: features is not floating, or D differs.

    Gradient: nothing is stopped.

    Source: Raffin et al. 2022, arXiv:2005.05719, eq. 3.

    Examples:
      >>> from purerl.exploration import noise
      >>> print(noise.gsde_noise(jnp.array([1.0, 2.0]), weights=jnp.array([[0.5], [0.25]])))
      [1.]
    """
    chex.assert_type(features, float)
    chex.assert_axis_dimension(features, -1, weights.shape[0])
    return features @ weights


def gsde_log_std(features: jax.Array, log_std: jax.Array) -> jax.Array:
    """The log standard deviation of gSDE's noise in a state, over draws of the matrix.

    log σ[j] = ½ log(Σ_i z[i]² exp(2 log_std[i, j]) + 1e-6).

    Args:
      features: [..., D] floating, z.
      log_std: [D, A].

    Returns:
      [..., A] log σ, of the diagonal Gaussian that evaluates actions.

    Raises:
      AssertionError: features is not floating, or D differs.

    Gradient: nothing is stopped.

    Source: Raffin et al. 2022, arXiv:2005.05719, eq. 5, with 1e-6 inside the logarithm as in their code.

    Examples:
      >>> from purerl.exploration import noise
      >>> log_std = noise.gsde_log_std(jnp.array([3.0, 4.0]), log_std=jnp.zeros((2, 1)))
      >>> [round(x, 3) for x in jnp.exp(log_std).tolist()]
      [5.0]
    """
    chex.assert_type(features, float)
    chex.assert_axis_dimension(features, -1, log_std.shape[0])
    return 0.5 * jnp.log(jnp.square(features) @ jnp.exp(2 * log_std) + 1e-6)
