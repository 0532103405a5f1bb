"""The two backward passes over time that every estimator in `returns` and `off_policy` uses.

`backward_scan` solves y[t] = offset[t] + slope[t] · y[t+1]. On a CPU it is a plain `lax.scan` with the recursion in
its body: measured on two cores at T=128, N=4096 (`python -m benchmarks returns`), it takes a quarter of the time of an
associative scan, because the body is one fused loop over a row and the arrays are read exactly once. On a GPU each trip
of that loop would be three kernel launches, 387 for T=128, and rounds of windows are 4. `compose` is for windows of a
fixed length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import lax

_FACTORS = ("discount", "trace_decay")


def common(*, reward: jax.Array, **others: jax.Array | float) -> list[jax.Array]:
    """The arrays in their common dtype and in the shape of the reward, after checking that they are time-major.

    A scalar stands for an array of it, and does not count for the dtype.

    Raises:
      AssertionError: the shapes differ, there is no time axis, the reward is not floating, or `discount` or
        `trace_decay` are flags; the argument is named.
    """
    arrays = {name: other for name, other in others.items() if jnp.ndim(other) > 0}
    same_shape(reward=reward, **arrays)
    chex.assert_type(reward, float)
    check_factors(**{name: others[name] for name in _FACTORS if name in others})
    chex.assert_axis_dimension_gt(reward, 0, 0)
    dtype = jnp.result_type(reward, *arrays.values())
    return [jnp.broadcast_to(jnp.asarray(array, dtype), reward.shape) for array in (reward, *others.values())]


def same_shape(**arrays: jax.Array | float | None) -> None:
    """Reject arrays of different shapes; None stands for an argument that was not given.

    Raises:
      AssertionError: names the arguments with their shapes.

    Examples:
      >>> same_shape(reward=jnp.zeros(3), value=jnp.zeros(4))
      Traceback (most recent call last):
      ...
      AssertionError: the arrays must have one shape, but reward is [3], value is [4]
    """
    shapes = {name: jnp.shape(array) for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} is {list(shape)}" for name, shape in shapes.items())
        raise AssertionError(f"the arrays must have one shape, but {found}")


def check_rows(name: str, rows: jax.Array, **others: jax.Array) -> None:
    """Reject rows [..., A] that are not one for every entry of other arrays [...].

    Raises:
      AssertionError: names the arguments with their shapes.

    Examples:
      >>> check_rows("next_q", jnp.zeros((3, 2)), reward=jnp.zeros(4))
      Traceback (most recent call last):
      ...
      AssertionError: next_q must have the shape of reward, [4], and one more axis at the end, but is [3, 2]
    """
    for other, array in others.items():
        if jnp.ndim(rows) == 0 or jnp.shape(rows)[:-1] != jnp.shape(array):
            raise AssertionError(
                f"{name} must have the shape of {other}, {list(jnp.shape(array))}, and one more axis at the end, "
                f"but is {list(jnp.shape(rows))}"
            )


def check_factors(**factors: jax.Array | float) -> None:
    """Reject flags in the place of factors, such as the `done` of another library, which mean the opposite.

    Raises:
      AssertionError: names the argument, and says what it should be.

    Examples:
      >>> check_factors(discount=jnp.array([False, True]))
      Traceback (most recent call last):
      ...
      AssertionError: discount must be numbers, such as gamma * (1 - terminated), not bool[2]
    """
    wanted = {"discount": "gamma * (1 - terminated)", "trace_decay": "gae_lambda * (1 - (terminated | truncated))"}
    for name, factor in factors.items():
        if jnp.result_type(factor) == jnp.bool_:
            raise AssertionError(f"{name} must be numbers, such as {wanted[name]}, not bool{list(jnp.shape(factor))}")


def cut(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x where weight ≠ 0 and exact 0 elsewhere, so that weight · x is never 0 · NaN, nor are its gradients."""
    return jnp.where(weight == 0, 0, x)


def backward_scan(step: Callable[..., jax.Array], last: jax.Array, *xs: jax.Array) -> jax.Array:
    """y[t] = step(y[t+1], x[t], ...) with y[T] = last; returns y [T, ...].

    `step` is elementwise, affine in its first argument, and uses it through `cut` so that a slope of 0 cuts everything.
    """
    sequential, associative = functools.partial(_sequential, step), functools.partial(_associative, step)
    return lax.platform_dependent(last, *xs, cpu=sequential, default=associative)


def _sequential(step: Callable[..., jax.Array], last: jax.Array, *xs: jax.Array) -> jax.Array:
    def body(carry: jax.Array, x: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        carry = step(carry, *x)
        return carry, carry

    return lax.scan(body, last, xs, reverse=True)[1]


def _associative(step: Callable[..., jax.Array], last: jax.Array, *xs: jax.Array) -> jax.Array:
    """The same by composing the affine maps y -> offset[t] + slope[t] · y in windows, in log T rounds."""
    zeros = jnp.zeros_like(jnp.broadcast_to(last, xs[0].shape))
    offset, slope = jax.jvp(lambda y: step(y, *xs), (zeros,), (jnp.ones_like(zeros),))
    # The map of T is y -> last, at which every window ends: [T] -> [T + 1].
    offset = jnp.concatenate([offset, jnp.broadcast_to(last, offset.shape[1:])[None]])
    slope = jnp.concatenate([slope, jnp.zeros_like(slope[:1])])
    reach = 1
    while reach < len(slope):
        starts = range(0, min(_RADIX * reach, len(slope)), reach)
        windows = [(_ahead(offset, start), _ahead(slope, start)) for start in starts]
        offset, slope = functools.reduce(_after, reversed(windows))
        reach *= _RADIX
    return offset[:-1]


_RADIX = 8  # windows that a round joins: each round is a kernel, so 3 of them for 128 steps


def _after(later: tuple[jax.Array, jax.Array], earlier: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """earlier(later(y)) = o + s (o' + s' y)."""
    offset, slope = earlier
    return offset + slope * cut(later[0], slope), slope * later[1]


def compose(slope: jax.Array, offset: jax.Array, value: jax.Array, length: int) -> jax.Array:
    """y[t] = f[t](f[t+1](... f[t+length-1](value[t+length]))) where f[t](x) = offset[t] + slope[t] · x.

    Windows of length 1, 2, 4, ... are composed with each other, so this takes O(T log length). `slope[-1]` must be 0:
    then nothing beyond the end is ever used.
    """
    length, reach = min(length, len(slope)), 1
    while length:
        if length & 1:
            value = offset + slope * cut(_ahead(value, reach), slope)
        offset, slope = (
            offset + slope * cut(_ahead(offset, reach), slope),
            slope * _ahead(slope, reach),
        )
        length, reach = length >> 1, 2 * reach
    return value


def _ahead(x: jax.Array, steps: int) -> jax.Array:
    """x[t + steps], and 0 beyond the end."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(-steps, steps, 0)] + [(0, 0, 0)] * (x.ndim - 1))
