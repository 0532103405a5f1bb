"""Distributional value learning: the projection of C51 and the loss of QR-DQN, atoms on the last axis.

The loss of C51 is `optax.losses.softmax_cross_entropy(logits, categorical_projection(...))`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from purerl.returns.recursion import check_rows, same_shape


def categorical_projection(target_support: jax.Array, target_probs: jax.Array, support: jax.Array) -> jax.Array:
    """Projection of a discrete distribution onto a uniform grid of atoms, which keeps its mass and, inside, its mean.

    b_j = (clip(y_j, z_0, z_{Z−1}) − z_0) / Δ with Δ = (z_{Z−1} − z_0) / (Z − 1); m_i = Σ_j max(0, 1 − |b_j − i|) · p_j.
    An atom that is hit exactly takes the whole mass.

    Args:
      target_support: [..., K] floating, y: the atoms moved, r + γ · z.
      target_probs: [..., K], p, their probabilities.
      support: [Z] or [..., Z], z: equally spaced, rising, Z ≥ 2.

    Returns:
      [..., Z] probabilities. Each row sums to what target_probs sums to. Narrower inputs are computed in float32.

    Raises:
      AssertionError: shapes differ, the arrays are not floating, or Z < 2.

    Gradient: nothing is stopped: linear in target_probs.

    Source: Bellemare, Dabney & Munos (2017), "A distributional perspective", eq. 7.

    Examples:
      >>> from purerl import losses
      >>> support = jnp.array([0.0, 1.0, 2.0])
      >>> print(losses.categorical_projection(jnp.array([0.5, 5.0]), jnp.array([0.5, 0.5]), support))
      [0.25 0.25 0.5 ]
    """
    same_shape(target_support=target_support, target_probs=target_probs)
    chex.assert_type([target_support, target_probs, support], float)
    chex.assert_axis_dimension_gt(support, -1, 1)
    dtype = jnp.result_type(target_support, target_probs, support)
    wide = jnp.promote_types(dtype, jnp.float32)  # half precision cannot tell hundreds of positions apart
    target_support, target_probs, support = (x.astype(wide) for x in (target_support, target_probs, support))
    size = support.shape[-1]
    support = jnp.broadcast_to(support, (*target_support.shape[:-1], size))
    low, high = support[..., :1], support[..., -1:]
    position = jnp.clip((target_support - low) * ((size - 1) / (high - low)), 0, size - 1)
    shape = (*support.shape, position.shape[-1])  # [..., Z, K]
    atom = lax.broadcasted_iota(position.dtype, shape, len(shape) - 2)
    weights = jnp.maximum(0, 1 - jnp.abs(position[..., None, :] - atom))
    return jnp.sum(weights * target_probs[..., None, :], axis=-1).astype(dtype)


def quantile_huber(
    quantiles: jax.Array, taus: jax.Array, target_quantiles: jax.Array, kappa: float | jax.Array = 1.0
) -> jax.Array:
    """Quantile regression with a Huber loss, of every quantile against every sample of the target.

    u_ij = y_j − θ_i, ρ(u_ij) = |τ_i − 1{u_ij < 0}| · H_κ(u_ij) / κ, H_κ(u) = ½ u² where |u| ≤ κ, else κ · (|u| − ½ κ);
    L = Σ_i mean_j ρ(u_ij). At κ = 0 this is |τ_i − 1{u_ij < 0}| · |u_ij|.

    Args:
      quantiles: [..., N] floating, θ.
      taus: [N] or [..., N], τ in (0, 1): the quantile levels.
      target_quantiles: [..., M], y.
      kappa: scalar κ ≥ 0, in the units of the return.

    Returns:
      [...] losses.

    Raises:
      AssertionError: the leading shapes differ, the levels do not fit, or quantiles is not floating.

    Gradient: `target_quantiles` and `taus` are stopped.

    Source: Dabney et al. (2018), "Distributional RL with quantile regression", eq. 9 and 10 and algorithm 1.

    Examples:
      >>> from purerl import losses
      >>> quantiles, taus = jnp.array([0.0, 1.0]), jnp.array([0.25, 0.75])
      >>> float(losses.quantile_huber(quantiles, taus, target_quantiles=jnp.array([1.0, 3.0]), kappa=0.0))
      1.25
    """
    check_rows("target_quantiles", target_quantiles, **{"quantiles[..., 0]": quantiles[..., 0]})
    chex.assert_equal_shape_suffix([quantiles, taus], 1)
    chex.assert_type(quantiles, float)
    taus, target_quantiles = lax.stop_gradient((taus, target_quantiles))
    taus = jnp.broadcast_to(taus, quantiles.shape)
    error = target_quantiles[..., None, :] - quantiles[..., :, None]  # [..., N, M]
    size = jnp.abs(error)
    floor = jnp.maximum(kappa, jnp.finfo(size.dtype).tiny)
    inside = jnp.minimum(size, kappa)
    huber = inside * (inside / floor) / 2 + (size - inside)
    weight = jnp.abs(taus[..., :, None] - (error < 0))
    return jnp.sum(jnp.mean(weight * huber, axis=-1), axis=-1)
