"""Staying near a reference policy: the penalised reward, its exact optimum, the controller of its strength."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def kl_penalized_reward(
    reward: jax.Array, log_prob: jax.Array, ref_log_prob: jax.Array, beta: jax.Array | float
) -> jax.Array:
    """Reward less the price of leaving the reference: r - β (log π(a) - log π_ref(a)), without gradient.

    Summed over a sequence sampled from π this is an unbiased estimate of J(π) = E_π[Σ r] - β KL(π ‖ π_ref), and so its
    policy gradient is J's: here the plain difference (k1) is right. Put into a loss instead, the same
    difference has expected gradient zero (E_π[∇ log π] = 0), so it regularises nothing; k3 there pulls towards
    KL(π_ref ‖ π), and k2 to KL(π ‖ π_ref) (see `losses.kl_estimate`).

    Args:
      reward: [...] reward of each token or sequence.
      log_prob, ref_log_prob: [...] log-probability of the sampled token or sequence under the policy that drew it
        and under the reference, nats.
      beta: price of a nat.

    Returns:
      [...].

    Source: Ziegler et al. 2019, equation 2; Ouyang et al. 2022, equation 2.
    """
    arrays = [jnp.asarray(x) for x in (reward, log_prob, ref_log_prob)]
    chex.assert_equal_shape(arrays)
    chex.assert_type(arrays, float)
    reward, log_prob, ref_log_prob = arrays
    return jax.lax.stop_gradient(reward - beta * (log_prob - ref_log_prob))


def kl_regularized_optimum(ref_log_prob: jax.Array, reward: jax.Array, beta: jax.Array | float) -> jax.Array:
    """Log of the policy that maximises E_π[r] - β KL(π ‖ π_ref): log π* = log π_ref + r / β - log Z.

    Args:
      ref_log_prob: [..., A] log π_ref over all A choices (tokens, or whole sequences enumerated).
      reward: [..., A].
      beta: > 0.

    Returns:
      [..., A], normalised over the last axis.

    Source: Ziebart 2010; Rafailov et al. 2023, equation 4.
    """
    ref_log_prob, reward = jnp.asarray(ref_log_prob), jnp.asarray(reward)
    chex.assert_equal_shape([ref_log_prob, reward])
    chex.assert_type([ref_log_prob, reward], float)
    return jax.nn.log_softmax(ref_log_prob + reward / beta, axis=-1)


def adaptive_kl(
    beta: jax.Array | float,
    kl: jax.Array | float,
    target_kl: jax.Array | float,
    num_samples: jax.Array | int,
    horizon: jax.Array | float = 10_000.0,
) -> jax.Array:
    """Next β of a proportional controller: β (1 + clip(kl / target - 1, -0.2, 0.2) n / horizon).

    Args:
      beta: present coefficient.
      kl: measured KL(π ‖ π_ref) of a sequence, nats.
      target_kl: the KL to hold, nats, > 0.
      num_samples: n, sequences seen since the last call.
      horizon: sequences over which β may change by 20%.

    Returns:
      scalar (or the broadcast shape), without gradient.

    Source: Ziegler et al. 2019, section 2.2; TRL's former `AdaptiveKLController`.
    """
    error = jnp.clip(jnp.asarray(kl) / target_kl - 1, -0.2, 0.2)
    return jax.lax.stop_gradient(beta * (1 + error * num_samples / horizon))


def leave_one_out_advantages(rewards: jax.Array) -> jax.Array:
    """RLOO: each reward less the mean of the other samples of its own prompt, r_i - (1 / (G - 1)) Σ_{j≠i} r_j.

    The baseline does not depend on the sample, so the policy gradient stays unbiased (that of
    `losses.group_advantages` with `scale=False` is smaller by (G - 1) / G).

    Args:
      rewards: [..., G] rewards of G ≥ 2 samples of one prompt; for RLOO with a KL penalty, penalised and summed.

    Returns:
      [..., G].

    Source: Kool et al. 2019; Ahmadian et al. 2024, section 2.2.
    """
    rewards = jnp.asarray(rewards)
    chex.assert_type(rewards, float)
    chex.assert_axis_dimension_gt(rewards, -1, 1)
    size = rewards.shape[-1]
    return (rewards - jnp.mean(rewards, axis=-1, keepdims=True)) * (size / (size - 1))
