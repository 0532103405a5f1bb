"""Annealing schedules: a quantity as a function of the step. They are also exported by `purerl.exploration`.

The parameters are data, so they can be searched over. All arguments broadcast, and no gradient is stopped.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def linear_schedule(
    step: int | jax.Array, start: float | jax.Array, end: float | jax.Array, num_steps: float | jax.Array
) -> jax.Array:
    """A straight line from start to end, flat before and after, exact at both ends.

    f = clip(step / num_steps, 0, 1), y = (1 − f) · start + f · end.

    Args:
      step: [...] steps made so far.
      start: [...], y at step 0.
      end: [...], y from step num_steps on.
      num_steps: [...] ≥ 0; 0 gives end, ∞ gives start.

    Returns:
      [...] y, floating.

    Raises:
      ValueError: the shapes do not broadcast.

    Gradient: nothing is stopped.

    Source: Mnih et al. (2015), "Human-level control", extended data table 1 (annealing of ε).

    Examples:
      >>> from purerl import schedules
      >>> print(schedules.linear_schedule(jnp.array([0, 5, 20]), start=1.0, end=0.0, num_steps=10))
      [1.  0.5 0. ]
    """
    fraction = _fraction(step, num_steps)
    return (1 - fraction) * start + fraction * end


def exponential_schedule(
    step: int | jax.Array, start: float | jax.Array, end: float | jax.Array, num_steps: float | jax.Array
) -> jax.Array:
    """Decay by a constant factor per step from start to end, flat before and after, exact at both ends.

    f = clip(step / num_steps, 0, 1), y = start · (end / start)ᶠ.

    Args:
      step: [...] steps made so far.
      start: [...] > 0, y at step 0.
      end: [...] > 0, y from step num_steps on.
      num_steps: [...] ≥ 0; 0 gives end, ∞ gives start.

    Returns:
      [...] y, floating.

    Raises:
      ValueError: the shapes do not broadcast.

    Gradient: nothing is stopped.

    Source: optax.schedules.exponential_decay, given by its ends instead of its rate.

    Examples:
      >>> from purerl import schedules
      >>> print(schedules.exponential_schedule(jnp.array([0, 5, 10]), start=1.0, end=0.25, num_steps=10))
      [1.   0.5  0.25]
    """
    fraction = _fraction(step, num_steps)
    ratio = jnp.asarray(end, fraction.dtype) / start
    return jnp.where(fraction == 1, end, start * ratio**fraction)


def piecewise_constant_schedule(step: int | jax.Array, boundaries: jax.Array, values: jax.Array) -> jax.Array:
    """A staircase: values[i] from step boundaries[i − 1] on, up to boundaries[i].

    y = values[number of boundaries ≤ step].

    Args:
      step: [...] steps made so far.
      boundaries: [K] rising steps at which the value changes.
      values: [K + 1].

    Returns:
      [...] y.

    Raises:
      AssertionError: there must be one more value than boundaries.

    Gradient: nothing is stopped.

    Source: optax.schedules.piecewise_constant_schedule, with values instead of factors.

    Examples:
      >>> from purerl import schedules
      >>> boundaries, values = jnp.array([10, 20]), jnp.array([1.0, 0.5, 0.1])
      >>> print(schedules.piecewise_constant_schedule(jnp.array([9, 10, 20]), boundaries, values))
      [1.  0.5 0.1]
    """
    boundaries, values = jnp.asarray(boundaries), jnp.asarray(values)
    chex.assert_shape(values, (boundaries.shape[0] + 1,))
    return values[jnp.searchsorted(boundaries, jnp.asarray(step), side="right")]


def piecewise_linear_schedule(step: int | jax.Array, knots: jax.Array, values: jax.Array) -> jax.Array:
    """Straight lines through (knots[i], values[i]), flat before and after, exact at every knot.

    y = (1 − f) · values[i] + f · values[i + 1] with f = (step − knots[i]) / (knots[i + 1] − knots[i]), for the i whose
    interval holds the step, and f clipped to [0, 1].

    Args:
      step: [...] steps made so far.
      knots: [K] rising steps, K ≥ 2.
      values: [K], y at the knots.

    Returns:
      [...] y, floating.

    Raises:
      AssertionError: the shapes differ, or there are fewer than two knots.

    Gradient: nothing is stopped.

    Source: numpy.interp, which rounds at the last knot.

    Examples:
      >>> from purerl import schedules
      >>> knots, values = jnp.array([0, 10, 20]), jnp.array([0.0, 1.0, 0.5])
      >>> print(schedules.piecewise_linear_schedule(jnp.array([5, 10, 15, 99]), knots, values))
      [0.5  1.   0.75 0.5 ]
    """
    knots, values = jnp.asarray(knots), jnp.asarray(values)
    chex.assert_equal_shape([knots, values])
    chex.assert_axis_dimension_gt(knots, 0, 1)
    i = jnp.clip(jnp.searchsorted(knots, jnp.asarray(step), side="right") - 1, 0, knots.shape[0] - 2)
    beyond = jnp.maximum(step, knots[i]) - knots[i]  # 0 before the first knot, also for unsigned integers
    fraction = jnp.minimum(beyond / (knots[i + 1] - knots[i]), 1)
    return (1 - fraction) * values[i] + fraction * values[i + 1]


def _fraction(step: int | jax.Array, num_steps: float | jax.Array) -> jax.Array:
    step, num_steps = jnp.asarray(step, float), jnp.asarray(num_steps, float)
    done = step >= num_steps
    return jnp.where(done, 1, jnp.maximum(step / jnp.where(done, 1, num_steps), 0))
