"""An MDP as outcome lists, a solution as a tuple of arrays, and the checks of what users pass in."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from purerl.types import PyTree, Scalar

SUM_TOLERANCE = 1e-5


class MDP(NamedTuple):
    """A finite Markov decision process: every state and action has a list of K weighted outcomes.

    Memory is O(S A K), so a million states fit where a dense `[S, A, S]` array would not. A pytree of arrays: stack
    several of one shape and `jax.vmap` over them. Lists shorter than K are padded with outcomes of probability 0.

    Attributes:
      next_state: [S, A, K] int32, the state that outcome k of action a in state s leads to.
      probability: [S, A, K] float, its probability; sums to 1 over k.
      reward: [S, A, K] float, the reward paid on the way.
      terminated: [S, A, K] bool, the episode ends with this outcome: nothing is earned after it.
      initial: [S] float, the distribution of an episode's first state; sums to 1.
    """

    next_state: jax.Array
    probability: jax.Array
    reward: jax.Array
    terminated: jax.Array
    initial: jax.Array


class Solution(NamedTuple):
    """Result of a solver.

    Attributes:
      value: [S], the last value function.
      q: [S, A], one Bellman backup of `value`.
      policy: [S, A] probabilities. From solvers of the optimum the one-hot of the first best action in `q`.
      iterations: int32, number of iterations.
      residual: sup-norm of the last change of the value function, in units of reward.
    """

    value: jax.Array
    q: jax.Array
    policy: jax.Array
    iterations: jax.Array
    residual: jax.Array


def error_bound(solution: Solution, discount: Scalar, temperature: Scalar = 0.0) -> jax.Array:
    """How far `solution.value` can be from the exact fixed point, in the sup-norm.

    ‖v − v*‖ ≤ ‖T v − v‖ / (1 − γ), with T v = Σ_a π(a) q(a) + τ H(π): the optimality operator if π is greedy, the
    evaluation operator if π is the evaluated policy, the soft operator with temperature τ if π is the softmax.
    For value iteration that is at most γ / (1 − γ) times `solution.residual`. The rounding of v itself, about
    eps |v| / (1 − γ), comes on top; with γ = 1 there is no such bound and the result is infinite.

    Args:
      solution: from any solver.
      discount: scalar γ in [0, 1], the one it was solved with.
      temperature: scalar τ, 0 except for `soft_value_iteration`.

    Returns:
      Scalar bound, in units of reward.

    Source: Puterman (1994), Theorem 6.3.1 and Proposition 6.1.1 (contraction).

    Examples:
      >>> from purerl import mdp
      >>> solution = mdp.value_iteration(mdp.gridworld_3x4(), discount=0.9, tolerance=0.01)
      >>> bound = mdp.error_bound(solution, discount=0.9)
      >>> exact = mdp.policy_iteration(mdp.gridworld_3x4(), discount=0.9)
      >>> bool(jnp.abs(solution.value - exact.value).max() <= bound)
      True
    """
    probability = jnp.where(solution.policy > 0, solution.policy, 1)  # 0 · log 0 = 0 = 1 · log 1
    entropy = -jnp.sum(probability * jnp.log(probability), axis=-1)
    backup = jnp.sum(solution.policy * solution.q, axis=-1) + temperature * entropy
    gap = jnp.max(jnp.abs(backup - solution.value))
    return jnp.where(jnp.asarray(discount) < 1, gap / jnp.maximum(1 - discount, 1e-30), jnp.inf)


def check(mdp: MDP) -> MDP:
    """The same MDP with the dtypes of `MDP`, after the checks of `checked`.

    Raises:
      ValueError: as `checked`.

    Examples:
      >>> from purerl import mdp
      >>> walk = mdp.random_walk(num_states=3)
      >>> mdp.check(walk._replace(probability=walk.probability / 2))
      Traceback (most recent call last):
      ValueError: state 0, action 0: the outcomes' probabilities sum to 0.5, not to 1
    """
    return checked(*mdp)


def checked(
    next_state: ArrayLike, probability: ArrayLike, reward: ArrayLike, terminated: ArrayLike, initial: ArrayLike
) -> MDP:
    """An MDP from its fields, after checking them.

    Shapes are always checked; values only if all arrays are concrete, so under `jax.jit` and `jax.vmap` the check of
    values costs nothing.

    Args:
      next_state, probability, reward, terminated, initial: the fields of `MDP`.

    Returns:
      `MDP` with int32 states, default floats and bools.

    Raises:
      ValueError: wrong shapes; or, naming the first state and action concerned, a next state outside 0, ..., S − 1,
        a probability that is negative or not finite, probabilities that do not sum to 1 within 1e-5, a reward that
        is not finite.
    """
    dtype = jnp.result_type(float)
    mdp = MDP(
        jnp.asarray(next_state, jnp.int32),
        jnp.asarray(probability, dtype),
        jnp.asarray(reward, dtype),
        jnp.asarray(terminated, bool),
        jnp.asarray(initial, dtype),
    )
    shape = mdp.next_state.shape
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"next_state must have shape [S, A, K] without empty axes, got {shape}")
    for name in ("probability", "reward", "terminated"):
        if getattr(mdp, name).shape != shape:
            raise ValueError(f"{name} must have the shape of next_state, {shape}, got {getattr(mdp, name).shape}")
    if mdp.initial.shape != shape[:1]:
        raise ValueError(f"initial must have shape [S] = {shape[:1]}, got {mdp.initial.shape}")
    if is_concrete(mdp):
        with jax.ensure_compile_time_eval():
            faults = jax.device_get(_faults(mdp))
        if any(faults.values()):
            _explain(jax.tree.map(np.asarray, mdp), faults)
    return mdp


def check_policy(policy: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """A policy as floats, rejected if some state's probabilities are not a distribution.

    Raises:
      ValueError: the shape is not [S, A]; or, where concrete, naming the state, a negative or non-finite probability
        or a sum that is not 1 within 1e-5.
    """
    policy = jnp.asarray(policy, jnp.result_type(float))
    if policy.shape != shape:
        raise ValueError(f"policy must have shape [S, A] = {shape}, got {policy.shape}")
    if is_concrete(policy):
        values = np.asarray(policy)
        bad = ~(values >= 0).all(-1) | ~(np.abs(values.sum(-1) - 1) <= SUM_TOLERANCE)
        if bad.any():
            state = int(bad.argmax())
            raise ValueError(f"policy in state {state} is not a distribution over actions: {values[state]}")
    return policy


def check_scalar(name: str, value: Scalar, low: float, high: float = np.inf) -> jax.Array:
    """A scalar as default float, rejected if it is concrete and outside [low, high].

    Raises:
      ValueError: naming it; NaN counts as outside.
    """
    if is_concrete(value) and not low <= float(value) <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value}")
    return jnp.asarray(value, jnp.result_type(float))


def is_concrete(tree: PyTree) -> bool:
    """Whether no leaf is a tracer, so that values can be inspected."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


@jax.jit
def _faults(mdp: MDP) -> dict[str, jax.Array]:
    """Which kinds of mistake occur anywhere; on the device, so that a big MDP is not copied to the host."""
    num_states = mdp.initial.shape[0]
    return {
        "next_state": jnp.any((mdp.next_state < 0) | (mdp.next_state >= num_states)),
        "probability": ~jnp.all((mdp.probability >= 0) & (mdp.probability <= 1 + SUM_TOLERANCE)),
        "sum": ~jnp.all(jnp.abs(jnp.sum(mdp.probability, -1) - 1) <= SUM_TOLERANCE),
        "reward": ~jnp.all(jnp.isfinite(mdp.reward)),
        "initial": ~jnp.all(mdp.initial >= 0) | ~(jnp.abs(jnp.sum(mdp.initial) - 1) <= SUM_TOLERANCE),
    }


def _explain(mdp: MDP, faults: dict[str, bool]) -> None:
    """Raise an error that names the first mistake. The leaves of `mdp` are NumPy arrays here."""
    num_states = mdp.initial.shape[0]
    if faults["next_state"]:
        s, a, k = _first((mdp.next_state < 0) | (mdp.next_state >= num_states))
        raise ValueError(
            f"state {s}, action {a}: next_state {mdp.next_state[s, a, k]} of outcome {k} is outside 0..{num_states - 1}"
        )
    if faults["probability"]:
        s, a, k = _first(~((mdp.probability >= 0) & (mdp.probability <= 1 + SUM_TOLERANCE)))
        raise ValueError(
            f"state {s}, action {a}: probability {mdp.probability[s, a, k]} of outcome {k} is not in [0, 1]"
        )
    if faults["sum"]:
        total = mdp.probability.sum(-1)
        s, a = _first(~(np.abs(total - 1) <= SUM_TOLERANCE))
        raise ValueError(f"state {s}, action {a}: the outcomes' probabilities sum to {total[s, a]}, not to 1")
    if faults["reward"]:
        s, a, k = _first(~np.isfinite(mdp.reward))
        raise ValueError(f"state {s}, action {a}: reward {mdp.reward[s, a, k]} of outcome {k} is not finite")
    negative = np.flatnonzero(~(mdp.initial >= 0))
    where = f", state {negative[0]} has {mdp.initial[negative[0]]}" if negative.size else ""
    raise ValueError(f"initial is not a distribution over states: it sums to {mdp.initial.sum()}{where}")


def _first(mask: np.ndarray | jax.Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])
