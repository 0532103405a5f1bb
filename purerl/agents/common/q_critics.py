"""Q-critics of continuous actions, shared by SAC, TD3 and their kin.

A critic is `init(key, obs, action)` and `apply(params, obs, action) -> q`, for one example. Several of them are a tuple
of parameters: one batched product of all was measured slower on a CPU. The default critic makes one on an accelerator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from purerl import replay
from purerl.agents.common import batches, optimization, plug_ins, trajectories
from purerl.exploration import noise
from purerl.types import Hparams, Key, Metrics, Network, Params, PyTree, State, Transition

Actor: TypeAlias = Any
"""A `types.Network` that may have the attributes `action_space` and `noise_shape` too."""

actor_adam = optimization.adam_of("actor_learning_rate")
critic_adam = optimization.adam_of("critic_learning_rate")


def check_exploration(exploration: str, known: Sequence[str]) -> None:
    """Reject an unknown kind of exploration noise.

    Raises:
      ValueError: it is not one of `known`.
    """
    if exploration not in known:
        raise ValueError(f"exploration must be {' or '.join(map(repr, known))}, got {exploration!r}")


def initial_noise(key: Key | None, shape: tuple[int, ...]) -> jax.Array:
    """The memory of correlated noise at the start of an episode: standard normal, or 0 without a key."""
    return jnp.zeros(shape, jnp.float32) if key is None else jax.random.normal(key, shape, jnp.float32)


def correlated_noise(key: Key, epsilon: jax.Array, theta: jax.Array) -> jax.Array:
    """The next value of an Ornstein-Uhlenbeck process of variance 1 that forgets at the rate `theta` per step."""
    return noise.ou_noise(key, epsilon, theta, jnp.sqrt(2 * theta))


class Batch(NamedTuple):
    """The n-step transitions of a batch of windows, leaves [B].

    Attributes:
      obs, action: of the first step.
      reward, discount, next_obs: n-step return, bootstrap factor and successor, of `replay.n_step`.
      weight: importance weights; `()` if every window counts equally.
    """

    obs: PyTree
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_obs: PyTree
    weight: PyTree


def n_step_batch(window: Transition, discount: jax.Array | float) -> Batch:
    """The batch of windows [L, B], weighted if they have weights or a mask."""
    chex.assert_rank([window.reward, window.terminated, window.truncated], 2)
    window = trajectories.clean(window)
    obs, action = (jax.tree.map(lambda x: x[0], x) for x in (window.obs, window.action))  # [L, B] -> [B]
    weight = trajectories.step_weight(window)[0] if trajectories.is_weighted(window) else ()
    return Batch(obs, action, *replay.n_step(window, discount), weight)


def init(critic: Network, key: Key, obs: PyTree, action: PyTree, num_critics: int) -> tuple[Params, ...]:
    """Parameters of `num_critics` critics, each from a key of its own."""
    return tuple(plug_ins.init(critic, k, obs, action) for k in jax.random.split(key, num_critics))


def minimum(critic: Network, params: tuple[Params, ...], obs: PyTree, action: jax.Array) -> jax.Array:
    """The minimum over the critics of q(s, a), [B]."""
    return functools.reduce(jnp.minimum, _values(critic, params, obs, action))


def gradient_step(
    optimizer: optimization.Optimizer,
    hparams: Hparams,
    critic: Network,
    params: tuple[Params, ...],
    opt_state: PyTree,
    batch: Batch,
    target: jax.Array,
) -> tuple[tuple[Params, ...], PyTree, Metrics]:
    """One gradient step of all critics towards the same targets.

        loss = Σ_i mean_b w[b] · ½ (target[b] − q_i(s[b], a[b]))²

    Args:
      optimizer, hparams: of the critics.
      critic: the network.
      params: of each critic.
      opt_state: from `optimization.init` or an earlier step.
      batch: from `n_step_batch`.
      target: [B].

    Returns:
      The parameters, the optimizer's state, and metrics; with weights, also "priority", the mean of |error|, [B].

    Source: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1; weights: Schaul et al. 2016, arXiv:1511.05952.
    """

    def loss(params: tuple[Params, ...]) -> tuple[jax.Array, Metrics]:
        q = jnp.stack(_values(critic, params, batch.obs, batch.action))  # [C, B]
        error = target[None] - q
        total = weighted_squares(error, batch.weight)
        return total, critic_metrics(total, q, error, batch.weight)

    return optimization.gradient_step(optimizer, hparams, loss, params, opt_state)


def in_parts(
    step: Callable[[Key, State, Batch], tuple[State, Metrics]], key: Key, state: State, batch: Batch, policy_delay: int
) -> tuple[State, Metrics, Batch]:
    """`policy_delay` steps of the critics, each on its own part of the batch, one after the other.

    Args:
      step: `(key, state, part [B / policy_delay]) -> (state, metrics)`.
      key: typed key, split into one per step.
      state: the agent's state before the steps.
      batch: leaves [B].
      policy_delay: number of steps.

    Returns:
      The state after them, the means of the metrics ("priority" for every window, [B]), and the last part.

    Raises:
      ValueError: `policy_delay` does not divide B.
    """
    if len(batch.reward) % policy_delay:
        raise ValueError(f"policy_delay = {policy_delay} does not divide the batch of {len(batch.reward)} windows")
    # [B, ...] -> [policy_delay, B / policy_delay, ...]
    parts = jax.tree.map(lambda x: x.reshape(policy_delay, -1, *x.shape[1:]), batch)
    keys = jax.random.split(key, policy_delay)
    state, metrics = jax.lax.scan(lambda state, xs: step(xs[0], state, xs[1]), state, (keys, parts))
    metrics = {name: x.reshape(-1) if name == "priority" else x.mean() for name, x in metrics.items()}
    return state, metrics, jax.tree.map(lambda x: x[-1], parts)


def weighted_squares(error: jax.Array, weight: PyTree) -> jax.Array:
    """Σ_i mean_b w[b] ½ error[i, b]², over errors [C, B]; windows of weight 0 may hold NaN."""
    return weighted_sum(0.5 * jnp.square(error), weight)


def weighted_sum(each: jax.Array, weight: PyTree) -> jax.Array:
    """Σ_i mean_b w[b] loss[i, b], over losses [C, B]; windows of weight 0 may hold NaN."""
    if trajectories.has(weight):
        each = jnp.where(weight[None] != 0, each * weight[None], 0)
    return each.sum() / each.shape[-1]


def critic_metrics(total: jax.Array, q: jax.Array, error: jax.Array, weight: PyTree) -> Metrics:
    """Metrics of a step of critics from the loss, values and errors [C, B]; with weights, also "priority", [B]."""
    metrics = {"loss/critic": total, "loss/td_error": jnp.abs(error).mean(), "q_value": q.mean()}
    if trajectories.has(weight):
        metrics["priority"] = jnp.abs(error).mean(axis=0) + 1e-6
    return metrics


def _values(critic: Network, params: tuple[Params, ...], obs: PyTree, action: jax.Array) -> list[jax.Array]:
    return batches.apply_each(critic, params, obs, action)
