"""Policy gradients of sampled sequences, token by token or as a whole: GRPO and its relatives.

| algorithm | loss | advantages | reduction |
|---|---|---|---|
| GRPO | `grpo` | `group_advantages` | `aggregate_tokens(..., "grpo")` |
| Dr. GRPO | `grpo` with `kl_coef=0` | `group_advantages(scale=False)` | `aggregate_tokens(..., "dr_grpo")` |
| DAPO | `grpo` with `kl_coef=0` and `clip_epsilon_high` | `group_advantages` | `aggregate_tokens(..., "dapo")` |
| GSPO | `gspo` | `group_advantages` | the mean |
| CISPO | `cispo` | `group_advantages` | `aggregate_tokens(..., "dapo")` |
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from purerl.losses.centering import wider
from purerl.losses.divergences import kl_estimate
from purerl.losses.policy_gradient import clipped_surrogate
from purerl.losses.ratios import ratio
from purerl.returns.recursion import check_rows, same_shape


def grpo(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    ref_log_prob: jax.Array,
    advantage: jax.Array,
    clip_epsilon: float | jax.Array,
    kl_coef: float | jax.Array,
    clip_epsilon_high: float | jax.Array | None = None,
    mask: jax.Array | None = None,
    max_ratio: float | jax.Array | None = None,
) -> jax.Array:
    """GRPO's loss of each token: the clipped surrogate plus a penalty for leaving the reference policy.

    L = −min(ρ · A, clip(ρ, 1 − ε, 1 + ε_high) · A) + β · k3, with ρ = exp(log π − log π_old) of the token.
    Reduce it by `aggregate_tokens`. Dr. GRPO and DAPO have β = 0; DAPO has ε_high > ε.

    Args:
      log_prob: [..., L] floating, log-probability of each token under the policy being trained.
      old_log_prob: [..., L], under the policy that sampled.
      ref_log_prob: [..., L], under the reference policy.
      advantage: [...], one per sequence, from `group_advantages`; or [..., L], one per token.
      clip_epsilon: scalar ε.
      kl_coef: scalar β.
      clip_epsilon_high: scalar ε_high; None takes ε.
      mask: [..., L], 0 where a token does not count; the other arrays may be NaN there. None: all count.
      max_ratio: scalar δ > 1 + ε_high; ρ is replaced by min(ρ, δ) in the unclipped term, which bounds the loss where
        A < 0 (two-sided clipping). None: no bound.

    Returns:
      [..., L] losses, 0 where masked.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: all but `log_prob` and `kl_coef` is stopped.

    Source: Shao et al. (2024), "DeepSeekMath", eq. 3 and 4; ε_high: Yu et al. (2025), "DAPO", eq. 8; δ: Prime
    Intellect (2025), "INTELLECT-2", section 3.4 (TRL's `delta`).

    Examples:
      >>> from purerl import losses
      >>> log_prob = jnp.log(jnp.array([[0.5, 0.9]]))
      >>> old = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> print(losses.grpo(log_prob, old, old, jnp.array([1.0]), clip_epsilon=0.2, kl_coef=0.0).round(3))
      [[-1.  -1.2]]
    """
    same_shape(log_prob=log_prob, old_log_prob=old_log_prob, ref_log_prob=ref_log_prob)
    log_prob, old_log_prob, ref_log_prob, advantage = _tokens(mask, log_prob, old_log_prob, ref_log_prob, advantage)
    surrogate = clipped_surrogate(log_prob, old_log_prob, advantage, clip_epsilon, clip_epsilon_high, max_ratio)
    penalty = kl_estimate(log_prob, lax.stop_gradient(ref_log_prob), "k3")
    return _masked(surrogate + kl_coef * penalty, mask)


def gspo(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    mask: jax.Array,
    clip_epsilon: float | jax.Array,
    clip_epsilon_high: float | jax.Array | None = None,
) -> jax.Array:
    """GSPO's loss of each sequence: the clipped surrogate of one length-normalized ratio per sequence.

    s = exp((1 / n) Σ_t (log π − log π_old)) over the n tokens that count,
    L = −min(s · A, clip(s, 1 − ε, 1 + ε_high) · A).

    Args:
      log_prob: [..., L] floating, log-probability of each token under the policy being trained.
      old_log_prob: [..., L], under the policy that sampled.
      advantage: [...], one per sequence, from `group_advantages`.
      mask: [..., L], nonzero where a token counts; the log-probabilities may be NaN elsewhere.
      clip_epsilon: scalar ε; the ratios are near 1, so the paper takes 3 · 10⁻⁴.
      clip_epsilon_high: scalar ε_high; None takes ε. The paper takes 4 · 10⁻⁴.

    Returns:
      [...] losses; a sequence without tokens has s = 1.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: `old_log_prob` and `advantage` are stopped.

    Source: Zheng et al. (2025), "Group sequence policy optimization", eq. 5 to 7. TRL's
    `importance_sampling_level="sequence"`.

    Examples:
      >>> from purerl import losses
      >>> log_prob, old = jnp.array([[-1.0, -2.0]]), jnp.array([[-1.5, -2.5]])
      >>> print(losses.gspo(log_prob, old, jnp.array([2.0]), jnp.ones((1, 2)), clip_epsilon=0.2))
      [-2.4]
    """
    same_shape(log_prob=log_prob, old_log_prob=old_log_prob, mask=mask)
    check_rows("log_prob", log_prob, advantage=advantage)
    counted = jnp.asarray(mask) != 0
    each = jnp.where(counted, log_prob - lax.stop_gradient(old_log_prob), 0)  # [..., L]
    total = each.sum(axis=-1, dtype=wider(each.dtype))  # [..., L] -> [...]
    log_ratio = (total / jnp.maximum(counted.sum(axis=-1), 1)).astype(each.dtype)
    return clipped_surrogate(log_ratio, jnp.zeros_like(log_ratio), advantage, clip_epsilon, clip_epsilon_high)


def cispo(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    clip_epsilon_high: float | jax.Array,
    clip_epsilon: float | jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """CISPO's loss of each token: REINFORCE with a clipped importance weight, so that no token loses its gradient.

    L = −ρ̂ · A · log π, with ρ̂ = clip(ρ, 1 − ε, 1 + ε_high) and ρ = exp(log π − log π_old), both without gradient.

    Args:
      log_prob: [..., L] floating, log-probability of each token under the policy being trained.
      old_log_prob: [..., L], under the policy that sampled.
      advantage: [...], one per sequence, from `group_advantages`; or [..., L], one per token.
      clip_epsilon_high: scalar ε_high. TRL's `epsilon_high` is 1 + ε_high for this loss.
      clip_epsilon: scalar ε; None: no lower bound, as in the paper's experiments.
      mask: [..., L], 0 where a token does not count; the other arrays may be NaN there. None: all count.

    Returns:
      [..., L] losses, 0 where masked. Reduce them by `aggregate_tokens(..., "dapo")`.

    Raises:
      AssertionError: shapes differ, or log_prob is not floating.

    Gradient: −ρ̂ · A with respect to `log_prob`; everything else is stopped.

    Source: MiniMax (2025), "MiniMax-M1", eq. 4 and 5. TRL's `loss_type="cispo"`.

    Examples:
      >>> from purerl import losses
      >>> log_prob, old = jnp.array([[-1.0, -1.0]]), jnp.array([[-1.0, -9.0]])
      >>> print(losses.cispo(log_prob, old, jnp.array([1.0]), clip_epsilon_high=2.0))
      [[1. 3.]]
    """
    same_shape(log_prob=log_prob, old_log_prob=old_log_prob)
    chex.assert_type(log_prob, float)
    log_prob, old_log_prob, advantage = _tokens(mask, log_prob, old_log_prob, advantage)
    weight = jnp.minimum(ratio(log_prob - old_log_prob), 1 + clip_epsilon_high)
    weight = weight if clip_epsilon is None else jnp.maximum(weight, 1 - clip_epsilon)
    return _masked(-lax.stop_gradient(weight * advantage) * log_prob, mask)


def aggregate_tokens(loss: jax.Array, mask: jax.Array, kind: str = "grpo", max_length: int | None = None) -> jax.Array:
    """Mean of token losses over sequences of unequal length, in the three ways that are in use.

    With B sequences of n_i tokens: "grpo" (1/B) Σ_i (1/n_i) Σ_t L (sequences count equally, so the tokens of a long one
    count less); "dapo" Σ_i Σ_t L / Σ_i n_i (tokens count equally); "dr_grpo" Σ_i Σ_t L / (B · max_length) (a constant
    divisor, so the gradient does not depend on the lengths). A sequence without tokens adds 0 to each sum.

    Args:
      loss: [..., L] floating; free where the mask is 0.
      mask: [..., L], nonzero where a token counts.
      kind: "grpo", "dapo" or "dr_grpo".
      max_length: the constant of "dr_grpo", positive; None takes L.

    Returns:
      Scalar, of float32 if the losses are narrower.

    Raises:
      AssertionError: shapes differ, or loss is not floating.
      ValueError: unknown kind; `max_length` is not positive.

    Gradient: nothing is stopped; masked losses have none, even where they are NaN.

    Source: Shao et al. (2024), "DeepSeekMath", eq. 3; Yu et al. (2025), "DAPO", eq. 8; Liu et al. (2025), section 3.2.

    Examples:
      >>> from purerl import losses
      >>> loss, mask = jnp.array([[1.0, 2.0, 3.0], [6.0, 0.0, 0.0]]), jnp.array([[1, 1, 1], [1, 0, 0]])
      >>> [float(losses.aggregate_tokens(loss, mask, kind)) for kind in ("grpo", "dapo", "dr_grpo")]
      [4.0, 3.0, 2.0]
    """
    same_shape(loss=loss, mask=mask)
    chex.assert_type(loss, float)
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length = {max_length} must be positive")
    mask, loss = jnp.asarray(mask, bool), loss.astype(wider(loss.dtype))
    totals = jnp.where(mask, loss, 0).sum(axis=-1)  # [..., L] -> [...]
    counts = mask.sum(axis=-1)
    if kind == "grpo":
        return jnp.mean(totals / jnp.maximum(counts, 1))
    if kind == "dapo":
        return totals.sum() / jnp.maximum(counts.sum(), 1)
    if kind == "dr_grpo":
        return jnp.mean(totals) / (loss.shape[-1] if max_length is None else max_length)
    raise ValueError(f"kind must be 'grpo', 'dapo' or 'dr_grpo', got kind = {kind!r}")


def _tokens(mask: jax.Array | None, log_prob: jax.Array, *others: jax.Array) -> tuple[jax.Array, ...]:
    """All arrays as [..., L], 0 where the mask is 0. The last one may be [...], one number per sequence."""
    *others_by_token, advantage = others
    if advantage.shape != log_prob.shape:
        check_rows("log_prob", log_prob, advantage=advantage)
        advantage = jnp.broadcast_to(advantage[..., None], log_prob.shape)  # [...] -> [..., L]
    return tuple(_masked(array, mask) for array in (log_prob, *others_by_token, advantage))


def _masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    if mask is None:
        return x
    same_shape(log_prob=x, mask=mask)
    return jnp.where(jnp.asarray(mask) != 0, x, 0)
