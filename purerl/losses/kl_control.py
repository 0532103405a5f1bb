"""Staying near a reference policy: the penalized reward, its exact optimum, the controller of its strength."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from purerl.returns.recursion import same_shape


def kl_penalized_reward(
    reward: jax.Array, log_prob: jax.Array, ref_log_prob: jax.Array, beta: jax.Array | float
) -> jax.Array:
    """Reward minus the price of leaving the reference: r - β (log π(a) - log π_ref(a)).

    Summed over a sequence sampled from π this is an unbiased estimate of J(π) = E_π[Σ r] - β KL(π ‖ π_ref), so its
    policy gradient is that of J: inside the reward the plain difference (k1) is right. Inside a loss the same
    difference has expected gradient zero (E_π[∇ log π] = 0), so it regularizes nothing. There k3 has the gradient of
    KL(π_ref ‖ π), and k2 that of KL(π ‖ π_ref); see `losses.kl_estimate`.

    Args:
      reward: [...] reward of each token or sequence.
      log_prob, ref_log_prob: [...] log-probability of the sampled token or sequence under the policy that drew it
        and under the reference, nats.
      beta: scalar β, the price per nat.

    Returns:
      [...] penalized rewards.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: everything is stopped.

    Source: Ziegler et al. 2019, equation 2; Ouyang et al. 2022, equation 2.

    Examples:
      >>> from purerl import losses
      >>> round(float(losses.kl_penalized_reward(reward=1.0, log_prob=-1.0, ref_log_prob=-3.0, beta=0.1)), 3)
      0.8
    """
    arrays = [jnp.asarray(x) for x in (reward, log_prob, ref_log_prob)]
    same_shape(reward=arrays[0], log_prob=arrays[1], ref_log_prob=arrays[2])
    chex.assert_type(arrays, float)
    reward, log_prob, ref_log_prob = arrays
    return jax.lax.stop_gradient(reward - beta * (log_prob - ref_log_prob))


def kl_regularized_optimum(ref_log_prob: jax.Array, reward: jax.Array, beta: jax.Array | float) -> jax.Array:
    """Log of the policy that maximises E_π[r] - β KL(π ‖ π_ref): log π* = log π_ref + r / β - log Z.

    Args:
      ref_log_prob: [..., A] log π_ref over all A choices (tokens, or whole sequences enumerated).
      reward: [..., A].
      beta: scalar β > 0.

    Returns:
      [..., A], normalized over the last axis.

    Raises:
      AssertionError: the shapes differ, or an array is not floating.

    Gradient: nothing is stopped.

    Source: Ziebart 2010; Rafailov et al. 2023, equation 4.

    Examples:
      >>> from purerl import losses
      >>> ref_log_prob, reward = jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0])
      >>> [round(x, 3) for x in jnp.exp(losses.kl_regularized_optimum(ref_log_prob, reward, beta=0.5)).tolist()]
      [0.881, 0.119]
    """
    ref_log_prob, reward = jnp.asarray(ref_log_prob), jnp.asarray(reward)
    same_shape(ref_log_prob=ref_log_prob, reward=reward)
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
      beta: [...], the present coefficient.
      kl: [...], measured KL(π ‖ π_ref) per sequence, nats.
      target_kl: scalar > 0, the KL to hold, nats.
      num_samples: n, sequences seen since the last call.
      horizon: sequences over which β may change by 20%.

    Returns:
      [...] the next β.

    Raises:
      ValueError: `target_kl` is concrete and not positive.

    Gradient: everything is stopped.

    Source: Ziegler et al. 2019, section 2.2; TRL's former `AdaptiveKLController`.

    Examples:
      >>> from purerl import losses
      >>> print(losses.adaptive_kl(1.0, kl=9.0, target_kl=6.0, num_samples=100, horizon=1000.0))
      1.02
    """
    if not isinstance(target_kl, jax.core.Tracer) and np.any(np.asarray(target_kl) <= 0):
        raise ValueError(f"target_kl must be positive, got {target_kl}")
    error = jnp.clip(jnp.asarray(kl) / target_kl - 1, -0.2, 0.2)
    return jax.lax.stop_gradient(beta * (1 + error * num_samples / horizon))
