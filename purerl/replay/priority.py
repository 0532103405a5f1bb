"""Prioritized replay: windows drawn in proportion to a power of their priority, and the weights that correct for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import prng
from purerl.numerics import two_sum
from purerl.replay import ring as rings
from purerl.replay import sum_tree
from purerl.types import Key, Scalar, Transition

_GOLDEN = (1 + 5**0.5) / 2


class PriorityRing(NamedTuple):
    """A ring beside the priorities of the windows that start at its steps.

    Attributes:
      ring: the steps.
      tree: p^α for every step, row · N + environment; 0 if no whole window starts there.
      largest: the largest p so far, which new windows get.
    """

    ring: rings.Ring
    tree: sum_tree.Tree
    largest: jax.Array


def init(example: Transition, capacity: int, num_envs: int) -> PriorityRing:
    """An empty ring with priorities. Arguments and errors are those of `replay.init`.

    Examples:
      >>> zero, false = jnp.float32(0), jnp.bool_(False)
      >>> state = init(Transition(zero, zero, zero, false, false, zero), capacity=100, num_envs=4)
      >>> state.ring.steps.reward.shape, sum_tree.total(state.tree).item()
      ((25, 4), 0.0)
    """
    ring = rings.init(example, capacity, num_envs)
    return PriorityRing(ring, sum_tree.init(ring.steps.reward.size), jnp.float32(1))


def add(state: PriorityRing, trajectory: Transition, exponent: Scalar, length: int = 1) -> PriorityRing:
    """Write a trajectory; windows that it completes get the largest priority so far.

    The newest `length` − 1 rows start no whole window yet: they have weight 0 until later rows complete them.

    Args:
      state: the ring and its priorities.
      trajectory: as for `replay.add`.
      exponent: α, 0 for uniform sampling.
      length: steps in a window, L.

    Raises:
      ValueError: the trajectory and a window do not fit the ring together; otherwise as `replay.add`.

    Examples:
      >>> zeros, no = jnp.zeros((3, 4)), jnp.zeros((3, 4), bool)
      >>> trajectory = Transition(zeros, zeros, zeros, no, no, zeros)
      >>> state = init(jax.tree.map(lambda x: x[0, 0], trajectory), capacity=100, num_envs=4)
      >>> sum_tree.total(add(state, trajectory, exponent=0.5, length=2).tree).item()  # windows start in 2 rows of 4
      8.0
    """
    old, ring = state.ring, rings.add(state.ring, trajectory)
    rows, num_envs = ring.steps.reward.shape
    if len(trajectory.reward) + length - 1 > rows:
        raise ValueError(f"capacity must be at least (rollout_length + length - 1) x num_envs, got {rows} x {num_envs}")
    offset = jnp.arange(1 - length, len(trajectory.reward))
    complete = (offset <= len(trajectory.reward) - length) & (offset + old.num_rows >= 0)
    value = jnp.where(complete, _power(state.largest, exponent), 0.0)
    index = ((old.head + offset) % rows)[:, None] * num_envs + jnp.arange(num_envs)[None]  # [T + L - 1, N]
    value = jnp.broadcast_to(value[:, None], index.shape)
    return PriorityRing(ring, sum_tree.update(state.tree, index.reshape(-1), value.reshape(-1)), state.largest)


def cut(state: PriorityRing) -> PriorityRing:
    """Mark the newest row as truncated, as `replay.cut` does."""
    return state._replace(ring=rings.cut(state.ring))


def sample(
    key: Key, state: PriorityRing, batch_size: int, importance_exponent: Scalar, length: int = 1
) -> tuple[Transition, jax.Array, jax.Array]:
    """Windows drawn with probability P(i) = pᵢ^α / Σⱼ pⱼ^α, one from each of B equal parts of the mass.

        w_i = (1 / (M · P(i)))^β / max over the batch,   M the number of windows in the ring

    The parts come in the order of `spread`, so that an agent that cuts the batch gets windows of all ages in each cut.

    Args:
      key: typed key.
      state: the ring and its priorities; at least one window is complete.
      batch_size: number of windows, B.
      importance_exponent: β; 1 is the full correction.
      length: steps in a window, L, the same as in `add`.

    Returns:
      The windows, leaves [L, B]; their indices, int32 [B]; w, [B].

    Examples:
      >>> zeros, no = jnp.zeros((3, 4)), jnp.zeros((3, 4), bool)
      >>> trajectory = Transition(zeros, zeros, zeros, no, no, zeros)
      >>> state = init(jax.tree.map(lambda x: x[0, 0], trajectory), capacity=100, num_envs=4)
      >>> state = update(add(state, trajectory, 1.0), jnp.arange(12), jnp.arange(12) == 7, 1.0)
      >>> _, index, weight = sample(jax.random.key(0), state, 3, 1.0)
      >>> index.tolist(), weight.tolist()
      ([7, 7, 7], [1.0, 1.0, 1.0])

    Source: Schaul et al. 2016, arXiv:1511.05952, eq. 1 and 2, algorithm 1 and section 3.4.
    """
    num_envs = state.ring.steps.reward.shape[1]
    total = sum_tree.total(state.tree)
    part = total / batch_size
    # One uniform number of 23 bits is as coarse as a small priority among 10^6 of them, so a second one refines it.
    coarse, fine = jax.random.uniform(prng.unrolled(key), (2, batch_size), jnp.float32)
    mass, rest = two_sum(jnp.asarray(spread(batch_size), jnp.float32) * part, coarse * part)
    index = sum_tree.find(state.tree, mass, rest + fine * part * jnp.float32(2**-23))
    picked, _ = rings.windows(state.ring, index // num_envs, index % num_envs, length)
    probability = sum_tree.get(state.tree, index) / total
    weight = _power(rings.window_count(state.ring, length) * probability, -importance_exponent)
    return picked, index, weight / weight.max()


def spread(size: int) -> np.ndarray:
    """An order of 0, ..., size − 1 in which every contiguous part is spread evenly over the whole range.

    i ↦ i · k mod size, with k the number nearest to size / φ, φ the golden ratio, that has no divisor in common.

    Args:
      size: number of elements, at least 1.

    Returns:
      int [size], a permutation.

    Examples:
      >>> spread(8).tolist()
      [0, 5, 2, 7, 4, 1, 6, 3]
    """
    near = sorted(range(1, size + 1), key=lambda k: abs(k - size / _GOLDEN))
    step = next(k for k in near if math.gcd(k, size) == 1)
    return np.arange(size) * step % size


def update(
    state: PriorityRing, index: jax.Array, priority: jax.Array, exponent: Scalar, ready: jax.Array | bool = True
) -> PriorityRing:
    """Give windows new priorities, or leave them as they are if not `ready`.

    Args:
      state: the ring and its priorities.
      index: int32 [B], from `sample`.
      priority: [B] p > 0, such as |δ| + ε. If p or p^α is NaN, as of
        p < 0, or infinite, the window gets 0, so it is not drawn again.
      exponent: α.
      ready: scalar bool.
    """
    priority = priority.astype(state.largest.dtype)  # errors are float64 under x64
    value = _power(priority, exponent)
    finite = jnp.isfinite(priority) & jnp.isfinite(value)  # also with α = 0, where NaN^α is 1
    priority, value = jnp.where(finite, priority, 0), jnp.where(finite, value, 0)
    value = jnp.where(ready, value, sum_tree.get(state.tree, index))
    largest = jnp.where(ready, jnp.maximum(state.largest, priority.max()), state.largest)
    return PriorityRing(state.ring, sum_tree.update(state.tree, index, value), largest)


def _power(x: jax.Array, exponent: Scalar) -> jax.Array:
    """x to a power, float32."""
    return x.astype(jnp.float32) ** jnp.asarray(exponent, jnp.float32)
