"""Prediction with linear functions of features: semi-gradient TD, gradient Monte Carlo, and least squares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import returns
from purerl.hparams import NonNegative, UnitInterval
from purerl.types import Agent, Metrics, Transition

TARGETS = ("td", "monte_carlo")
Policy = Callable[[Any], jax.Array]


class LinearHparams(NamedTuple):
    """Hyperparameters of linear prediction.

    Attributes:
      step_size: α, of `linear_prediction`.
      discount: γ.
      ridge: added to the diagonal, of `least_squares`; in units of the features' squares.
    """

    step_size: NonNegative = 0.01
    discount: UnitInterval = 0.99
    ridge: NonNegative = 0.0


class LinearState(NamedTuple):
    """What a linear learner carries.

    Attributes:
      weights: [D], w; the value of an observation is w · x.
      matrix: [D, D], Σ x (x − γ x')ᵀ or Σ x xᵀ of `least_squares`; `()` of `linear_prediction`.
      vector: [D], Σ x r or Σ x G; `()` likewise.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    weights: jax.Array
    matrix: Any
    vector: Any
    hparams: Any
    num_updates: jax.Array


def linear_prediction(
    features: Callable[[Any], jax.Array], policy: Policy, *, behavior: Policy | None = None, target: str = "td"
) -> Agent:
    """Linear prediction by steps along the mean of ρ (y − w · x) x over a trajectory.

        td:           y = r + γ w · x'  (semi-gradient TD(0)), ρ = π(a | s) / b(a | s)
        monte_carlo:  y = G, the return to the episode's end (gradient Monte Carlo), on-policy

    Off-policy TD may diverge: the metric `weight_norm` shows it, and `diverged` is 1 once it is not finite.

    Args:
      features: `obs -> x [D]`.
      policy: `obs -> [A]` probabilities, the policy that is judged.
      behavior: likewise, the policy that acts; None: the one that is judged.
      target: "td", or "monte_carlo", which needs `rollout=purerl.loops.rollout_episodes`.

    Returns:
      An agent with `LinearHparams`.

    Raises:
      ValueError: unknown target, or "monte_carlo" with `behavior`; in `update`, a trajectory without mask for
        "monte_carlo".

    Source: Sutton & Barto (2018), eq. 9.7, section 9.3, eq. 11.2.
    """
    _check_target(target)
    if behavior is not None and target == "monte_carlo":
        raise ValueError("target='monte_carlo' is on-policy: leave out behavior")

    def update(key: jax.Array, state: LinearState, data: Transition) -> tuple[LinearState, Metrics]:
        x, next_x, mask, discount = _design(features, data, state.hparams)
        if target == "td":
            value = data.reward + discount * jnp.where(discount > 0, next_x @ state.weights, 0)
        else:
            value = _whole_returns(data, state.hparams)
        error = mask * (value - x @ state.weights)
        if behavior is not None:
            error = error * _each(_probability(policy), data) / _each(_probability(behavior), data)
        step = jnp.einsum("tn,tnd->d", error, x) / jnp.maximum(mask.sum(), 1)
        weights = state.weights + state.hparams.step_size * step
        return state._replace(weights=weights, num_updates=state.num_updates + 1), _metrics(weights, error, mask)

    return _agent(features, policy if behavior is None else behavior, update, solves=False)


def least_squares(features: Callable[[Any], jax.Array], policy: Policy, *, target: str = "td") -> Agent:
    """Linear prediction in closed form from all steps so far: (M + ridge I) w = b.

        td:           M = Σ x (x − γ x')ᵀ,  b = Σ x r   (LSTD: the fixed point of TD(0))
        monte_carlo:  M = Σ x xᵀ,           b = Σ x G   (the least squared error)

    Solved by one singular value decomposition; where the system is singular w is the shortest of the best solutions,
    and the metric `rank` is less than D.

    Args:
      features: `obs -> x [D]`.
      policy: `obs -> [A]` probabilities, the policy that acts and is judged.
      target: "td", or "monte_carlo", which needs `rollout=purerl.loops.rollout_episodes`.

    Returns:
      An agent with `LinearHparams`.

    Raises:
      ValueError: unknown target; in `update`, a trajectory without mask for "monte_carlo".

    Source: Bradtke & Barto (1996), section 5; Sutton & Barto (2018), eq. 9.20.
    """
    _check_target(target)

    def update(key: jax.Array, state: LinearState, data: Transition) -> tuple[LinearState, Metrics]:
        x, next_x, mask, discount = _design(features, data, state.hparams)
        if target == "td":
            following, value = discount[..., None] * jnp.where(discount[..., None] > 0, next_x, 0), data.reward
        else:
            following, value = jnp.zeros_like(x), _whole_returns(data, state.hparams)
        matrix = state.matrix + jnp.einsum("tn,tnd,tne->de", mask, x, x - following)
        vector = state.vector + jnp.einsum("tn,tnd->d", mask * value, x)
        weights, rank = _solve(matrix + state.hparams.ridge * jnp.eye(len(vector)), vector)
        error = mask * (value + following @ weights - x @ weights)
        metrics = _metrics(weights, error, mask) | {"rank": rank}
        return LinearState(weights, matrix, vector, state.hparams, state.num_updates + 1), metrics

    return _agent(features, policy, update, solves=True)


def _agent(features: Callable[[Any], jax.Array], acts: Policy, update: Callable[..., Any], *, solves: bool) -> Agent:
    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> LinearState:
        x = features(example)
        chex.assert_rank(x, 1)
        zeros = jnp.zeros(x.shape, jnp.result_type(float))
        matrix, vector = (jnp.outer(zeros, zeros), zeros) if solves else ((), ())
        return LinearState(zeros, matrix, vector, hparams, jnp.int32(0))

    def act(key: jax.Array | None, state: LinearState, obs: Any) -> tuple[jax.Array, tuple]:
        probability = acts(obs)
        if key is None:
            return jnp.argmax(probability).astype(jnp.int32), ()
        return jax.random.categorical(key, jnp.log(probability)).astype(jnp.int32), ()

    return Agent(init, act, update)


def _check_target(target: str) -> None:
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, got {target!r}")


def _design(
    features: Callable[[Any], jax.Array], data: Transition, hparams: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Features [T, N, D] of the observations and of their successors, mask and discount [T, N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    mask = jnp.ones_like(data.reward) if isinstance(data.mask, tuple) else data.mask
    each = jax.vmap(jax.vmap(features))
    return each(data.obs), each(data.next_obs), mask, hparams.discount * (1 - data.terminated)


def _whole_returns(data: Transition, hparams: Any) -> jax.Array:
    if isinstance(data.mask, tuple):
        raise ValueError("target='monte_carlo' needs whole episodes: pass rollout=purerl.loops.rollout_episodes")
    return returns.reward_to_go(data.reward * data.mask, hparams.discount * (1.0 - (data.terminated | data.truncated)))


def _probability(policy: Policy) -> Callable[[Any, jax.Array], jax.Array]:
    return lambda obs, action: policy(obs)[action]


def _each(function: Callable[[Any, jax.Array], jax.Array], data: Transition) -> jax.Array:
    return jax.vmap(jax.vmap(function))(data.obs, data.action)


def _solve(matrix: jax.Array, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The shortest least-squares solution, and the rank: singular values above D eps of the largest."""
    left, singular, right = jnp.linalg.svd(matrix)
    kept = singular > len(vector) * jnp.finfo(matrix.dtype).eps * singular[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, singular, 1), 0)
    return right.T @ (inverse * (left.T @ vector)), kept.sum()


def _metrics(weights: jax.Array, error: jax.Array, mask: jax.Array) -> Metrics:
    norm = jnp.linalg.norm(weights)
    square = jnp.sum(error**2) / jnp.maximum(mask.sum(), 1)
    return {"loss/value": jnp.sqrt(square), "weight_norm": norm, "diverged": (~jnp.isfinite(norm)).astype(jnp.float32)}
