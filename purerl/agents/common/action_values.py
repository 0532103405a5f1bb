"""Reading values of discrete actions [..., A] from networks, with and without a mask of allowed actions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from purerl.exploration.selection import forbid
from purerl.reductions import any_last, max_last, sum_last


def best_value(q: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The value of the best allowed action, [...]; 0 for a state that allows none, after which nothing can follow.

    Args:
      q: [..., A].
      mask: [..., A], nonzero where an action is allowed; None: all are.
    """
    best = max_last(forbid(q, mask))
    return best if mask is None else jnp.where(any_last(mask != 0), best, 0)


def bootstrap_factor(discount: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The discount [...] of the value of the next state, 0 if that state allows no action; mask as in `best_value`."""
    return discount if mask is None else jnp.where(any_last(mask != 0), discount, 0)


def take(output: jax.Array, action: jax.Array) -> jax.Array:
    """The outputs [B, A, ...] of the actions [B], as [B, ...].

    A select and a sum, whose gradient is not a scatter. Outputs of other actions may be infinite.
    """
    chosen = jax.nn.one_hot(action, output.shape[1], dtype=bool)  # [B, A]
    chosen = chosen.reshape(chosen.shape + (1,) * (output.ndim - 2))  # [B, A, 1, ...]
    taken = jnp.where(chosen, output, 0)
    return sum_last(taken) if taken.ndim == 2 else taken.sum(axis=1)
