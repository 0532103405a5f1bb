"""Log-probability ratios that the preference losses are functions of, and the checks of their inputs."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.returns.recursion import same_shape


def checked(**logps: jax.Array) -> list[jax.Array]:
    """The arrays, after checking that they are floats of one shape.

    Raises:
      AssertionError: the shapes differ, which names the arguments, or one is not floating.
    """
    arrays = [jnp.asarray(logp) for logp in logps.values()]
    same_shape(**logps)
    chex.assert_type(arrays, float)
    return arrays


def pair_of(
    chosen_logps: jax.Array, rejected_logps: jax.Array, ref_chosen_logps: jax.Array, ref_rejected_logps: jax.Array
) -> list[jax.Array]:
    """The four arrays, checked; no gradient reaches those of the reference."""
    chosen, rejected, *reference = checked(
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
    )
    return [chosen, rejected, *jax.lax.stop_gradient(reference)]


def log_ratios(
    chosen_logps: jax.Array, rejected_logps: jax.Array, ref_chosen_logps: jax.Array, ref_rejected_logps: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """ρ⁺ and ρ⁻, each log π − log π_ref, through which no gradient reaches the reference."""
    chosen, rejected, ref_chosen, ref_rejected = pair_of(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return chosen - ref_chosen, rejected - ref_rejected


def log_ratio_difference(
    chosen_logps: jax.Array, rejected_logps: jax.Array, ref_chosen_logps: jax.Array, ref_rejected_logps: jax.Array
) -> jax.Array:
    """h = ρ⁺ − ρ⁻."""
    chosen, rejected = log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return chosen - rejected
