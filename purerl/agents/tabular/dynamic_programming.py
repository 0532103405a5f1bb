"""Dynamic programming as agents for `fit`: the data are an MDP, one update is one iteration.

    state, metrics = purerl.fit(key, value_iteration(), mdp, DynamicProgrammingHparams(discount=0.9), num_updates=100)

Metrics: `residual`, the sup-norm of the change in units of reward; `initial_value`, Σ_s initial(s) v(s). The solvers of
`purerl.mdp` compute the same and stop on their own; the agents show every iteration, act, and vmap like any agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from purerl.hparams import NonNegative, Positive, UnitInterval
from purerl.mdp.backup import (
    best,
    difference,
    evaluate_chain,
    first_best,
    follow,
    layout,
    soft_best,
    sweep,
    sweep_infinite,
)
from purerl.mdp.exact import better_action, exact_value
from purerl.mdp.types import MDP
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Requirements


class DynamicProgrammingHparams(NamedTuple):
    """Attributes: discount: γ in [0, 1]."""

    discount: UnitInterval = 0.99


class SoftValueIterationHparams(NamedTuple):
    """Attributes: discount: γ in [0, 1]; temperature: τ > 0, in units of reward."""

    discount: UnitInterval = 0.99
    temperature: Positive = 0.1


class ModifiedPolicyIterationHparams(NamedTuple):
    """Attributes: discount: γ in [0, 1]; num_sweeps: evaluation sweeps after each greedy one."""

    discount: UnitInterval = 0.99
    num_sweeps: NonNegative = 10


class DynamicProgrammingState(NamedTuple):
    """State of these agents.

    Attributes:
      value: [S].
      q: [S, A], the action values computed in the last update.
      policy: [S, A] probabilities, what `act` follows.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    value: jax.Array
    q: jax.Array
    policy: jax.Array
    hparams: Any
    num_updates: jax.Array


Problem: TypeAlias = MDP | tuple[MDP, jax.Array]
"""The data of `fit`: an MDP, or an MDP and the policy [S, A] to evaluate."""
Improve: TypeAlias = Callable[[DynamicProgrammingState, Any], tuple[jax.Array, jax.Array, jax.Array]]
"""`(state, data) -> (value [S], q [S, A], policy [S, A])`."""


@build_once
def value_iteration() -> Agent:
    """Value iteration: an update is q ← Σ_k p (r + γ v(s')), v ← max_a q, and the first greedy action.

    After n updates the value is that of n sweeps from 0. Source: Sutton & Barto (2018), eq. 4.10.

    Examples:
      >>> import purerl
      >>> agent, hparams = purerl.value_iteration(), purerl.DynamicProgrammingHparams(discount=0.9)
      >>> state = agent.init(jax.random.key(0), hparams, example=purerl.mdp.maze_2x3())
      >>> state.q.shape
      (6, 4)
    """

    def improve(state: DynamicProgrammingState, mdp: MDP) -> tuple[jax.Array, jax.Array, jax.Array]:
        q = sweep(layout(mdp), state.value, state.hparams.discount)
        return best(q), q.T, first_best(q.T)

    return _agent(improve)


@build_once
def soft_value_iteration() -> Agent:
    """Entropy-regularised value iteration: v ← τ log Σ_a exp(q / τ), and the policy softmax(q / τ).

    Hyperparameters: `SoftValueIterationHparams`. Source: Haarnoja et al. (2017), eqs. 4 to 6.

    Examples:
      >>> import purerl
      >>> agent, hparams = purerl.soft_value_iteration(), purerl.SoftValueIterationHparams(temperature=0.5)
      >>> state = agent.init(jax.random.key(0), hparams, example=purerl.mdp.maze_2x3())
      >>> state.q.shape
      (6, 4)
    """

    def improve(state: DynamicProgrammingState, mdp: MDP) -> tuple[jax.Array, jax.Array, jax.Array]:
        temperature = state.hparams.temperature
        q = sweep(layout(mdp), state.value, state.hparams.discount)
        return soft_best(q, temperature), q.T, jax.nn.softmax(q.T / temperature)

    return _agent(improve)


@build_once
def modified_policy_iteration() -> Agent:
    """Modified policy iteration: a greedy sweep, then `num_sweeps` sweeps of the greedy policy alone.

    Hyperparameters: `ModifiedPolicyIterationHparams`. Source: Puterman & Shin (1978).

    Examples:
      >>> import purerl
      >>> agent, hparams = purerl.modified_policy_iteration(), purerl.ModifiedPolicyIterationHparams(num_sweeps=3)
      >>> state = agent.init(jax.random.key(0), hparams, example=purerl.mdp.maze_2x3())
      >>> state.q.shape
      (6, 4)
    """

    def improve(state: DynamicProgrammingState, mdp: MDP) -> tuple[jax.Array, jax.Array, jax.Array]:
        arrays, hparams = layout(mdp), state.hparams
        q = sweep(arrays, state.value, hparams.discount)
        chain = follow(arrays, jnp.argmax(q, axis=0))
        return evaluate_chain(chain, best(q), hparams.discount, hparams.num_sweeps), q.T, first_best(q.T)

    return _agent(improve)


@build_once
def policy_iteration() -> Agent:
    """Policy iteration: exact evaluation of the current policy, then greedy improvement; starts from the uniform one.

    The value is that of the policy before the improvement. An action is kept unless another is better by more than
    rounding. It takes O(S²) memory. Source: Sutton & Barto (2018), section 4.3.

    Examples:
      >>> import purerl
      >>> agent, hparams = purerl.policy_iteration(), purerl.DynamicProgrammingHparams(discount=0.9)
      >>> state = agent.init(jax.random.key(0), hparams, example=purerl.mdp.maze_2x3())
      >>> state.q.shape
      (6, 4)
    """

    def improve(state: DynamicProgrammingState, mdp: MDP) -> tuple[jax.Array, jax.Array, jax.Array]:
        value = exact_value(mdp, state.policy, state.hparams.discount)
        q = sweep_infinite(layout(mdp), value, state.hparams.discount).T
        action = better_action(q, jnp.argmax(state.policy, axis=1))
        return value, q, jax.nn.one_hot(action, q.shape[1], dtype=q.dtype)

    return _agent(improve)


@build_once
def policy_evaluation() -> Agent:
    """Policy evaluation by sweeps; the data of `fit` are the pair (mdp, policy [S, A]): v ← Σ_a π q.

    Source: Sutton & Barto (2018), eq. 4.5, with two arrays.

    Examples:
      >>> import purerl
      >>> problem = purerl.mdp.random_walk(5), jnp.ones((5, 1))
      >>> agent, hparams = purerl.policy_evaluation(), purerl.DynamicProgrammingHparams(discount=1.0)
      >>> state = agent.init(jax.random.key(0), hparams, example=problem)
      >>> state.value.shape
      (5,)
    """

    def improve(state: DynamicProgrammingState, data: tuple[MDP, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        mdp, policy = data
        q = sweep(layout(mdp), state.value, state.hparams.discount).T
        return jnp.sum(policy * q, axis=1), q, policy

    return _agent(improve)


def _agent(improve: Improve) -> Agent:
    """The agent whose update replaces value, q and policy by the result of `improve(state, data)`."""

    def init(key: Key, hparams: NamedTuple, example: Problem, num_envs: int = 1) -> DynamicProgrammingState:
        mdp = _mdp_of(example)
        num_states, num_actions, _ = mdp.next_state.shape
        value = jnp.zeros(num_states, mdp.probability.dtype)
        q = jnp.zeros((num_states, num_actions), value.dtype)
        policy = jnp.full_like(q, 1 / num_actions)
        return DynamicProgrammingState(value, q, policy, hparams, jnp.zeros((), jnp.int32))

    def act(key: Key | None, state: DynamicProgrammingState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        probability = state.policy[obs]
        if key is None:
            return jnp.argmax(probability).astype(jnp.int32), ()
        return jax.random.categorical(key, jnp.log(probability)).astype(jnp.int32), ()

    def update(key: Key, state: DynamicProgrammingState, data: Problem) -> tuple[DynamicProgrammingState, Metrics]:
        value, q, policy = improve(state, data)
        initial = _mdp_of(data).initial
        metrics = {
            "residual": jnp.max(jnp.abs(difference(value, state.value))),
            "initial_value": jnp.sum(initial * jnp.where(initial > 0, value, 0)),
        }
        num_updates = optax.safe_increment(state.num_updates)
        return DynamicProgrammingState(value, q, policy, state.hparams, num_updates), metrics

    return Agent(init, act, update, requires=Requirements("whole"))


def _mdp_of(data: Problem) -> MDP:
    return data if isinstance(data, MDP) else data[0]
