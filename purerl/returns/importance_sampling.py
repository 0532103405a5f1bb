"""Returns weighted by importance ratios, time-major `[T, ...]`, of episodes from another policy.

`log_rho = log π(a|s) − log μ(a|s)` is the log importance ratio of the action taken, where π is the evaluated policy and
μ the one that acted. An episode ends where `discount` is 0, and at the end of the batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.returns.recursion import backward_scan, common, cut


def ordinary_importance_sampling(
    reward: jax.Array, discount: jax.Array | float, log_rho: jax.Array | float
) -> jax.Array:
    """Returns of whole episodes weighted by the ratio of the rest of the episode; their mean is unbiased.

    G[t] = r[t] + d[t] · G[t+1], W[t] = Π ρ from t to the end of its episode, X[t] = W[t] · G[t].

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − done): 0 wherever an episode ends. An episode ends at the end of the batch.
      log_rho: [T, ...] log importance ratios; −∞ for an action that π never takes.

    Returns:
      [T, ...] X. The mean over episodes of X at the first step estimates the value of the start.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.

    Gradient: nothing is stopped.

    Source: Sutton & Barto (2018), eq. 5.5.

    Examples:
      >>> from purerl import returns
      >>> print(returns.ordinary_importance_sampling(jnp.array([1.0, 2.0]), 0.5, log_rho=jnp.log(2.0)))
      [8. 4.]
    """
    returns, log_weight = _returns_and_log_weights(reward, discount, log_rho)
    return jnp.exp(log_weight) * returns


def weighted_importance_sampling(
    reward: jax.Array, discount: jax.Array | float, log_rho: jax.Array | float, axis: int = 1
) -> jax.Array:
    """Ordinary importance sampling with weights that average to 1 over the episodes: biased, of bounded variance.

    X[t, i] = N · W[t, i] / Σ_j W[t, j] · G[t, i], with W and G as in `ordinary_importance_sampling`.

    Args:
      reward: [T, N, ...] floating, one episode per column, all of which start at t = 0.
      discount: [T, N, ...], γ · (1 − done): 0 wherever an episode ends.
      log_rho: [T, N, ...] log importance ratios; −∞ for an action that π never takes.
      axis: the axis of the N episodes.

    Returns:
      [T, N, ...] X, whose mean over `axis` is the weighted estimate; 0 where every weight is 0.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.

    Gradient: nothing is stopped.

    Source: Sutton & Barto (2018), eq. 5.6.

    Examples:
      >>> from purerl import returns
      >>> reward, log_rho = jnp.array([[1.0, 3.0]]), jnp.log(jnp.array([[1.0, 3.0]]))
      >>> estimate = returns.weighted_importance_sampling(reward, jnp.zeros((1, 2)), log_rho).mean()
      >>> round(float(estimate), 3)  # (1 · 1 + 3 · 3) / (1 + 3)
      2.5
    """
    returns, log_weight = _returns_and_log_weights(reward, discount, log_rho)
    highest = jnp.max(log_weight, axis=axis, keepdims=True)
    weight = jnp.exp(log_weight - jnp.where(jnp.isfinite(highest), highest, 0))
    total = jnp.sum(weight, axis=axis, keepdims=True)
    return jnp.shape(weight)[axis] * weight / jnp.where(total == 0, 1, total) * returns


def per_decision_importance_sampling(
    reward: jax.Array, discount: jax.Array | float, log_rho: jax.Array | float
) -> jax.Array:
    """Returns in which each reward is weighted only by the ratios up to it; unbiased, with less variance than ordinary.

    X[t] = ρ[t] · (r[t] + d[t] · X[t+1]), with X[T] = 0.

    Args:
      reward: [T, ...] floating.
      discount: [T, ...], γ · (1 − done): 0 wherever an episode ends.
      log_rho: [T, ...] log importance ratios; −∞ for an action that π never takes.

    Returns:
      [T, ...] X. The mean over episodes of X at the first step estimates the value of the start.

    Raises:
      AssertionError: shapes differ, reward is not floating, or discount is boolean.

    Gradient: nothing is stopped.

    Source: Precup, Sutton & Singh (2000); Sutton & Barto (2018), section 5.9.

    Examples:
      >>> from purerl import returns
      >>> print(returns.per_decision_importance_sampling(jnp.array([1.0, 2.0]), 0.5, log_rho=jnp.log(2.0)))
      [6. 4.]
    """
    reward, discount, log_rho = common(reward=reward, discount=discount, log_rho=log_rho)
    rho = jnp.exp(log_rho)

    def step(x: jax.Array, r: jax.Array, trace: jax.Array) -> jax.Array:
        return r + trace * cut(x, trace)

    return backward_scan(step, jnp.zeros_like(reward[0]), rho * reward, rho * discount)


def _returns_and_log_weights(
    reward: jax.Array, discount: jax.Array | float, log_rho: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Reward-to-go, and the log of the product of the ratios from each step to the end of its episode."""
    reward, discount, log_rho = common(reward=reward, discount=discount, log_rho=log_rho)
    zero = jnp.zeros_like(reward[0])
    returns = backward_scan(lambda g, r, d: r + d * cut(g, d), zero, reward, discount)
    return returns, backward_scan(lambda w, l, d: l + cut(w, d), zero, log_rho, discount)
