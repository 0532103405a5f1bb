"""Counts of updates that cannot overflow."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def increment(count: jax.Array) -> jax.Array:
    """The next count: min(count + 1, the largest integer of the dtype).

    A count that wrapped around would restart every schedule that reads it: exploration, annealed learning rates.

    Args:
      count: integer array.

    Returns:
      An array of the same shape and dtype.

    Examples:
      >>> import jax.numpy as jnp
      >>> increment(jnp.int32(7)).item(), increment(jnp.int32(2**31 - 1)).item()
      (8, 2147483647)
    """
    return jnp.where(count < jnp.iinfo(count.dtype).max, count + 1, count)
