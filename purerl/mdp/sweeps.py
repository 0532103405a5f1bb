"""Solvers that sweep: value iteration, its modified and soft variants, and iterative policy evaluation.

Every solver is one compiled program for a given shape. `discount`, tolerances and iteration limits are data, so
`jax.vmap` over MDPs, policies or discounts works, and each member of a batch stops counting when it has converged.
Memory is O(S A K).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from purerl.mdp.backup import Layout, best, evaluate_chain, first_best, follow, layout, soft_best, sweep
from purerl.mdp.types import MDP, Solution, check, check_policy, check_scalar
from purerl.types import Scalar

Scalars: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]  # discount, tolerance, max_iterations
Carry: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]  # value, iterations, residual


def value_iteration(
    mdp: MDP, discount: Scalar, tolerance: Scalar = 1e-6, max_iterations: int | jax.Array = 10_000
) -> Solution:
    """Synchronous value iteration from v = 0: v(s) ← max_a Σ_k p (r + γ (1 − terminated) v(s')), all states at once.

    Stops when a sweep changed no value by more than `tolerance`. `tolerance=0` asks for an exact fixed point in
    floating point, and with `max_iterations=n` gives the table after n sweeps.

    Args:
      mdp: outcome lists [S, A, K].
      discount: scalar γ in [0, 1]; 1 if all policies end, or if rewards make never ending worse.
      tolerance: scalar, sup-norm of the last change, in units of reward.
      max_iterations: limit on the number of sweeps.

    Returns:
      `Solution`: value, q one backup of it, the first best actions in q, sweeps made, the last change.

    Raises:
      ValueError: an argument is out of range or the MDP is malformed (see `check`), where concrete.

    Source: Sutton & Barto (2018), section 4.4, eq. 4.10, with two arrays.

    Examples:
      >>> from purerl import mdp
      >>> solution = mdp.value_iteration(mdp.maze_2x3(), discount=0.9)
      >>> round(float(solution.value[0]), 3), int(solution.iterations)
      (9.0, 4)
    """
    return _value_iteration(check(mdp), _scalars(discount, tolerance, max_iterations))


def value_iteration_history(mdp: MDP, discount: Scalar, num_sweeps: int) -> jax.Array:
    """All tables of value iteration: row k is the value function after k sweeps from v = 0.

    Args:
      mdp: outcome lists [S, A, K].
      discount: scalar γ in [0, 1].
      num_sweeps: Python int.

    Returns:
      [num_sweeps + 1, S]; row 0 is zero.

    Examples:
      >>> from purerl import mdp
      >>> history = mdp.value_iteration_history(mdp.maze_2x3(), discount=0.9, num_sweeps=2)
      >>> print(history[:, :2].round(3))  # the start, and the cell beside the goal
      [[ 0.  0.]
       [ 0. 10.]
       [ 9. 10.]]
    """
    return _history(check(mdp), check_scalar("discount", discount, 0, 1), num_sweeps)


def modified_policy_iteration(
    mdp: MDP,
    discount: Scalar,
    num_sweeps: int | jax.Array = 10,
    tolerance: Scalar = 1e-6,
    max_iterations: int | jax.Array = 10_000,
) -> Solution:
    """Modified policy iteration: a greedy sweep, then `num_sweeps` cheap sweeps of the greedy policy alone.

    v ← (T_π)^num_sweeps T v with π greedy to v. Evaluation sweeps cost one action instead of A; 0 of them is value
    iteration, infinitely many policy iteration.

    Args:
      mdp: outcome lists [S, A, K].
      discount, max_iterations: as in `value_iteration`.
      num_sweeps: evaluation sweeps per iteration; data, so a new value compiles nothing.
      tolerance: stops when the greedy sweep of an iteration changed no value by more than this.

    Returns:
      `Solution`; `iterations` counts greedy sweeps, `residual` is the change by the last of them.

    Raises:
      ValueError: as `value_iteration`.

    Source: Puterman & Shin (1978); Puterman (1994), section 6.5.

    Examples:
      >>> from purerl import mdp
      >>> solution = mdp.modified_policy_iteration(mdp.maze_2x3(), discount=0.9, num_sweeps=3)
      >>> round(float(solution.value[0]), 3)
      9.0
    """
    check_scalar("num_sweeps", num_sweeps, 0)
    num_sweeps = jnp.asarray(num_sweeps, jnp.int32)
    return _modified_policy_iteration(check(mdp), num_sweeps, _scalars(discount, tolerance, max_iterations))


def soft_value_iteration(
    mdp: MDP,
    discount: Scalar,
    temperature: Scalar,
    tolerance: Scalar = 1e-6,
    max_iterations: int | jax.Array = 10_000,
) -> Solution:
    """Entropy-regularised value iteration: v(s) ← τ log Σ_a exp(q(s, a) / τ).

    Its fixed point maximizes the expected sum of rewards plus τ times the policy's entropy in every visited state.

    Args:
      mdp: outcome lists [S, A, K].
      discount, tolerance, max_iterations: as in `value_iteration`.
      temperature: scalar τ > 0, in units of reward.

    Returns:
      `Solution` with the policy softmax(q / τ).

    Raises:
      ValueError: τ is not positive, or as `value_iteration`.

    Source: Haarnoja et al. (2017), Reinforcement Learning with Deep Energy-Based Policies, eqs. 4 to 6.

    Examples:
      >>> from purerl import mdp
      >>> maze = mdp.maze_2x3()
      >>> soft = mdp.soft_value_iteration(maze, discount=0.9, temperature=1.0)
      >>> bool((soft.value > mdp.value_iteration(maze, discount=0.9).value).all())  # entropy is worth something
      True
    """
    temperature = check_scalar("temperature", temperature, 1e-30)
    return _soft_value_iteration(check(mdp), temperature, _scalars(discount, tolerance, max_iterations))


def iterative_policy_evaluation(
    mdp: MDP,
    policy: ArrayLike,
    discount: Scalar,
    tolerance: Scalar = 1e-6,
    max_iterations: int | jax.Array = 10_000,
) -> Solution:
    """Policy evaluation by sweeps from v = 0: v(s) ← Σ_a π(a | s) q(s, a). No S × S array: a million states fit.

    Args:
      mdp: outcome lists [S, A, K].
      policy: [S, A] action probabilities.
      discount, tolerance, max_iterations: as in `value_iteration`.

    Returns:
      `Solution`, whose policy is the given one.

    Raises:
      ValueError: the policy is not a distribution in some state, or as `value_iteration`.

    Source: Sutton & Barto (2018), section 4.1, eq. 4.5, with two arrays.

    Examples:
      >>> from purerl import mdp
      >>> walk = mdp.random_walk(num_states=3)
      >>> solution = mdp.iterative_policy_evaluation(walk, policy=[[1.0], [1.0], [1.0]], discount=1.0)
      >>> [round(v, 3) for v in solution.value.tolist()]
      [-0.5, 0.0, 0.5]
    """
    mdp = check(mdp)
    policy = check_policy(policy, mdp.next_state.shape[:2])
    return _iterative_evaluation(mdp, policy, _scalars(discount, tolerance, max_iterations))


@jax.jit
def _value_iteration(mdp: MDP, scalars: Scalars) -> Solution:
    return _fixed_point(mdp, scalars, best, first_best)


@jax.jit
def _soft_value_iteration(mdp: MDP, temperature: jax.Array, scalars: Scalars) -> Solution:
    return _fixed_point(mdp, scalars, lambda q: soft_best(q, temperature), lambda q: jax.nn.softmax(q / temperature))


@jax.jit
def _iterative_evaluation(mdp: MDP, policy: jax.Array, scalars: Scalars) -> Solution:
    return _fixed_point(mdp, scalars, lambda q: jnp.sum(policy.T * q, axis=0), lambda _: policy)


@jax.jit
def _modified_policy_iteration(mdp: MDP, num_sweeps: jax.Array, scalars: Scalars) -> Solution:
    def evaluate(arrays: Layout, q: jax.Array, value: jax.Array) -> jax.Array:
        return evaluate_chain(follow(arrays, jnp.argmax(q, axis=0)), value, scalars[0], num_sweeps)

    return _fixed_point(mdp, scalars, best, first_best, evaluate)


@functools.partial(jax.jit, static_argnums=2)
def _history(mdp: MDP, discount: jax.Array, num_sweeps: int) -> jax.Array:
    arrays = layout(mdp)

    def step(value: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        new = best(sweep(arrays, value, discount))
        return new, new

    zero = jnp.zeros_like(mdp.initial)
    return jnp.concatenate([zero[None], jax.lax.scan(step, zero, length=num_sweeps)[1]])


def _fixed_point(
    mdp: MDP,
    scalars: Scalars,
    reduce: Callable[[jax.Array], jax.Array],
    policy: Callable[[jax.Array], jax.Array],
    refine: Callable[..., jax.Array] | None = None,
) -> Solution:
    """Repeat v ← reduce(q(v)) from v = 0 until v changes by at most `tolerance`. NaN also stops it.

    Args:
      mdp: outcome lists.
      scalars: discount, tolerance, max_iterations.
      reduce: q [A, S] -> v [S].
      policy: q [S, A] -> the policy [S, A] to report.
      refine: `(layout, q, v) -> v` after each sweep; it does not count as a change.
    """
    discount, tolerance, max_iterations = scalars
    arrays = layout(mdp)

    def body(carry: Carry) -> Carry:
        value, iterations, _ = carry
        q = sweep(arrays, value, discount)
        new = reduce(q)
        change = jnp.max(jnp.abs(new - value))
        return new if refine is None else refine(arrays, q, new), iterations + 1, change

    def unfinished(carry: Carry) -> jax.Array:
        return (carry[2] > tolerance) & (carry[1] < max_iterations)

    start = (jnp.zeros_like(mdp.initial), jnp.array(0, jnp.int32), jnp.array(jnp.inf, mdp.initial.dtype))
    value, iterations, residual = jax.lax.while_loop(unfinished, body, start)
    q = sweep(arrays, value, discount).T
    return Solution(value, q, policy(q), iterations, residual)


def _scalars(discount: Scalar, tolerance: Scalar, max_iterations: int | jax.Array) -> Scalars:
    check_scalar("max_iterations", max_iterations, 0)
    return (
        check_scalar("discount", discount, 0, 1),
        check_scalar("tolerance", tolerance, 0),
        jnp.asarray(max_iterations, jnp.int32),
    )
