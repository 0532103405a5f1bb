"""Choosing actions while values are still uncertain.

Every rule works on one state, actions on the last axis, and vmaps. The actions are int32 and have no gradient.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from purerl.schedules import linear_schedule


def forbid(value: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Replace the values of invalid actions by −∞.

    Args:
      value: [..., A] floating.
      mask: [..., A], true where an action is valid; None: all are.

    Returns:
      [..., A].
    """
    chex.assert_type(value, float)
    if mask is None:
        return value
    chex.assert_equal_shape([value, mask])
    return jnp.where(jnp.asarray(mask, bool), value, -jnp.inf)


def annealed_epsilon(hparams: Any, num_updates: jax.Array) -> jax.Array:
    """Exploration probability ε of an agent after so many updates, linearly annealed.

    Args:
      hparams: with `initial_epsilon`, `epsilon` and `epsilon_anneal_updates`.
      num_updates: int scalar.

    Returns:
      A scalar.
    """
    return linear_schedule(num_updates, hparams.initial_epsilon, hparams.epsilon, hparams.epsilon_anneal_updates)


def greedy(key: jax.Array | None, value: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """The action of the highest value, one of them at random where several are equal.

    a ~ Uniform{a : v[a] = max v}.

    Args:
      key: PRNG key, or None for the first of the maxima.
      value: [..., A] floating, v.
      mask: [..., A], true where the action is valid.

    Returns:
      [...] int32 actions.

    Raises:
      AssertionError: value is not floating, or the mask's shape differs.

    Gradient: none.

    Source: Sutton & Barto (2018), eq. 2.2.
    """
    value = forbid(value, mask)
    if key is None:
        return jnp.argmax(value, axis=-1).astype(jnp.int32)
    return _random_member(key, value == value.max(axis=-1, keepdims=True))


def epsilon_greedy(
    key: jax.Array, q: jax.Array, epsilon: float | jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """A uniformly random action with probability ε, else a greedy one, ties split fairly.

    π(a) = ε / A + (1 − ε) · 1{a ∈ argmax q} / |argmax q|, with A the number of valid actions.

    Args:
      key: PRNG key.
      q: [..., A] floating.
      epsilon: scalar or [...], ε in [0, 1].
      mask: [..., A], true where the action is valid.

    Returns:
      [...] int32 actions.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: none.

    Source: Sutton & Barto (2018), section 2.2.
    """
    q = forbid(q, mask)
    explore_key, choice_key = jax.random.split(key)
    explore = jax.random.uniform(explore_key, q.shape[:-1]) < epsilon
    allowed = q > -jnp.inf
    best = q == q.max(axis=-1, keepdims=True)
    return _random_member(choice_key, jnp.where(explore[..., None], allowed, best))


def epsilon_greedy_probs(q: jax.Array, epsilon: float | jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """The probabilities of `epsilon_greedy`, as expected SARSA needs them.

    π(a) = ε / A + (1 − ε) · 1{a ∈ argmax q} / |argmax q|, with A the number of valid actions.

    Args:
      q: [..., A] floating.
      epsilon: scalar or [...], ε in [0, 1].
      mask: [..., A], true where the action is valid.

    Returns:
      [..., A] probabilities.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: none with respect to q; exact in epsilon.

    Source: Sutton & Barto (2018), section 2.2.
    """
    q = forbid(q, mask)
    epsilon = jnp.asarray(epsilon, q.dtype)[..., None]
    allowed = q > -jnp.inf
    best = q == q.max(axis=-1, keepdims=True)
    uniform = allowed / allowed.sum(axis=-1, keepdims=True)
    return epsilon * uniform + (1 - epsilon) * best / best.sum(axis=-1, keepdims=True)


def boltzmann_probs(q: jax.Array, temperature: float | jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Softmax of the values at a temperature.

    π(a) = softmax((q − max q) / τ)[a]; at τ = 0 the greedy policy with ties split fairly, at τ = ∞ the uniform one.

    Args:
      q: [..., A] floating.
      temperature: scalar or [...], τ ≥ 0, in the units of q.
      mask: [..., A], true where the action is valid.

    Returns:
      [..., A] probabilities.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: nothing is stopped; at τ = 0 it is 0, but unbounded between equal maxima.

    Source: Sutton & Barto (2018), eq. 13.2 with preferences q / τ.
    """
    return jax.nn.softmax(_boltzmann_logits(q, temperature, mask))


def boltzmann(key: jax.Array, q: jax.Array, temperature: float | jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """An action drawn from the softmax of the values at a temperature.

    a ~ softmax((q − max q) / τ).

    Args:
      key: PRNG key.
      q: [..., A] floating.
      temperature: scalar or [...], τ ≥ 0, in the units of q; 0 is greedy with ties split fairly.
      mask: [..., A], true where the action is valid.

    Returns:
      [...] int32 actions.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: none.

    Source: Sutton & Barto (2018), eq. 13.2 with preferences q / τ.
    """
    return jax.random.categorical(key, _boltzmann_logits(q, temperature, mask)).astype(jnp.int32)


def ucb1_scores(value: jax.Array, count: jax.Array, exploration: float | jax.Array = 2**0.5) -> jax.Array:
    """Upper confidence bounds of the arms of a bandit.

    u[a] = v[a] + c · √(log t / n[a]) with t = Σ n; ∞ where n[a] = 0.

    Args:
      value: [..., A] floating, v: mean reward of each arm; free where it is untried.
      count: [..., A], n: how often each arm was tried.
      exploration: scalar c ≥ 0, in the units of the reward; √2 is UCB1's for rewards in [0, 1].

    Returns:
      [..., A] scores.

    Raises:
      AssertionError: shapes differ, or value is not floating.

    Gradient: nothing is stopped.

    Source: Auer, Cesa-Bianchi & Fischer (2002), "Finite-time analysis of the multiarmed bandit problem", figure 1.
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
      count: [..., A], how often each arm was tried.
      exploration: scalar c ≥ 0, in the units of the reward.

    Returns:
      [...] int32 arms.

    Raises:
      AssertionError: shapes differ, or value is not floating.

    Gradient: none.

    Source: Auer, Cesa-Bianchi & Fischer (2002), figure 1.
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
    """
    chex.assert_type([preference, action], [float, int])
    chex.assert_shape([action, reward], preference.shape[:-1])
    taken = jax.nn.one_hot(action, preference.shape[-1], dtype=preference.dtype)
    scale = step_size * (reward - baseline)
    return preference + scale[..., None] * (taken - jax.nn.softmax(preference))


def thompson_bernoulli(
    key: jax.Array,
    successes: jax.Array,
    failures: jax.Array,
    prior_successes: float | jax.Array = 1.0,
    prior_failures: float | jax.Array = 1.0,
) -> jax.Array:
    """Thompson sampling of arms that pay 0 or 1: each arm is chosen as often as it is believed to be the best.

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
    """Belief in the mean of each arm whose rewards are Gaussian of known variance.

    v[a] = 1 / (1/σ₀² + n[a]/σ²), m[a] = v[a] · (μ₀/σ₀² + S[a]/σ²).

    Args:
      total: [..., A] floating, S: sum of the rewards of each arm.
      count: [..., A], n: how often each arm was tried.
      noise_variance: scalar σ² > 0 of a reward.
      prior_mean, prior_variance: scalars μ₀ and σ₀² > 0; ∞ is the flat prior, under which an untried arm has infinite
        variance and a mean of μ₀.

    Returns:
      mean, variance: [..., A] each.

    Raises:
      AssertionError: shapes differ, or total is not floating.

    Gradient: nothing is stopped.

    Source: Bishop (2006), eq. 2.141 and 2.142.
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
      count: [..., A], how often each arm was tried.
      noise_variance: scalar σ² > 0 of a reward.
      prior_mean, prior_variance: scalars μ₀ and σ₀² > 0, finite.

    Returns:
      [...] int32 arms.

    Raises:
      AssertionError: shapes differ, or total is not floating.

    Gradient: none.

    Source: Thompson (1933); Russo et al. (2018), "A tutorial on Thompson sampling", section 4.
    """
    mean, variance = gaussian_posterior(total, count, noise_variance, prior_mean, prior_variance)
    draw = mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)
    return jnp.argmax(draw, axis=-1).astype(jnp.int32)


def _boltzmann_logits(q: jax.Array, temperature: float | jax.Array, mask: jax.Array | None) -> jax.Array:
    q = forbid(q, mask)
    temperature = jnp.maximum(jnp.asarray(temperature, q.dtype), jnp.finfo(q.dtype).tiny)
    shifted = q - jax.lax.stop_gradient(q.max(axis=-1, keepdims=True))
    return jnp.maximum(shifted / temperature[..., None], jnp.finfo(q.dtype).min)


def _random_member(key: jax.Array, members: jax.Array) -> jax.Array:
    """One of the true entries on the last axis, each with the same probability."""
    noise = jax.random.uniform(key, members.shape)
    return jnp.argmax(jnp.where(members, noise, -1), axis=-1).astype(jnp.int32)
