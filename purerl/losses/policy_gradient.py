"""Policy-gradient losses, elementwise and to be minimised, with their entropies and divergences."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax


def reinforce(log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """Score-function loss, whose gradient is that of REINFORCE with any weight.

    L = −log π(a|s) · w. The weight w is the whole return of the episode (`returns.whole_returns`), the reward-to-go,
    either
    of them minus a baseline, or an advantage: all have the same expected gradient on whole episodes.

    Args:
      log_prob: [...] floating, log-probability of the action taken.
      advantage: [...], w.

    Returns:
      [...] losses.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: `advantage` is stopped.

    Source: Williams (1992), eq. 4; Sutton & Barto (2018), eq. 13.8 and 13.11, without their factor γᵗ.
    """
    chex.assert_equal_shape([log_prob, advantage])
    chex.assert_type(log_prob, float)
    return -log_prob * lax.stop_gradient(advantage)


def clipped_surrogate(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    clip_epsilon: float | jax.Array,
    clip_epsilon_high: float | jax.Array | None = None,
) -> jax.Array:
    """PPO's pessimistic surrogate: no gain from moving the ratio beyond the clip range.

    ρ = exp(log π − log π_old), L = −min(ρ · A, clip(ρ, 1 − ε, 1 + ε_high) · A).

    Args:
      log_prob: [...] floating, log-probability of the action under the policy being trained.
      old_log_prob: [...], the same under the policy that acted.
      advantage: [...], A.
      clip_epsilon: scalar ε ≥ 0.
      clip_epsilon_high: scalar ε_high; None takes ε (DAPO's "clip-higher" gives its own).

    Returns:
      [...] losses.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: `old_log_prob` and `advantage` are stopped.

    Source: Schulman et al. (2017), "Proximal policy optimization", eq. 7; ε_high: Yu et al. (2025), "DAPO", eq. 10.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    chex.assert_type(log_prob, float)
    high = clip_epsilon if clip_epsilon_high is None else clip_epsilon_high
    advantage = lax.stop_gradient(advantage)
    ratio = jnp.exp(log_prob - lax.stop_gradient(old_log_prob))
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip_epsilon, 1 + high) * advantage)


def clipped_value(
    value: jax.Array, old_value: jax.Array, value_target: jax.Array, clip_epsilon: float | jax.Array
) -> jax.Array:
    """Squared error of a value that gains nothing from moving further than ε from what it was.

    v_clip = clip(v, v_old − ε, v_old + ε), L = ½ · max((v − y)², (v_clip − y)²).

    Args:
      value: [...] floating, v.
      old_value: [...], v_old, the value when the data was collected.
      value_target: [...], y.
      clip_epsilon: scalar ε ≥ 0, in the units of the value; ∞ gives the plain ½ (v − y)².

    Returns:
      [...] losses.

    Raises:
      AssertionError: shapes differ, or value is not floating.

    Gradient: `old_value` and `value_target` are stopped.

    Source: OpenAI baselines, ppo2 (2017); no equation in the PPO paper.
    """
    chex.assert_equal_shape([value, old_value, value_target])
    chex.assert_type(value, float)
    old_value, value_target = lax.stop_gradient((old_value, value_target))
    clipped = jnp.clip(value, old_value - clip_epsilon, old_value + clip_epsilon)
    return 0.5 * jnp.maximum(jnp.square(value - value_target), jnp.square(clipped - value_target))


def kl_estimate(log_prob: jax.Array, ref_log_prob: jax.Array, kind: str = "k3") -> jax.Array:
    """One-sample estimate of KL(π ‖ π_ref) from an action drawn from π.

    With l = log π_ref(a) − log π(a): k1 = −l (unbiased), k2 = ½ l² (biased, low variance), k3 = expm1(l) − l
    (unbiased, never negative).

    Args:
      log_prob: [...] floating, log π(a) of a ~ π.
      ref_log_prob: [...], log π_ref(a).
      kind: "k1", "k2" or "k3".

    Returns:
      [...] estimates, in nats.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.
      ValueError: kind is none of the three.

    Gradient: nothing is stopped. As a loss on actions drawn from the current π, the expected gradient of k1 is 0 (it
    optimises nothing: use k1 inside the reward), that of k2 is ∇KL(π ‖ π_ref), and that of k3 is ∇KL(π_ref ‖ π), the
    other direction.

    Source: Schulman (2020), "Approximating KL divergence" (blog); k3 in a loss: Shao et al. (2024), "DeepSeekMath",
    eq. 4.
    """
    chex.assert_equal_shape([log_prob, ref_log_prob])
    chex.assert_type(log_prob, float)
    log_ratio = ref_log_prob - log_prob
    if kind == "k1":
        return -log_ratio
    if kind == "k2":
        return 0.5 * jnp.square(log_ratio)
    if kind == "k3":
        return jnp.expm1(log_ratio) - log_ratio
    raise ValueError(f"kind = {kind!r}: it must be 'k1', 'k2' or 'k3'")


def normalize(advantage: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Advantages shifted and scaled to mean 0 and standard deviation 1 over all axes.

    (x − mean) / (std + 10⁻⁸), with the population standard deviation (ddof 0).

    Args:
      advantage: [...] floating, x.
      mask: [...] of 0 and 1, or None: which entries count. The others become 0; an empty mask gives zeros.

    Returns:
      [...] normalised advantages.

    Raises:
      AssertionError: shapes differ, or advantage is not floating.

    Gradient: nothing is stopped, though at zero variance the derivative of the spread is taken as 0.

    Source: CleanRL, ppo.py ("advantages normalization").
    """
    chex.assert_type(advantage, float)
    chex.assert_equal_shape([advantage] if mask is None else [advantage, mask])
    if mask is None:
        centred = advantage - advantage.mean()
        return centred / (_sqrt(jnp.square(centred).mean()) + 1e-8)
    mask = jnp.asarray(mask, bool)
    count = jnp.maximum(mask.sum(), 1)
    centred = jnp.where(mask, advantage - jnp.where(mask, advantage, 0).sum() / count, 0)
    return centred / (_sqrt(jnp.square(centred).sum() / count) + 1e-8)


def _sqrt(x: jax.Array) -> jax.Array:
    """√x with derivative 0 at 0."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


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
    """
    chex.assert_type(logits, float)
    chex.assert_axis_dimension_gt(logits, -1, 0)
    log_probs = _log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def gaussian_entropy(log_std: jax.Array) -> jax.Array:
    """Entropy of a Gaussian with diagonal covariance.

    H = Σ_i (log σ_i + ½ log 2πe).

    Args:
      log_std: [..., D] floating, log σ.

    Returns:
      [...] differential entropies, in nats.

    Raises:
      AssertionError: log_std is not floating or has no axis.

    Gradient: nothing is stopped.

    Source: Cover & Thomas (2006), theorem 8.4.1.
    """
    chex.assert_type(log_std, float)
    chex.assert_axis_dimension_gt(log_std, -1, 0)
    return jnp.sum(log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e), axis=-1)


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
    """
    chex.assert_equal_shape([logits, other_logits])
    chex.assert_type(logits, float)
    log_p, log_q = _log_softmax(logits), _log_softmax(other_logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def gaussian_kl(mean: jax.Array, log_std: jax.Array, other_mean: jax.Array, other_log_std: jax.Array) -> jax.Array:
    """Exact divergence of two Gaussians with diagonal covariance.

    KL(p ‖ q) = ½ Σ_i (expm1(2 (log σ_p − log σ_q)) − 2 (log σ_p − log σ_q) + ((μ_p − μ_q) / σ_q)²).

    Args:
      mean, log_std: [..., D] floating, of p, the distribution the expectation is under.
      other_mean, other_log_std: [..., D], of q.

    Returns:
      [...] divergences, in nats.

    Raises:
      AssertionError: shapes differ, or mean is not floating.

    Gradient: nothing is stopped. It is exact: stop the side that is not trained. TRPO has p = old, q = new.

    Source: Schulman et al. (2015), "Trust region policy optimization", eq. 12, for Gaussians.
    """
    chex.assert_equal_shape([mean, log_std, other_mean, other_log_std])
    chex.assert_type(mean, float)
    log_ratio = 2 * (log_std - other_log_std)
    distance = jnp.square((mean - other_mean) * jnp.exp(-other_log_std))
    return 0.5 * jnp.sum(jnp.expm1(log_ratio) - log_ratio + distance, axis=-1)


def _log_softmax(logits: jax.Array) -> jax.Array:
    """log softmax whose impossible actions are the dtype's minimum instead of −∞, so that 0 · log 0 is 0."""
    return jax.nn.log_softmax(jnp.maximum(logits, jnp.finfo(logits.dtype).min))
