"""Direct losses of single completions that are labelled desirable or undesirable: KTO and BCO.

Unless the docstring says otherwise log-probabilities are sums over the completion's tokens, in nats
(`losses.sequence_log_probs`), all arrays are [...] floats of one shape, and `beta` and the other coefficients are
scalars, or broadcast against them. σ is the logistic function. Losses are not averaged here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.losses.centering import wider
from purerl.losses.log_ratios import checked
from purerl.returns.recursion import same_shape


def kto(
    policy_logps: jax.Array,
    ref_logps: jax.Array,
    desirable: jax.Array,
    kl: jax.Array | float,
    beta: jax.Array | float,
    desirable_weight: jax.Array | float = 1.0,
    undesirable_weight: jax.Array | float = 1.0,
) -> jax.Array:
    """Kahneman-Tversky Optimization: λ_D (1 - σ(β (ρ - z))) if desirable, λ_U (1 - σ(β (z - ρ))) if not.

    ρ = log π(y) - log π_ref(y); z = `kl`, the reference point, through which no gradient flows.
    dL/dlog π(y) = -λ_D β s (1 - s), or +λ_U β s (1 - s), with s = σ(β (ρ - z)).

    Args:
      policy_logps, ref_logps: [...] summed log-probabilities of the completions.
      desirable: [...] bool (or 0/1): the label of each completion.
      kl: scalar z ≥ 0, an estimate of KL(π ‖ π_ref) clamped by the caller: `losses.kto_kl`.
      beta: as in `dpo`.
      desirable_weight, undesirable_weight: λ_D and λ_U; balance them as λ_D n_D / (λ_U n_U) in [1, 4/3].

    Returns:
      [...], in [0, λ].

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference and `kl` are stopped.

    Source: Ethayarajh et al. 2024, equation 8, less its constant λ_y; TRL's `loss_type="kto"`.

    Examples:
      >>> from purerl import losses
      >>> logps, ref_logps, desirable = jnp.array([-1.0, -1.0]), jnp.array([-2.0, -2.0]), jnp.array([True, False])
      >>> [round(x, 3) for x in losses.kto(logps, ref_logps, desirable, kl=0.5, beta=1.0).tolist()]
      [0.378, 0.622]
    """
    policy_logps, ref_logps = checked(policy_logps=policy_logps, ref_logps=ref_logps)
    desirable = jnp.asarray(desirable)
    same_shape(policy_logps=policy_logps, desirable=desirable)
    advantage = policy_logps - jax.lax.stop_gradient(ref_logps) - jax.lax.stop_gradient(kl)
    gain = desirable_weight * jax.nn.sigmoid(-beta * advantage)
    loss = undesirable_weight * jax.nn.sigmoid(beta * advantage)
    return jnp.where(desirable != 0, gain, loss)


def kto_kl(policy_logps: jax.Array, ref_logps: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """KTO's reference point: max(0, mean over the batch of log π(y') - log π_ref(y')), without gradient.

    Args:
      policy_logps, ref_logps: [B] summed log-probabilities of completions y' that do *not* belong to their prompts
        (the paper shifts the completions of a batch by one place).
      mask: [B], 0 for a row to leave out; None: all count. The result is 0 if all are left out.

    Returns:
      scalar z, nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: everything is stopped.

    Source: Ethayarajh et al. 2024, section 4.1.

    Examples:
      >>> from purerl import losses
      >>> float(losses.kto_kl(jnp.array([-1.0, -2.0]), jnp.array([-2.0, -2.5])))
      0.75
    """
    policy_logps, ref_logps = checked(policy_logps=policy_logps, ref_logps=ref_logps)
    counted = jnp.ones(policy_logps.shape, bool) if mask is None else jnp.asarray(mask) != 0
    same_shape(policy_logps=policy_logps, mask=counted)
    ratio = jnp.where(counted, policy_logps - ref_logps, 0.0)
    mean = jnp.sum(ratio, dtype=wider(ratio.dtype)) / jnp.maximum(jnp.sum(counted), 1)
    return jax.lax.stop_gradient(jnp.maximum(mean, 0.0)).astype(ratio.dtype)


def bco(
    policy_logps: jax.Array,
    ref_logps: jax.Array,
    desirable: jax.Array,
    delta: jax.Array | float,
    beta: jax.Array | float,
    desirable_weight: jax.Array | float = 1.0,
    undesirable_weight: jax.Array | float = 1.0,
) -> jax.Array:
    """Binary classifier optimization: -w_D log σ(βρ - δ) if desirable, -w_U log σ(-(βρ - δ)) if not.

    ρ = log π(y) - log π_ref(y); δ = `delta` shifts the rewards so that the two classes lie on either side of 0.
    dL/dlog π(y) = -w_D β σ(δ - βρ), or +w_U β σ(βρ - δ).

    Args:
      policy_logps, ref_logps: [...] summed log-probabilities of the completions.
      desirable: [...] bool (or 0/1): the label of each completion.
      delta: scalar δ, from `losses.bco_delta`, commonly a running mean over batches.
      beta: as in `dpo`.
      desirable_weight, undesirable_weight: w_D and w_U.

    Returns:
      [...], nats. For a pair, the sum of its two losses is TRL's `loss_type="bco_pair"`, whose δ was a running mean and
      is 0 in later versions. With δ = 0 that sum is an upper bound on `dpo`.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: the reference and `delta` are stopped.

    Source: Jung et al. 2024, "Binary classifier optimization for large language model alignment", arXiv:2404.04656,
    theorem 1 and the reward shift, without the density ratio of differing prompts. TRL's `BCOTrainer`.

    Examples:
      >>> from purerl import losses
      >>> logps, ref_logps, desirable = jnp.array([-1.0, -1.0]), jnp.array([-2.0, -2.0]), jnp.array([True, False])
      >>> [round(x, 3) for x in losses.bco(logps, ref_logps, desirable, delta=0.5, beta=1.0).tolist()]
      [0.474, 0.974]
    """
    policy_logps, ref_logps = checked(policy_logps=policy_logps, ref_logps=ref_logps)
    desirable = jnp.asarray(desirable)
    same_shape(policy_logps=policy_logps, desirable=desirable)
    logit = beta * (policy_logps - jax.lax.stop_gradient(ref_logps)) - jax.lax.stop_gradient(delta)
    good, bad = desirable_weight * jax.nn.softplus(-logit), undesirable_weight * jax.nn.softplus(logit)
    return jnp.where(desirable != 0, good, bad)


def bco_delta(
    policy_logps: jax.Array,
    ref_logps: jax.Array,
    desirable: jax.Array,
    beta: jax.Array | float,
    mask: jax.Array | None = None,
) -> jax.Array:
    """BCO's reward shift: the middle of the two classes' mean rewards, δ = ½ (mean_D βρ + mean_U βρ).

    A class without a completion counts by the other one's mean; without any completion δ is 0.

    Args:
      policy_logps, ref_logps: [B] summed log-probabilities of the completions.
      desirable: [B] bool (or 0/1).
      beta: as in `dpo`.
      mask: [B], 0 for a row to leave out; None: all count.

    Returns:
      Scalar δ, nats.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: everything is stopped.

    Source: Jung et al. 2024, "Binary classifier optimization for large language model alignment".

    Examples:
      >>> from purerl import losses
      >>> logps, desirable = jnp.array([1.0, 2.0, 6.0]), jnp.array([True, True, False])
      >>> print(losses.bco_delta(logps, jnp.zeros(3), desirable, beta=2.0))
      7.5
    """
    policy_logps, ref_logps = checked(policy_logps=policy_logps, ref_logps=ref_logps)
    good = jnp.asarray(desirable) != 0
    counted = jnp.ones_like(good) if mask is None else jnp.asarray(mask) != 0
    same_shape(policy_logps=policy_logps, desirable=good, mask=counted)
    reward = jax.lax.stop_gradient(beta * (policy_logps - ref_logps))
    classes = good & counted, ~good & counted
    wide = wider(reward.dtype)
    means = [jnp.where(each, reward, 0).sum(dtype=wide) / jnp.maximum(each.sum(), 1) for each in classes]
    mixed = classes[0].any() & classes[1].any()
    return (jnp.where(mixed, 0.5, 1.0) * (means[0] + means[1])).astype(reward.dtype)
