"""Critics of real actions at work: what the agents of continuous control do alike.

A critic is `init(key, obs, action)` and `apply(params, obs, action) -> q`, one example each. Several of them are a
tuple of parameters: one batched product of all was measured slower on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import replay
from purerl.agents.common import optimization
from purerl.exploration import noise
from purerl.types import Metrics, Transition

actor_adam = optimization.adam_of("actor_learning_rate")
critic_adam = optimization.adam_of("critic_learning_rate")


def check_exploration(exploration: str, known: Sequence[str]) -> None:
    """Reject an unknown kind of noise of acting.

    Raises:
      ValueError: it is not one of `known`.
    """
    if exploration not in known:
        raise ValueError(f"exploration must be {' or '.join(map(repr, known))}, got {exploration!r}")


def start_noise(key: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    """The memory of lasting noise at the start of an episode: standard normal, or 0 without a key."""
    return jnp.zeros(shape) if key is None else jax.random.normal(key, shape)


def lasting_noise(key: jax.Array, epsilon: jax.Array, theta: jax.Array) -> jax.Array:
    """The next value of an Ornstein-Uhlenbeck process of variance 1 that forgets at the rate `theta` a step."""
    return noise.ou_noise(key, epsilon, theta, jnp.sqrt(2 * theta))


class Batch(NamedTuple):
    """What windows of n steps say of their first steps; leaves lead with [B].

    Attributes:
      obs, action: of the first step.
      reward, discount, next_obs: n-step return, bootstrap factor and successor, of `replay.n_step`.
      weight: importance weights; `()` where every window counts alike.
    """

    obs: Any
    action: Any
    reward: jax.Array
    discount: jax.Array
    next_obs: Any
    weight: Any


def read(window: Transition, discount: jax.Array | float) -> Batch:
    """The batch of windows [L, B]; their mask, where there is one, holds the weights of prioritised replay."""
    chex.assert_rank([window.reward, window.terminated, window.truncated], 2)
    obs, action = (jax.tree.map(lambda x: x[0], x) for x in (window.obs, window.action))
    weight = window.mask if isinstance(window.mask, tuple) else window.mask[0]
    return Batch(obs, action, *replay.n_step(window, discount), weight)


def init(critic: Any, key: jax.Array, obs: Any, action: jax.Array, num_critics: int) -> tuple[Any, ...]:
    """Parameters of `num_critics` critics, each from a key of its own."""
    return tuple(critic.init(k, obs, action) for k in jax.random.split(key, num_critics))


def smallest(critic: Any, params: tuple[Any, ...], obs: Any, action: jax.Array) -> jax.Array:
    """The least value that any critic gives, [B]."""
    return functools.reduce(jnp.minimum, _values(critic, params, obs, action))


def step(
    transform: optax.GradientTransformation,
    critic: Any,
    params: tuple[Any, ...],
    opt_state: Any,
    batch: Batch,
    target: jax.Array,
) -> tuple[tuple[Any, ...], Any, Metrics]:
    """One gradient step of all critics towards the same targets.

        loss = Σ_i mean_b w[b] · ½ (target[b] − q_i(s[b], a[b]))²

    Args:
      transform: of the optimizer, over all parameters as one vector.
      critic: the network.
      params: of each critic.
      opt_state: from `gradient.init` or an earlier step.
      batch: from `read`.
      target: [B].

    Returns:
      The parameters, the optimizer's state, and metrics; with weights, also "priority", the mean of |error|, [B].

    Source: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1; weights: Schaul et al. 2016, arXiv:1511.05952.
    """

    def loss(params: tuple[Any, ...]) -> tuple[jax.Array, Any]:
        q = jnp.stack(_values(critic, params, batch.obs, batch.action))
        error = target - q
        square = 0.5 * jnp.square(error) * (1.0 if isinstance(batch.weight, tuple) else batch.weight)
        total = square.sum() / target.size
        return total, (total, q, error)

    params, opt_state, (total, q, error) = optimization.step(transform, loss, params, opt_state)
    metrics = {"loss/critic": total, "q_value": q.mean()}
    if not isinstance(batch.weight, tuple):
        metrics["priority"] = jnp.abs(error).mean(axis=0) + 1e-6
    return params, opt_state, metrics


def _values(critic: Any, params: tuple[Any, ...], obs: Any, action: jax.Array) -> list[jax.Array]:
    return [jax.vmap(critic.apply, (None, 0, 0))(one, obs, action) for one in params]
