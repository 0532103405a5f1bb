"""Prediction with linear functions of features: semi-gradient TD, gradient Monte Carlo, and least squares."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import returns
from purerl.agents.common.trajectories import discounts, done, require_episodes
from purerl.agents.tabular import tables
from purerl.hparams import NonNegative, UnitInterval
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, PyTree, Requirements, Transition, UpdateFn

TARGETS = ("td", "monte_carlo")
Features: TypeAlias = Callable[[PyTree], jax.Array]
"""`obs -> x [D]`."""
Policy: TypeAlias = Callable[[PyTree], jax.Array]
"""`obs -> [A]` probabilities."""


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
    """State of a linear learner.

    Attributes:
      weights: [D], w; the value of an observation is w · x.
      matrix: [D, D], Σ x (x − γ x')ᵀ or Σ x xᵀ of `least_squares`; `()` of `linear_prediction`.
      vector: [D], Σ x r or Σ x G; `()` of `linear_prediction`.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    weights: jax.Array
    matrix: PyTree
    vector: PyTree
    hparams: LinearHparams
    num_updates: jax.Array


@build_once
def linear_prediction(
    features: Features, policy: Policy, *, behavior: Policy | None = None, target: str = "td"
) -> Agent:
    """Linear prediction by steps along the mean of ρ (y − w · x) x over a trajectory.

        td:           y = r + γ w · x'  (semi-gradient TD(0)), ρ = π(a | s) / b(a | s)
        monte_carlo:  y = G, the return to the episode's end (gradient Monte Carlo), on-policy

    Off-policy TD may diverge. Metrics: `loss/td_error` or `loss/return_error`, the mean of the absolute errors
    without ρ; `weight_norm`; `diverged`, 1 once the weights are not finite.

    Args:
      features: `obs -> x [D]`.
      policy: `obs -> [A]` probabilities of the evaluated policy.
      behavior: `obs -> [A]` probabilities of the policy that acts; None: the evaluated one.
      target: "td", or "monte_carlo", which needs `rollout=purerl.loops.rollout_episodes`.

    Returns:
      An agent with `LinearHparams`.

    Raises:
      ValueError: unknown target, or "monte_carlo" with `behavior`; in `update`, a trajectory without mask for
        "monte_carlo".

    Source: Sutton & Barto (2018), eq. 9.7, section 9.3, eq. 11.2.

    Examples:
      >>> import purerl
      >>> features, policy = lambda obs: jax.nn.one_hot(obs, 5), lambda obs: jnp.ones(1)
      >>> agent = purerl.linear_prediction(features, policy)
      >>> agent.init(jax.random.key(0), purerl.LinearHparams(), example=jnp.int32(2)).weights.shape
      (5,)
    """
    _check_target(target)
    if behavior is not None and target == "monte_carlo":
        raise ValueError("target='monte_carlo' is on-policy: omit behavior")

    def update(key: Key, state: LinearState, data: Transition) -> tuple[LinearState, Metrics]:
        data, x, next_x, discount = _design(features, data, state.hparams, target)
        if target == "td":
            value = data.reward + discount * jnp.where(discount > 0, next_x @ state.weights, 0)
        else:
            value = _whole_returns(data, state.hparams)
        error = value - x @ state.weights  # [T, N]
        weight = data.weight
        if behavior is not None:
            ratio = _each(_probability(policy), data) / _each(_probability(behavior), data)
            weight = jnp.where(weight > 0, weight * ratio, 0)
        total = data.weight.sum()
        step = jnp.einsum("tn,tnd->d", weight * error, x) / jnp.where(total > 0, total, 1)
        weights = state.weights + state.hparams.step_size * step
        state = state._replace(weights=weights, num_updates=optax.safe_increment(state.num_updates))
        return state, _metrics(weights, error, data.weight, target)

    return _agent(features, policy if behavior is None else behavior, update, target, solves=False)


@build_once
def least_squares(features: Features, policy: Policy, *, target: str = "td") -> Agent:
    """Linear prediction in closed form from all steps so far: (M + ridge I) w = b.

        td:           M = Σ x (x − γ x')ᵀ,  b = Σ x r   (LSTD: the fixed point of TD(0))
        monte_carlo:  M = Σ x xᵀ,           b = Σ x G   (the least squared error)

    Solved by one singular value decomposition. If the system is singular, w is the shortest of the best solutions, and
    the metric `rank` is less than D. The other metrics are those of `linear_prediction`.

    Args:
      features: `obs -> x [D]`.
      policy: `obs -> [A]` probabilities of the policy that acts and is evaluated.
      target: "td", or "monte_carlo", which needs `rollout=purerl.loops.rollout_episodes`.

    Returns:
      An agent with `LinearHparams`.

    Raises:
      ValueError: unknown target; in `update`, a trajectory without mask for "monte_carlo".

    Source: Bradtke & Barto (1996), section 5; Sutton & Barto (2018), eq. 9.20.

    Examples:
      >>> import purerl
      >>> features, policy = lambda obs: jax.nn.one_hot(obs, 5), lambda obs: jnp.ones(1)
      >>> agent = purerl.least_squares(features, policy)
      >>> agent.init(jax.random.key(0), purerl.LinearHparams(ridge=1e-3), example=jnp.int32(2)).matrix.shape
      (5, 5)
    """
    _check_target(target)

    def update(key: Key, state: LinearState, data: Transition) -> tuple[LinearState, Metrics]:
        data, x, next_x, discount = _design(features, data, state.hparams, target)
        if target == "td":
            following, value = discount[..., None] * jnp.where(discount[..., None] > 0, next_x, 0), data.reward
        else:
            following, value = jnp.zeros_like(x), _whole_returns(data, state.hparams)
        # M = Σ x (x − γ x')ᵀ [D, D] and b = Σ x r [D]
        matrix = state.matrix + jnp.einsum("tn,tnd,tne->de", data.weight, x, x - following)
        vector = state.vector + jnp.einsum("tn,tnd->d", data.weight * value, x)
        weights, rank = _solve(matrix + state.hparams.ridge * jnp.eye(len(vector)), vector)
        error = value + following @ weights - x @ weights  # [T, N]
        metrics = _metrics(weights, error, data.weight, target) | {"rank": rank}
        num_updates = optax.safe_increment(state.num_updates)
        return LinearState(weights, matrix, vector, state.hparams, num_updates), metrics

    return _agent(features, policy, update, target, solves=True)


def _agent(features: Features, acts: Policy, update: UpdateFn, target: str, *, solves: bool) -> Agent:
    """The agent that acts by `acts` and learns by `update`, with a matrix and a vector if it `solves` for weights."""

    def init(key: Key, hparams: LinearHparams, example: PyTree, num_envs: int = 1) -> LinearState:
        x = features(example)
        chex.assert_rank(x, 1)
        zeros = jnp.zeros(x.shape, jnp.result_type(float))
        matrix, vector = (jnp.outer(zeros, zeros), zeros) if solves else ((), ())
        return LinearState(zeros, matrix, vector, hparams, jnp.int32(0))

    def act(key: Key | None, state: LinearState, obs: PyTree) -> tuple[jax.Array, tuple]:
        probability = acts(obs)
        if key is None:
            return jnp.argmax(probability).astype(jnp.int32), ()
        return jax.random.categorical(key, jnp.log(probability)).astype(jnp.int32), ()

    requires = Requirements("rows" if target == "td" else "episodes")
    return Agent(init, act, update, requires=requires)


def _check_target(target: str) -> None:
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, got {target!r}")


def _design(
    features: Features, data: Transition, hparams: LinearHparams, target: str
) -> tuple[Transition, jax.Array, jax.Array, jax.Array]:
    """Clean data, features [T, N, D] of observations and successors, 0 where masked, and discount [T, N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    if target == "monte_carlo":
        require_episodes(data, "target='monte_carlo'")
    data, each = tables.clean(data), jax.vmap(jax.vmap(features))
    x, next_x = (jnp.where(data.mask[..., None] != 0, each(obs), 0) for obs in (data.obs, data.next_obs))
    return data, x, next_x, discounts(data, hparams.discount)


def _whole_returns(data: Transition, hparams: LinearHparams) -> jax.Array:
    return returns.reward_to_go(data.reward, hparams.discount * (1.0 - done(data)))


def _probability(policy: Policy) -> Callable[[PyTree, jax.Array], jax.Array]:
    return lambda obs, action: policy(obs)[action]


def _each(function: Callable[[PyTree, jax.Array], jax.Array], data: Transition) -> jax.Array:
    return jax.vmap(jax.vmap(function))(data.obs, data.action)


def _solve(matrix: jax.Array, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The shortest least-squares solution, and the rank: singular values above D eps of the largest."""
    left, singular, right = jnp.linalg.svd(matrix)
    kept = singular > len(vector) * jnp.finfo(matrix.dtype).eps * singular[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, singular, 1), 0)
    return right.T @ (inverse * (left.T @ vector)), kept.sum()


def _metrics(weights: jax.Array, error: jax.Array, weight: jax.Array, target: str) -> Metrics:
    norm = jnp.linalg.norm(weights)
    name = "loss/td_error" if target == "td" else "loss/return_error"
    diverged = (~jnp.isfinite(norm)).astype(norm.dtype)
    return {name: tables.mean_absolute(error, weight), "weight_norm": norm, "diverged": diverged}
