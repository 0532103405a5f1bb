"""What agents read from a trajectory: which steps count, discounts, trace decays, and what kind of data it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.types import PyTree, Transition


def is_masked(data: Transition) -> bool:
    """Whether the trajectory has a mask; without one, every step counts."""
    return has(data.mask)


def has(optional: PyTree) -> bool:
    """Whether an optional field of a `Transition`, such as its mask or weight, is there; `()` means that it is not."""
    return not (isinstance(optional, tuple) and not optional)


def step_weight(data: Transition) -> jax.Array:
    """[T, N] float: how much each step counts, 0 where masked. The product of mask and weight; ones without both."""
    weight = data.weight if has(data.weight) else jnp.ones_like(data.reward)
    return jnp.where(data.mask != 0, weight, 0) if has(data.mask) else weight


def masked_mean(x: jax.Array, mask: PyTree) -> jax.Array:
    """Mean of x over the steps whose mask is nonzero, and 0 if none is; `()` counts all. Masked values may be NaN."""
    if not has(mask):
        return jnp.mean(x, dtype=jnp.result_type(float))
    return jnp.sum(jnp.where(mask != 0, x * mask, 0)) / jnp.maximum(jnp.sum(mask), 1)


def optional_mask(mask: PyTree) -> jax.Array | None:
    """The mask as functions of `purerl.losses` take it: None if there is none."""
    return mask if has(mask) else None


def done(data: Transition) -> jax.Array:
    """[T, N] bool: whether the episode ended at the step, in either way."""
    return data.terminated | data.truncated


def discounts(data: Transition, discount: jax.Array) -> jax.Array:
    """[T, N]: γ (1 − terminated), the weight of what follows a step."""
    return discount * (1.0 - data.terminated)


def trace_decays(data: Transition, decay: jax.Array) -> jax.Array:
    """[T, N]: λ (1 − done), by which a trace shrinks over a step; 0 cuts it."""
    return decay * (1.0 - done(data))


def require_episodes(data: Transition, agent: str) -> None:
    """Reject a trajectory whose episodes may be cut.

    Raises:
      ValueError: the trajectory has no mask.
    """
    if not is_masked(data):
        raise ValueError(f"{agent} needs whole episodes: pass rollout=purerl.loops.rollout_episodes to train")


def refuse_mask(data: Transition, agent: str) -> None:
    """Reject a trajectory with masked steps.

    Raises:
      ValueError: the trajectory has a mask.
    """
    if is_masked(data):
        raise ValueError(f"{agent} learns from every step of a rollout, but this one is masked: use loops.rollout")
