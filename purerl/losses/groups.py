"""Policy gradients for groups of samples of one prompt: GRPO, Dr. GRPO and DAPO."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from purerl.losses.divergences import kl_estimate
from purerl.losses.policy_gradient import clipped_surrogate


def group_advantages(rewards: jax.Array, scale: bool = True) -> jax.Array:
    """Advantage of each sample over the others of its group.

    A_i = (r_i − mean(r)) / (std(r) + 10⁻⁴) with the sample standard deviation (ddof 1); r_i − mean(r) without scale.

    Args:
      rewards: [..., G] floating, one reward a sample.
      scale: divide by the spread (GRPO, DAPO) or not (Dr. GRPO, whose authors show that the spread favours prompts that
        are nearly always or nearly never solved).

    Returns:
      [..., G] advantages. Equal rewards, and a group of one, give zeros.

    Raises:
      AssertionError: rewards is not floating or has no axis.

    Gradient: everything is stopped.

    Source: Shao et al. (2024), "DeepSeekMath", section 4.1.2; the 10⁻⁴ and ddof 1 are TRL's (GRPOTrainer). Without
    scale Liu et al. (2025), "Understanding R1-Zero-like training", eq. 3.
    """
    chex.assert_type(rewards, float)
    chex.assert_axis_dimension_gt(rewards, -1, 0)
    rewards = lax.stop_gradient(rewards)
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    if not scale:
        return centred
    variance = jnp.square(centred).sum(axis=-1, keepdims=True) / max(rewards.shape[-1] - 1, 1)
    return centred / (jnp.sqrt(variance) + 1e-4)


def grpo(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    ref_log_prob: jax.Array,
    advantage: jax.Array,
    clip_epsilon: float | jax.Array,
    kl_coef: float | jax.Array,
    clip_epsilon_high: float | jax.Array | None = None,
) -> jax.Array:
    """GRPO's loss of each token: the clipped surrogate and a penalty to the reference policy.

    L = −min(ρ · A, clip(ρ, 1 − ε, 1 + ε_high) · A) + β · k3, with ρ = exp(log π − log π_old) a token.
    Reduce it by `aggregate_tokens`. Dr. GRPO and DAPO have β = 0; DAPO has ε_high > ε.

    Args:
      log_prob: [..., L] floating, log-probability of each token under the policy being trained.
      old_log_prob: [..., L], under the policy that sampled.
      ref_log_prob: [..., L], under the reference policy.
      advantage: [...], one a sequence, from `group_advantages`.
      clip_epsilon: scalar ε.
      kl_coef: scalar β.
      clip_epsilon_high: scalar ε_high; None takes ε.

    Returns:
      [..., L] losses.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: all but `log_prob` and `kl_coef` is stopped.

    Source: Shao et al. (2024), "DeepSeekMath", eq. 3 and 4; Yu et al. (2025), "DAPO", eq. 8.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, ref_log_prob])
    chex.assert_shape(advantage, log_prob.shape[:-1])
    advantage = jnp.broadcast_to(advantage[..., None], log_prob.shape)
    surrogate = clipped_surrogate(log_prob, old_log_prob, advantage, clip_epsilon, clip_epsilon_high)
    return surrogate + kl_coef * kl_estimate(log_prob, lax.stop_gradient(ref_log_prob), "k3")


def aggregate_tokens(loss: jax.Array, mask: jax.Array, kind: str = "grpo", max_length: int | None = None) -> jax.Array:
    """Mean of token losses over sequences of unequal length, in the three ways that are in use.

    With B sequences of n_i tokens: "grpo" (1/B) Σ_i (1/n_i) Σ_t L (each sequence counts alike, each token of a long one
    less); "dapo" Σ_i Σ_t L / Σ_i n_i (each token counts alike); "dr_grpo" Σ_i Σ_t L / (B · max_length) (a constant
    divisor, so the gradient does not depend on the lengths). A sequence without tokens adds 0 to each sum.

    Args:
      loss: [..., L] floating; free where the mask is 0.
      mask: [..., L] of 0 and 1, the tokens that count.
      kind: "grpo", "dapo" or "dr_grpo".
      max_length: the constant of "dr_grpo"; None takes L.

    Returns:
      Scalar.

    Raises:
      AssertionError: shapes differ, or loss is not floating.
      ValueError: kind is none of the three.

    Gradient: nothing is stopped; masked losses have none, even where they are NaN.

    Source: Shao et al. (2024), "DeepSeekMath", eq. 3; Yu et al. (2025), "DAPO", eq. 8; Liu et al. (2025), section 3.2.
    """
    chex.assert_equal_shape([loss, mask])
    chex.assert_type(loss, float)
    mask = jnp.asarray(mask, bool)
    totals = jnp.where(mask, loss, 0).sum(axis=-1)
    counts = mask.sum(axis=-1)
    if kind == "grpo":
        return jnp.mean(totals / jnp.maximum(counts, 1))
    if kind == "dapo":
        return totals.sum() / jnp.maximum(counts.sum(), 1)
    if kind == "dr_grpo":
        return jnp.mean(totals) / (loss.shape[-1] if max_length is None else max_length)
    raise ValueError(f"kind = {kind!r}: it must be 'grpo', 'dapo' or 'dr_grpo'")
