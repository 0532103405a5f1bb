"""Entropies and divergences of policies: exact if the distributions are known, estimated from samples if not."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from purerl.losses.ratios import k3
from purerl.returns.recursion import same_shape


def kl_estimate(log_prob: jax.Array, ref_log_prob: jax.Array, kind: str = "k3") -> jax.Array:
    """One-sample estimate of KL(π ‖ π_ref) from an action drawn from π.

    With l = log π_ref(a) − log π(a): k1 = −l (unbiased), k2 = ½ l² (biased, low variance), k3 = expm1(l) − l
    (unbiased, never negative). Beyond l = 20 k3 grows linearly, along its tangent, so that it and its gradient are
    finite however small π(a) is.

    Args:
      log_prob: [...] floating, log π(a) of a ~ π.
      ref_log_prob: [...], log π_ref(a).
      kind: "k1", "k2" or "k3".

    Returns:
      [...] estimates, in nats.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.
      ValueError: unknown kind.

    Gradient: nothing is stopped. As a loss on actions drawn from the current π, the expected gradient of k1 is 0 (it
    optimises nothing: use k1 inside the reward), that of k2 is ∇KL(π ‖ π_ref), and that of k3 is ∇KL(π_ref ‖ π), the
    other direction.

    Source: Schulman (2020), "Approximating KL divergence" (blog); k3 in a loss: Shao et al. (2024), "DeepSeekMath",
    eq. 4.

    Examples:
      >>> from purerl import losses
      >>> log_prob, ref_log_prob = jnp.array([-1.0]), jnp.array([-2.0])
      >>> [round(float(losses.kl_estimate(log_prob, ref_log_prob, kind)[0]), 3) for kind in ("k1", "k2", "k3")]
      [1.0, 0.5, 0.368]
    """
    same_shape(log_prob=log_prob, ref_log_prob=ref_log_prob)
    chex.assert_type(log_prob, float)
    log_ratio = ref_log_prob - log_prob
    if kind == "k1":
        return -log_ratio
    if kind == "k2":
        return 0.5 * jnp.square(log_ratio)
    if kind == "k3":
        return k3(log_ratio)
    raise ValueError(f"kind must be 'k1', 'k2' or 'k3', got kind = {kind!r}")


def categorical_entropy(logits: jax.Array) -> jax.Array:
    """Entropy of a categorical distribution.

    H = −Σ_a p_a · log p_a with p = softmax(logits); an action of probability 0 adds 0. Add −c · H to a loss for a
    bonus.

    Args:
      logits: [..., A] floating; −∞ (or the dtype's minimum) for an impossible action.

    Returns:
      [...] entropies, in nats.

    Raises:
      AssertionError: logits is not floating or has no axis.

    Gradient: nothing is stopped.

    Source: Shannon (1948); as a bonus Williams & Peng (1991), eq. 9.

    Examples:
      >>> from purerl import losses
      >>> round(float(losses.categorical_entropy(jnp.array([0.0, 0.0, -jnp.inf]))), 3)
      0.693
    """
    chex.assert_type(logits, float)
    chex.assert_axis_dimension_gt(logits, -1, 0)
    log_probs = _log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def gaussian_entropy(log_std: jax.Array, axis: int | tuple[int, ...] = -1) -> jax.Array:
    """Entropy of a Gaussian with diagonal covariance.

    H = Σ_i (log σ_i + ½ log 2πe).

    Args:
      log_std: [..., D] floating, log σ.
      axis: the axis or axes that make up one event.

    Returns:
      [...] differential entropies, in nats.

    Raises:
      AssertionError: log_std is not floating.

    Gradient: nothing is stopped.

    Source: Cover & Thomas (2006), theorem 8.4.1.

    Examples:
      >>> from purerl import losses
      >>> round(float(losses.gaussian_entropy(jnp.zeros(2))), 3)
      2.838
    """
    chex.assert_type(log_std, float)
    return jnp.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=axis)


def categorical_kl(logits: jax.Array, other_logits: jax.Array) -> jax.Array:
    """Exact divergence of two categorical distributions, as in TRPO's constraint.

    KL(p ‖ q) = Σ_a p_a · (log p_a − log q_a).

    Args:
      logits: [..., A] floating, of p, the distribution the expectation is under; −∞ for an impossible action.
      other_logits: [..., A], of q.

    Returns:
      [...] divergences, in nats.

    Raises:
      AssertionError: shapes differ, or logits is not floating.

    Gradient: nothing is stopped. It is exact: stop the side that is not trained. TRPO has p = old, q = new.

    Source: Schulman et al. (2015), "Trust region policy optimization", eq. 12.

    Examples:
      >>> from purerl import losses
      >>> round(float(losses.categorical_kl(jnp.array([0.0, -jnp.inf]), jnp.array([0.0, 0.0]))), 3)
      0.693
    """
    same_shape(logits=logits, other_logits=other_logits)
    chex.assert_type(logits, float)
    log_p, log_q = _log_softmax(logits), _log_softmax(other_logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def gaussian_kl(
    mean: jax.Array,
    log_std: jax.Array,
    other_mean: jax.Array,
    other_log_std: jax.Array,
    axis: int | tuple[int, ...] = -1,
) -> jax.Array:
    """Exact divergence of two Gaussians with diagonal covariance.

    KL(p ‖ q) = ½ Σ_i (expm1(2 (log σ_p − log σ_q)) − 2 (log σ_p − log σ_q) + ((μ_p − μ_q) / σ_q)²).

    Args:
      mean, log_std: [..., D] floating, of p, the distribution the expectation is under.
      other_mean, other_log_std: [..., D], of q.
      axis: the axis or axes that make up one event.

    Returns:
      [...] divergences, in nats.

    Raises:
      AssertionError: shapes differ, or mean is not floating.

    Gradient: nothing is stopped. It is exact: stop the side that is not trained. TRPO has p = old, q = new.

    Source: Schulman et al. (2015), "Trust region policy optimization", eq. 12, for Gaussians.

    Examples:
      >>> from purerl import losses
      >>> mean, log_std = jnp.zeros(2), jnp.zeros(2)
      >>> float(losses.gaussian_kl(mean, log_std, mean + 1, log_std))
      1.0
    """
    same_shape(mean=mean, log_std=log_std, other_mean=other_mean, other_log_std=other_log_std)
    chex.assert_type(mean, float)
    log_ratio = 2 * (log_std - other_log_std)
    distance = jnp.square((mean - other_mean) * jnp.exp(-other_log_std))
    return 0.5 * jnp.sum(jnp.expm1(log_ratio) - log_ratio + distance, axis=axis)


def _log_softmax(logits: jax.Array) -> jax.Array:
    """log softmax whose impossible actions are the dtype's minimum instead of −∞, so that 0 · log 0 is 0."""
    logits = jnp.asarray(logits)  # NumPy's float64 has a minimum that is −∞ in float32
    lowest = jnp.finfo(logits.dtype).min
    log_probs = jax.nn.log_softmax(jnp.maximum(logits, lowest))
    # In float16 the minimum less a logit may be −∞; in the other types it is the minimum again.
    return jnp.maximum(log_probs, lowest) if logits.dtype == jnp.float16 else log_probs
