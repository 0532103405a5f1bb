"""Advantages of several samples of one prompt, each measured against the others of its group."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from purerl.losses.centering import center, spread
from purerl.returns.recursion import same_shape


def group_advantages(rewards: jax.Array, scale: bool = True, mask: jax.Array | None = None) -> jax.Array:
    """Advantage of each sample over the others of its group, as in GRPO.

    A_i = (r_i − mean(r)) / (std(r) + 10⁻⁴) with the sample standard deviation (ddof 1); r_i − mean(r) without scale.

    Args:
      rewards: [..., G] floating, one reward per sample.
      scale: divide by the standard deviation (GRPO, DAPO) or not (Dr. GRPO, whose authors show that the division favors
        prompts that are nearly always or nearly never solved).
      mask: [..., G], 0 where a sample does not count, such as one whose reward could not be computed; its reward may
        be NaN. None: all count.

    Returns:
      [..., G] advantages, 0 where masked. Equal rewards, and a group of one, give exact zeros.

    Raises:
      AssertionError: shapes differ, rewards is not floating, or it has no axis.

    Gradient: everything is stopped.

    Source: Shao et al. (2024), "DeepSeekMath", section 4.1.2; the 10⁻⁴ and ddof 1 are TRL's (GRPOTrainer). Without
    scale Liu et al. (2025), "Understanding R1-Zero-like training", eq. 3.

    Examples:
      >>> from purerl import losses
      >>> print(losses.group_advantages(jnp.array([[1.0, 2.0, 3.0]]), scale=False))
      [[-1.  0.  1.]]
      >>> print(losses.group_advantages(jnp.array([[1.0, jnp.nan, 3.0]]), scale=False, mask=jnp.array([[1, 0, 1]])))
      [[-1.  0.  1.]]
    """
    chex.assert_type(rewards, float)
    chex.assert_axis_dimension_gt(rewards, -1, 0)
    same_shape(rewards=rewards, mask=mask)
    centered, count = center(lax.stop_gradient(rewards), mask, axis=-1)
    if not scale:
        return centered
    return centered / (spread(centered, jnp.maximum(count - 1, 1), axis=-1) + 1e-4)


def leave_one_out_advantages(rewards: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Each reward minus the mean of the other samples of its prompt, as in RLOO.

    A_i = r_i − (1 / (G − 1)) Σ_{j≠i} r_j = (r_i − mean(r)) · G / (G − 1).

    The baseline does not depend on the sample, so the policy gradient stays unbiased (that of
    `losses.group_advantages` with `scale=False` is smaller by (G − 1) / G).

    Args:
      rewards: [..., G] floating, rewards of G ≥ 2 samples of one prompt; for RLOO with a KL penalty, penalized and
        summed over tokens.
      mask: [..., G], 0 where a sample does not count; its reward may be NaN. None: all count.

    Returns:
      [..., G] advantages, 0 where masked, and where fewer than two samples count.

    Raises:
      AssertionError: shapes differ, rewards is not floating, or G < 2.

    Gradient: nothing is stopped.

    Source: Kool, van Hoof & Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free"; Ahmadian et al. (2024),
    "Back to basics", section 2.2.

    Examples:
      >>> from purerl import losses
      >>> print(losses.leave_one_out_advantages(jnp.array([1.0, 2.0, 6.0])))
      [-3.  -1.5  4.5]
    """
    rewards = jnp.asarray(rewards)
    chex.assert_type(rewards, float)
    chex.assert_axis_dimension_gt(rewards, -1, 1)
    same_shape(rewards=rewards, mask=mask)
    centered, count = center(rewards, mask, axis=-1)
    return (centered * count / jnp.maximum(count - 1, 1)).astype(centered.dtype)
