"""Exact solvers: policy evaluation by one linear solve, and policy iteration upon it. Memory is O(S²)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from purerl.mdp.backup import comparable, difference, first_best, layout, sweep_infinite
from purerl.mdp.linear import solve_chain
from purerl.mdp.types import MDP, Solution, check, check_policy, check_scalar
from purerl.types import Scalar


def policy_evaluation(mdp: MDP, policy: ArrayLike, discount: Scalar) -> jax.Array:
    """The exact value of a policy: the solution of (I − γ P_π) v = r_π.

    Solved by eliminating states without subtractions (see `purerl.mdp.linear`), so float32 is accurate to rounding
    even for γ close to 1, any number of evaluations can share a program under `jax.vmap`, and the result is
    differentiable in `policy`, `mdp.probability` and `mdp.reward`. Takes O(S²) memory and O(S³) work: beyond a few
    thousand states use `iterative_policy_evaluation`.

    Args:
      mdp: outcome lists [S, A, K].
      policy: [S, A] action probabilities.
      discount: scalar γ in [0, 1].

    Returns:
      [S] values. At γ = 1, states from which the policy never ends have the value 0 if it then collects no reward,
      and an infinite one with the sign of the reward otherwise.

    Raises:
      ValueError: the policy is not a distribution in some state, or as `check`.

    Source: Sutton & Barto (2018), eq. 4.4, solved as a linear system.

    Examples:
      >>> from purerl import mdp
      >>> walk = mdp.random_walk(num_states=3)
      >>> [round(v, 3) for v in mdp.policy_evaluation(walk, [[1.0], [1.0], [1.0]], discount=1.0).tolist()]
      [-0.5, 0.0, 0.5]
    """
    mdp = check(mdp)
    policy = check_policy(policy, mdp.next_state.shape[:2])
    return _policy_evaluation(mdp, policy, check_scalar("discount", discount, 0, 1))


def policy_iteration(mdp: MDP, discount: Scalar, max_iterations: int | jax.Array = 100) -> Solution:
    """Policy iteration: exact evaluation and greedy improvement until no action is better.

    Starts from the actions that are greedy to the uniform policy, which ends wherever ending is possible, so γ = 1
    works if never ending has a price. An action is replaced only by one that is better by more than rounding
    (8 eps max|q|, over finite q), and the sum of all values must rise, so ties cannot cycle. A state keeps the value
    −∞ as long as every one of its actions can lead to such a state.

    Args:
      mdp: outcome lists [S, A, K]; takes O(S²) memory.
      discount: scalar γ in [0, 1].
      max_iterations: limit on the number of evaluations of a greedy policy.

    Returns:
      `Solution`: the value of the last policy, q one backup of it, the first best actions in q, evaluations done,
      and max |max_a q − value|, which is rounding once converged.

    Raises:
      ValueError: as `value_iteration`.

    Source: Howard (1960); Sutton & Barto (2018), section 4.3.

    Examples:
      >>> from purerl import mdp
      >>> solution = mdp.policy_iteration(mdp.maze_2x3(), discount=0.9)
      >>> print(solution.policy[0])  # from the start to the right
      [0. 1. 0. 0.]
    """
    check_scalar("max_iterations", max_iterations, 0)
    discount = check_scalar("discount", discount, 0, 1)
    return _policy_iteration(check(mdp), discount, jnp.asarray(max_iterations, jnp.int32))


def exact_value(mdp: MDP, policy: jax.Array, discount: jax.Array) -> jax.Array:
    """`policy_evaluation` without its checks, for use inside other programs."""
    num_states = mdp.next_state.shape[0]
    weight = policy[:, :, None] * mdp.probability  # [S, A, K]
    going_on = jnp.where(mdp.terminated, 0, weight)
    state = jnp.arange(num_states)[:, None, None]
    transition = jnp.zeros((num_states, num_states), weight.dtype).at[state, mdp.next_state].add(discount * going_on)
    leak = (1 - discount) * jnp.sum(going_on, (1, 2)) + jnp.sum(jnp.where(mdp.terminated, weight, 0), (1, 2))
    return solve_chain(transition, leak, jnp.sum(weight * mdp.reward, (1, 2)))


def restrict(mdp: MDP, action: jax.Array) -> MDP:
    """The MDP in which state s has only action[s], [S]: outcome lists [S, 1, K]."""
    pick = functools.partial(jnp.take_along_axis, indices=action[:, None, None], axis=1)
    return MDP(pick(mdp.next_state), pick(mdp.probability), pick(mdp.reward), pick(mdp.terminated), mdp.initial)


def better_action(q: jax.Array, action: jax.Array) -> jax.Array:
    """Greedy improvement of the actions [S] under q [S, A], only where it gains more than rounding."""
    q = comparable(q)
    taken = jnp.take_along_axis(q, action[:, None], axis=1)[:, 0]
    margin = 8 * jnp.finfo(q.dtype).eps * jnp.max(jnp.where(jnp.isfinite(q), jnp.abs(q), 0))
    return jnp.where(jnp.max(q, axis=1) > taken + margin, jnp.argmax(q, axis=1), action)


@jax.jit
def _policy_evaluation(mdp: MDP, policy: jax.Array, discount: jax.Array) -> jax.Array:
    return exact_value(mdp, policy, discount)


@jax.jit
def _policy_iteration(mdp: MDP, discount: jax.Array, max_iterations: jax.Array) -> Solution:
    arrays = layout(mdp)
    uniform = jnp.full(mdp.next_state.shape[:2], 1 / mdp.next_state.shape[1], mdp.probability.dtype)
    one_action = jnp.ones_like(uniform[:, :1])

    def improve(carry: tuple) -> tuple:
        action, value, q, iterations, _ = carry
        first = iterations == 0
        action = jnp.where(first, jnp.argmax(comparable(q), axis=1), better_action(q, action))
        new_value = exact_value(restrict(mdp, action), one_action, discount)
        new_q = sweep_infinite(arrays, new_value, discount).T
        rose = first | (jnp.sum(difference(new_value, value)) > 0)
        changed = rose & jnp.any(better_action(new_q, action) != action)
        return action, jnp.where(rose, new_value, value), jnp.where(rose, new_q, q), iterations + 1, changed

    value = exact_value(mdp, uniform, discount)
    q = sweep_infinite(arrays, value, discount).T
    start = (jnp.argmax(q, axis=1), value, q, jnp.array(0, jnp.int32), jnp.array(True))
    _, value, q, iterations, _ = jax.lax.while_loop(lambda c: c[-1] & (c[-2] < max_iterations), improve, start)
    residual = jnp.max(jnp.abs(difference(jnp.max(comparable(q), axis=1), value)))
    return Solution(value, q, first_best(q), iterations, residual)
