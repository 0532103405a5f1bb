"""Choosing arms of bandits: upper confidence bounds, gradient bandits and Thompson sampling.

Arms are on the last axis. The chosen arms are int32 and have no gradient.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.exploration.selection import greedy


def ucb1_scores(value: jax.Array, count: jax.Array, exploration: float | jax.Array = 2**0.5) -> jax.Array:
    """Upper confidence bounds of the arms of a bandit.

    u[a] = v[a] + c · √(log t / n[a]) with t = Σ n; ∞ where n[a] = 0.

    Args:
      value: [..., A] floating, v: mean reward of each arm; free where it is untried.
      count: [..., A], n: number of times each arm was tried.
      exploration: scalar c ≥ 0, in the units of the reward; √2 is UCB1's for rewards in [0, 1].

    Returns:
      [..., A] scores.

    Raises:
      AssertionError: shapes differ, or value is not floating.

    Gradient: nothing is stopped.

    Source: Auer, Cesa-Bianchi & Fischer (2002), "Finite-time analysis of the multiarmed bandit problem", figure 1.

    Examples:
      >>> from purerl import exploration
      >>> value, count = jnp.array([0.5, 0.2, 0.0]), jnp.array([9.0, 1.0, 0.0])
      >>> [round(x, 2) for x in exploration.ucb1_scores(value, count).tolist()]
      [1.22, 2.35, inf]
    """
    chex.assert_equal_shape([value, count])
    chex.assert_type(value, float)
    count = jnp.asarray(count, value.dtype)
    total = jnp.maximum(count.sum(axis=-1, keepdims=True), 1)
    bonus = exploration * jnp.sqrt(jnp.log(total) / jnp.maximum(count, 1))
    return jnp.where(count == 0, jnp.inf, value + bonus)


def ucb1(
    key: jax.Array | None, value: jax.Array, count: jax.Array, exploration: float | jax.Array = 2**0.5
) -> jax.Array:
    """The arm of the highest upper confidence bound; untried arms come first.

    a ∈ argmax_a `ucb1_scores`.

    Args:
      key: PRNG key that splits ties, or None for the first of the maxima.
      value: [..., A] floating, mean reward of each arm.
      count: [..., A], number of times each arm was tried.
      exploration: scalar c ≥ 0, in the units of the reward.

    Returns:
      [...] int32 arms.

    Raises:
      AssertionError: shapes differ, or value is not floating.

    Gradient: none.

    Source: Auer, Cesa-Bianchi & Fischer (2002), figure 1.

    Examples:
      >>> from purerl import exploration
      >>> int(exploration.ucb1(None, value=jnp.array([0.5, 0.2]), count=jnp.array([9.0, 1.0])))
      1
    """
    return greedy(key, ucb1_scores(value, count, exploration))


def gradient_bandit_update(
    preference: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    baseline: float | jax.Array,
    step_size: float | jax.Array,
) -> jax.Array:
    """One step of stochastic gradient ascent on the expected reward of a softmax policy.

    H'[b] = H[b] + α · (r − r̄) · (1{b = a} − π[b]), with π = softmax(H), from which actions are drawn (`boltzmann`, τ
    = 1).

    Args:
      preference: [..., A] floating, H.
      action: [...] integer, a.
      reward: [...], r.
      baseline: scalar or [...], r̄, the mean reward so far.
      step_size: scalar α > 0.

    Returns:
      [..., A] the next preferences. Their sum does not change.

    Raises:
      AssertionError: shapes differ, preference is not floating, or action is not integer.

    Gradient: nothing is stopped.

    Source: Sutton & Barto (2018), eq. 2.12.

    Examples:
      >>> from purerl import exploration
      >>> action, reward = jnp.int32(0), jnp.float32(3.0)
      >>> print(exploration.gradient_bandit_update(jnp.zeros(2), action, reward, baseline=1.0, step_size=0.5))
      [ 0.5 -0.5]
    """
    chex.assert_type([preference, action], [float, int])
    chex.assert_shape([action, reward], preference.shape[:-1])
    taken = jax.nn.one_hot(action, preference.shape[-1], dtype=preference.dtype)
    scale = jnp.asarray(step_size * (reward - baseline))
    return preference + scale[..., None] * (taken - jax.nn.softmax(preference))


def thompson_bernoulli(
    key: jax.Array,
    successes: jax.Array,
    failures: jax.Array,
    prior_successes: float | jax.Array = 1.0,
    prior_failures: float | jax.Array = 1.0,
) -> jax.Array:
    """Thompson sampling of arms that pay 0 or 1: an arm is chosen with the probability that it is the best.

    θ[a] ~ Beta(α₀ + s[a], β₀ + f[a]), a = argmax θ.

    Args:
      key: PRNG key.
      successes: [..., A] floating, s: rewards of 1 so far.
      failures: [..., A], f: rewards of 0 so far.
      prior_successes, prior_failures: scalars α₀, β₀ > 0; 1 and 1 are uniform.

    Returns:
      [...] int32 arms.

    Raises:
      AssertionError: shapes differ, or successes is not floating.

    Gradient: none.

    Source: Thompson (1933); Chapelle & Li (2011), algorithm 2.

    Examples:
      >>> from purerl import exploration
      >>> successes, failures = jnp.array([1.0, 9999.0]), jnp.array([9999.0, 1.0])
      >>> int(exploration.thompson_bernoulli(jax.random.key(0), successes, failures))
      1
    """
    chex.assert_equal_shape([successes, failures])
    chex.assert_type(successes, float)
    draw = jax.random.beta(key, prior_successes + successes, prior_failures + failures)
    return jnp.argmax(draw, axis=-1).astype(jnp.int32)


def gaussian_posterior(
    total: jax.Array,
    count: jax.Array,
    noise_variance: float | jax.Array = 1.0,
    prior_mean: float | jax.Array = 0.0,
    prior_variance: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Posterior of the mean of each arm whose rewards are Gaussian with known variance.

    v[a] = 1 / (1/σ₀² + n[a]/σ²), m[a] = v[a] · (μ₀/σ₀² + S[a]/σ²).

    Args:
      total: [..., A] floating, S: sum of the rewards of each arm.
      count: [..., A], n: number of times each arm was tried.
      noise_variance: scalar σ² > 0 of a reward.
      prior_mean, prior_variance: scalars μ₀ and σ₀² > 0; ∞ is the flat prior, under which an untried arm has infinite
        variance and a mean of μ₀.

    Returns:
      mean, variance: [..., A] each.

    Raises:
      AssertionError: shapes differ, or total is not floating.

    Gradient: nothing is stopped.

    Source: Bishop (2006), eq. 2.141 and 2.142.

    Examples:
      >>> from purerl import exploration
      >>> mean, variance = exploration.gaussian_posterior(total=jnp.array([6.0, 0.0]), count=jnp.array([2.0, 0.0]))
      >>> print(mean, [round(x, 3) for x in variance.tolist()])
      [2. 0.] [0.333, 1.0]
    """
    chex.assert_equal_shape([total, count])
    chex.assert_type(total, float)
    precision = 1 / jnp.asarray(prior_variance, total.dtype) + count / noise_variance
    known = precision > 0
    variance = jnp.where(known, 1 / jnp.where(known, precision, 1), jnp.inf)
    mean = prior_mean + (total - count * prior_mean) / noise_variance / jnp.where(known, precision, 1)
    return mean, variance


def thompson_gaussian(
    key: jax.Array,
    total: jax.Array,
    count: jax.Array,
    noise_variance: float | jax.Array = 1.0,
    prior_mean: float | jax.Array = 0.0,
    prior_variance: float | jax.Array = 1.0,
) -> jax.Array:
    """Thompson sampling of arms with Gaussian rewards of known variance.

    θ[a] ~ N(m[a], v[a]) of `gaussian_posterior`, a = argmax θ.

    Args:
      key: PRNG key.
      total: [..., A] floating, sum of the rewards of each arm.
      count: [..., A], number of times each arm was tried.
      noise_variance: scalar σ² > 0 of a reward.
      prior_mean, prior_variance: scalars μ₀ and σ₀² > 0, finite.

    Returns:
      [...] int32 arms.

    Raises:
      AssertionError: shapes differ, or total is not floating.

    Gradient: none.

    Source: Thompson (1933); Russo et al. (2018), "A tutorial on Thompson sampling", section 4.

    Examples:
      >>> from purerl import exploration
      >>> total, count = jnp.array([0.0, 9999.0]), jnp.array([9999.0, 9999.0])
      >>> int(exploration.thompson_gaussian(jax.random.key(0), total, count))
      1
    """
    mean, variance = gaussian_posterior(total, count, noise_variance, prior_mean, prior_variance)
    draw = mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)
    return jnp.argmax(draw, axis=-1).astype(jnp.int32)
