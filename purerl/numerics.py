"""Numbers that go wrong quietly: sums beyond the precision of float32, parameters that became NaN, missing values."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.hparams import get_learner
from purerl.types import PyTree, State

LARGEST_PARAMETER = 1e9
"""Parameters beyond it have diverged: their products overflow in a few layers, and no gradient is finite any more."""


class Sum(NamedTuple):
    """A running sum as the unevaluated sum of two float32 numbers, of 48 bits together.

    One float32 stands still once the terms are smaller than 2^-24 of it.

    Attributes:
      high: the sum, rounded.
      low: what the rounding left out.
    """

    high: jax.Array
    low: jax.Array


def new_sum(shape: tuple[int, ...] = ()) -> Sum:
    """A sum of nothing."""
    return Sum(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def add(total: Sum, term: jax.Array) -> Sum:
    """The sum with one more term.

    Examples:
      >>> total = Sum(jnp.float32(2**24), jnp.float32(0))
      >>> total = add(add(total, jnp.float32(1)), jnp.float32(1))
      >>> int(total.high)  # 2^24 + 1 is not a float32
      16777218
    """
    high, error = two_sum(total.high, term)
    return Sum(*two_sum(high, total.low + error))


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a + b rounded, and the rounding error, exactly.

    Source: Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B (TwoSum).
    """
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def missing() -> float:
    """The value of a metric that has none, such as the mean return of no episodes: NaN.

    It is -inf for programs that are traced while `jax_debug_nans` is set, where a NaN would stop the run.
    """
    return -float("inf") if jax.debug_nans.value else float("nan")


def diverged(state: State) -> jax.Array:
    """Whether an agent's learner holds a NaN, or its parameters an infinity or a number beyond `LARGEST_PARAMETER`.

    Metrics and greedy actions hide it: the argmax of NaN is an action. Replay and hyperparameters do not count. Reading
    the learner once is cheap beside an update; use `jax.vmap` over a population.

    Args:
      state: an agent's state, possibly below those of combinators.

    Returns:
      bool scalar.

    Examples:
      >>> from purerl.types import TrainState
      >>> bool(diverged(TrainState(jnp.array([1.0, jnp.nan]), (), (), jnp.int32(3))))
      True
    """
    try:
        learner = get_learner(state)
    except (TypeError, NameError):  # not a NamedTuple, or one whose annotations cannot be resolved
        learner = {"params": state}
    return _has_diverged(learner)


def _has_diverged(learner: dict[str, PyTree]) -> jax.Array:
    found = [jnp.bool_(False)]
    for name, value in learner.items():
        if name == "agent":
            found.append(_has_diverged(value))
        elif name != "hparams":
            leaves = [leaf for leaf in jax.tree.leaves(value) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
            found += [jnp.any(_is_lost(leaf) if name == "params" else jnp.isnan(leaf)) for leaf in leaves]
    return jnp.any(jnp.stack(found))


def _is_lost(params: jax.Array) -> jax.Array:
    return ~(jnp.abs(params) <= LARGEST_PARAMETER)  # NaN too
