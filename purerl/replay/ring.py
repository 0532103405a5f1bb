"""A ring of the last steps of N environments, and uniform sampling of windows from it."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import prng
from purerl.hparams import check_positive
from purerl.types import Key, PyTree, Scalar, Transition


class Ring(NamedTuple):
    """The last steps of N environments.

    Attributes:
      steps: a `Transition` whose leaves lead with [rows, N]; a row is one step of every environment.
      head: int32, the row that is written next.
      num_rows: int32, rows written so far, at most all.
    """

    steps: Transition
    head: jax.Array
    num_rows: jax.Array


def init(example: Transition, capacity: int, num_envs: int) -> Ring:
    """An empty ring.

    Args:
      example: one step (arrays, or `jax.ShapeDtypeStruct`s); the ring keeps its dtypes, so uint8 stays uint8.
      capacity: steps over all environments; rounded down to whole rows of `num_envs` steps.
      num_envs: number of environments, N.

    Raises:
      TypeError: the example is not a `Transition`, or a flag of it is not bool.
      ValueError: a size is not positive, the capacity is less than one row, or the example is more than one step.

    Examples:
      >>> zero, false = jnp.float32(0), jnp.bool_(False)
      >>> ring = init(Transition(zero, zero, zero, false, false, zero), capacity=100, num_envs=8)
      >>> ring.steps.reward.shape
      (12, 8)
    """
    check_positive(capacity=capacity, num_envs=num_envs)
    _check_step("example", example, 0, "one step, without axes of time or environments")
    rows = capacity // num_envs
    if not rows:
        raise ValueError(f"capacity = {capacity} holds no step of each of num_envs = {num_envs} environments")
    steps = jax.tree.map(lambda x: jnp.zeros((rows, num_envs, *x.shape), x.dtype), example)
    return Ring(steps, jnp.int32(0), jnp.int32(0))


def add(ring: Ring, trajectory: Transition) -> Ring:
    """Write a trajectory over the oldest rows; in place under `jit` if the old ring is not used again.

    Args:
      ring: the ring.
      trajectory: leaves lead with [T, N], with the structure of the ring's steps.

    Raises:
      TypeError: the trajectory is not a `Transition`, a flag is not bool, or a leaf has fractions and the ring's has
        none.
      ValueError: the trajectory does not lead with [T, N], is longer than the ring, or of another number of
        environments; or a leaf's shape is not that of the example. It is named.

    Examples:
      >>> zero, false = jnp.float32(0), jnp.bool_(False)
      >>> step = Transition(zero, zero, zero, false, false, zero)
      >>> trajectory = jax.tree.map(lambda x: jnp.zeros((3, 8), x.dtype), step)
      >>> ring = add(init(step, capacity=100, num_envs=8), trajectory)
      >>> ring.num_rows.item(), window_count(ring, length=2).item()
      (3, 16)
    """
    rows, num_envs = ring.steps.reward.shape
    _check_step("trajectory", trajectory, 2, "[T, N]: one step of N environments is x[None]")
    length, width = trajectory.reward.shape
    if width != num_envs:
        raise ValueError(
            f"a trajectory of {width} environments does not fit a ring that was made for num_envs = {num_envs}"
        )
    if length > rows:
        raise ValueError(
            f"a trajectory of {length} steps x {width} environments does not fit a ring of {rows} rows x {num_envs}; "
            f"capacity must be at least rollout_length x num_envs = {length * width}"
        )
    _check_leaves(ring.steps, trajectory)
    index = (ring.head + jnp.arange(length)) % rows  # [T]

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        if length == 1:
            return jax.lax.dynamic_update_index_in_dim(old, new[0].astype(old.dtype), ring.head, 0)
        return old.at[index].set(new, unique_indices=True, mode="promise_in_bounds")

    steps = jax.tree.map(write, ring.steps, trajectory)
    return Ring(steps, (ring.head + length) % rows, jnp.minimum(ring.num_rows + length, rows))


def _check_step(name: str, step: Transition, rank: int, wanted: str) -> None:
    """Reject what is not a `Transition`, or one with other leading axes than it should have."""
    if not hasattr(step, "reward"):
        raise TypeError(f"{name} must be a purerl.Transition, got {type(step).__name__}")
    shape = getattr(step.reward, "shape", ())
    if len(shape) != rank:
        raise ValueError(f"{name} must be {wanted}; its reward has shape {list(shape)}")
    for flag in ("terminated", "truncated"):
        _check_flag(f"{name}.{flag}", getattr(step, flag))


def _check_flag(name: str, flag: jax.Array) -> None:
    """Reject the numbers 0 and 1, whose bitwise complement is not the other one."""
    if jnp.result_type(flag) != jnp.bool_:
        raise TypeError(f"{name} must be bool, got {jnp.result_type(flag)}")


def _check_leaves(steps: Transition, trajectory: Transition) -> None:
    """Reject leaves that would be broadcast, written in part or cut to integers without a word."""

    def check(path: tuple, old: jax.Array, new: jax.Array) -> None:
        name, shape = jax.tree_util.keystr(path), (*trajectory.reward.shape, *old.shape[2:])
        if jnp.shape(new) != shape:
            raise ValueError(
                f"trajectory{name} must have shape {list(shape)}, as the ring's example, got {list(jnp.shape(new))}"
            )
        if jnp.issubdtype(new.dtype, jnp.inexact) and not jnp.issubdtype(old.dtype, jnp.inexact):
            raise TypeError(f"trajectory{name} must be {old.dtype}, as the ring's example, got {new.dtype}")

    jax.tree_util.tree_map_with_path(check, steps, trajectory)


def sample(key: Key, ring: Ring, batch_size: int, length: int = 1) -> tuple[Transition, jax.Array]:
    """Windows of consecutive steps of one environment, drawn uniformly with replacement; O(batch_size · length).

    A window reaches neither over the write head nor into rows that were not written. It may reach over the end of an
    episode, which its flags mark: `n_step` and the functions of `purerl.returns` stop there.

    Args:
      key: typed key.
      ring: a ring with at least `length` rows written; with fewer, unwritten rows of zeros come out.
      batch_size: number of windows, B.
      length: steps in a window, L.

    Returns:
      A `Transition` whose leaves lead with [L, B], and the index of each window's first step, row · N + environment,
      int32 [B].

    Examples:
      >>> number, false = jnp.arange(10.0)[:, None], jnp.zeros((10, 1), bool)
      >>> trajectory = Transition(number, number, number, false, false, number + 1)
      >>> ring = add(init(jax.tree.map(lambda x: x[0, 0], trajectory), capacity=10, num_envs=1), trajectory)
      >>> window, index = sample(jax.random.key(0), ring, batch_size=5, length=3)
      >>> window.obs.shape, bool(jnp.all(window.obs[2] == window.obs[0] + 2)), index.shape
      ((3, 5), True, (5,))
    """
    index = draw(key, ring, batch_size, length)
    return take(ring, index), index[0]


def draw(key: Key, ring: Ring, batch_size: int, length: int) -> jax.Array:
    """The indices of the steps of the windows of `sample`, row · N + environment, int32 [L, B]."""
    num_envs = ring.steps.reward.shape[1]
    choice = prng.integers(key, (batch_size,), jnp.maximum(window_count(ring, length), 1))
    return _indices(ring, oldest_row(ring) + choice // num_envs, choice % num_envs, length)


def take(ring: Ring, index: jax.Array) -> Transition:
    """The steps at the given indices, row · N + environment."""

    def pick(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]).at[index].get(mode="promise_in_bounds")

    return jax.tree.map(pick, ring.steps)


def windows(ring: Ring, row: jax.Array, env: jax.Array, length: int) -> tuple[Transition, jax.Array]:
    """The windows that start at the given rows (modulo the number of rows) and environments, [B], as in `sample`."""
    index = _indices(ring, row, env, length)
    return take(ring, index), index[0]


def _indices(ring: Ring, row: jax.Array, env: jax.Array, length: int) -> jax.Array:
    num_rows, num_envs = ring.steps.reward.shape
    return (row[None] + jnp.arange(length)[:, None]) % num_rows * num_envs + env[None]  # [L, B]


def cut(ring: Ring) -> Ring:
    """Mark the newest row as truncated if it did not terminate: the next row belongs to other episodes.

    Examples:
      >>> zero, false = jnp.float32(0), jnp.bool_(False)
      >>> step = Transition(zero, zero, zero, false, false, zero)
      >>> ring = add(init(step, 4, 1), jax.tree.map(lambda x: x[None, None], step))
      >>> cut(ring).steps.truncated[0].tolist()
      [True]
    """
    newest = ring.head - 1
    truncated = ring.steps.truncated.at[newest].set(~ring.steps.terminated[newest])
    return ring._replace(steps=ring.steps._replace(truncated=truncated))


def window_count(ring: Ring, length: int = 1) -> jax.Array:
    """Number of windows of a length that the ring holds, int32."""
    return jnp.maximum(ring.num_rows - length + 1, 0) * ring.steps.reward.shape[1]


def oldest_row(ring: Ring) -> jax.Array:
    """Row of the oldest steps, int32."""
    return jnp.where(ring.num_rows < ring.steps.reward.shape[0], 0, ring.head)


def nbytes(ring: PyTree) -> int:
    """Memory of a ring, or of any state that holds one, in bytes; also of the result of `jax.eval_shape`.

    Examples:
      >>> nbytes({"image": jax.ShapeDtypeStruct((1000, 84, 84), jnp.uint8)})
      7056000
    """
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(ring))


def n_step(window: Transition, discount: Scalar) -> tuple[jax.Array, jax.Array, PyTree]:
    """The n-step return of a window's first step: rewards up to its end or the episode's, and what follows.

        G = r[0] + γ r[1] + ... + γᵏ r[k],   D = γᵏ⁺¹ (1 − terminated[k]),   s' = next_obs[k]

    with k the first step that ends an episode, or the last of the window. A target is G + D · v(s').

    Args:
      window: leaves lead with [L, ...].
      discount: γ.

    Returns:
      G [...], D [...], and s' with leaves [...].

    Raises:
      AssertionError: the shapes of the reward and the flags differ.
      TypeError: a flag is not bool.

    Examples:
      >>> reward, no = jnp.array([1.0, 2.0, 4.0]), jnp.zeros(3, bool)
      >>> window = Transition(reward, reward, reward, no, jnp.array([False, True, False]), jnp.array([10, 11, 12]))
      >>> [x.item() for x in n_step(window, 0.5)]  # the episode was cut after the second step
      [2.0, 0.25, 11]

    Source: Sutton & Barto (2018), eq. 7.1.
    """
    chex.assert_equal_shape([window.reward, window.terminated, window.truncated])
    _check_flag("terminated", window.terminated)
    _check_flag("truncated", window.truncated)
    reward, factor = window.reward[0], discount * (1.0 - window.terminated[0])
    next_obs = jax.tree.map(lambda x: x[0], window.next_obs)
    alive = ~(window.terminated[0] | window.truncated[0])
    for k in range(1, len(window.reward)):
        reward = jnp.where(alive, reward + discount**k * window.reward[k], reward)
        factor = jnp.where(alive, discount ** (k + 1) * (1.0 - window.terminated[k]), factor)
        next_obs = jax.tree.map(lambda old, new, here=alive, k=k: _where(here, new[k], old), next_obs, window.next_obs)
        alive &= ~(window.terminated[k] | window.truncated[k])
    return reward, factor, next_obs


def _where(condition: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(condition.reshape(condition.shape + (1,) * (new.ndim - condition.ndim)), new, old)
