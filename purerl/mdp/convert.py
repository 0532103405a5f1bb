"""MDPs from other descriptions: Gymnasium's tables, dense arrays, and Gymnasium's environments themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from purerl.mdp.types import MDP, checked

Table = Mapping[int, Mapping[int, Sequence[tuple]]] | Sequence[Sequence[Sequence[tuple]]]


def from_table(P: Table, initial: ArrayLike) -> MDP:
    """An MDP from Gymnasium's toy-text table.

    Args:
      P: `P[s][a]` is a list of (probability, next_state, reward, terminated), for states 0, ..., S − 1 and actions
        0, ..., A − 1; lists or dicts. K is the length of the longest list; shorter ones are padded with outcomes of
        probability 0.
      initial: [S], the distribution of the first state.

    Returns:
      `MDP` with outcome lists [S, A, K].

    Raises:
      ValueError: naming the state and action: a missing or surplus action, an empty list, an outcome that is not
        a 4-tuple, or anything that `check` rejects.

    Examples:
      >>> from purerl import mdp
      >>> P = {0: {0: [(0.9, 0, 1.0, False), (0.1, 0, 0.0, True)]}}
      >>> problem = mdp.from_table(P, initial=[1.0])
      >>> round(float(mdp.value_iteration(problem, discount=1.0).value[0]), 3)  # 0.9 (1 + v)
      9.0
    """
    num_states, num_actions = len(P), len(_entry(P, 0, "P has no state 0"))
    rows = [_actions(P, s, num_actions) for s in range(num_states)]
    num_outcomes = max(len(outcomes) for row in rows for outcomes in row)
    shape = (num_states, num_actions, num_outcomes)
    next_state = np.zeros(shape, np.int64)
    probability, reward, terminated = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    for s, row in enumerate(rows):
        for a, outcomes in enumerate(row):
            for k, outcome in enumerate(outcomes):
                _check_outcome(outcome, s, a, num_states)
                probability[s, a, k], next_state[s, a, k], reward[s, a, k], terminated[s, a, k] = outcome
    return checked(next_state, probability, reward, terminated, initial)


def from_dense(
    transition: ArrayLike, reward: ArrayLike, initial: ArrayLike | None = None, terminal: ArrayLike | None = None
) -> MDP:
    """An MDP from a dense transition array; outcome k is next state k, so K = S. Works on traced arrays.

    Args:
      transition: [S, A, S], probability of each next state.
      reward: [S, A], or [S, A, S] if it depends on the next state.
      initial: [S], the distribution of the first state; None is uniform over all states.
      terminal: [S] bool; entering such a state ends the episode. Its own rows of `transition` and `reward` are
        ignored: it leads to itself without reward, so its value is 0. None: no state is terminal.

    Returns:
      `MDP` with outcome lists [S, A, S].

    Raises:
      ValueError: a shape is wrong, or as `check`.

    Examples:
      >>> from purerl import mdp
      >>> transition = [[[0.0, 1.0]], [[0.0, 1.0]]]  # one action: from state 0 to state 1, which is terminal
      >>> problem = mdp.from_dense(transition, reward=[[5.0], [0.0]], terminal=[False, True])
      >>> print(mdp.value_iteration(problem, discount=0.9).value)
      [5. 0.]
    """
    dtype = jnp.result_type(float)
    transition, reward = jnp.asarray(transition, dtype), jnp.asarray(reward, dtype)
    if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
        raise ValueError(f"transition must have shape [S, A, S], got {transition.shape}")
    num_states, shape = transition.shape[0], transition.shape
    if reward.shape not in (shape, shape[:2]):
        raise ValueError(f"reward must have shape {shape[:2]} or {shape}, got {reward.shape}")
    reward = jnp.broadcast_to(reward if reward.ndim == 3 else reward[..., None], shape)
    terminal = jnp.zeros(num_states, bool) if terminal is None else jnp.asarray(terminal, bool)
    if terminal.shape != (num_states,):
        raise ValueError(f"terminal must have shape [S] = ({num_states},), got {terminal.shape}")
    stay = jnp.eye(num_states, dtype=dtype)[:, None, :]
    transition = jnp.where(terminal[:, None, None], stay, transition)
    reward = jnp.where(terminal[:, None, None], 0, reward)
    initial = jnp.full(num_states, 1 / num_states) if initial is None else initial
    next_state = jnp.broadcast_to(jnp.arange(num_states), shape)
    return checked(next_state, transition, reward, jnp.broadcast_to(terminal, shape), initial)


def from_gymnasium(name: Any, **kwargs: Any) -> MDP:
    """The table of one of Gymnasium's toy-text environments: FrozenLake-v1, Taxi-v4, CliffWalking-v1, ...

    Args:
      name: the identifier that `gymnasium.make` knows, or an environment.
      **kwargs: passed to `gymnasium.make`, such as `map_name="8x8"` or `is_slippery=False`.

    Returns:
      `MDP` with the environment's own transitions and distribution of first states.

    Raises:
      ValueError: the environment has no table `P`.
      ImportError: Gymnasium is not installed.

    Examples:
      >>> from purerl import mdp
      >>> lake = mdp.from_gymnasium("FrozenLake-v1", is_slippery=False)
      >>> round(float(mdp.value_iteration(lake, discount=0.9).value[0]), 3)  # six steps to the goal: 0.9⁵
      0.59
    """
    import gymnasium

    env = gymnasium.make(name, **kwargs).unwrapped if isinstance(name, str) else name.unwrapped
    if not hasattr(env, "P") or not hasattr(env, "initial_state_distrib"):
        raise ValueError(f"{name} has no transition table P: only Gymnasium's tabular environments can be read")
    return from_table(env.P, env.initial_state_distrib)


def _entry(table: Mapping | Sequence, index: int, message: str) -> Any:
    try:
        return table[index]
    except (KeyError, IndexError):
        raise ValueError(message) from None


def _actions(P: Table, state: int, num_actions: int) -> list[Sequence[tuple]]:
    """The outcome lists of one state in order of the actions."""
    row = _entry(P, state, f"P has {len(P)} states but no state {state}: states are 0, ..., S - 1")
    if len(row) != num_actions:
        raise ValueError(f"state {state} has {len(row)} actions, state 0 has {num_actions}")
    outcomes = [_entry(row, a, f"state {state} has no action {a}: actions are 0, ..., A - 1") for a in range(len(row))]
    for action, listed in enumerate(outcomes):
        if not listed:
            raise ValueError(f"state {state}, action {action}: the list of outcomes is empty")
    return outcomes


def _check_outcome(outcome: tuple, state: int, action: int, num_states: int) -> None:
    """Reject what the arrays could not hold; the rest is left to `check`."""
    if len(outcome) != 4:
        raise ValueError(
            f"state {state}, action {action}: outcome {outcome} is not (probability, next_state, reward, terminated)"
        )
    if outcome[1] != int(outcome[1]) or not 0 <= outcome[1] < num_states:
        raise ValueError(f"state {state}, action {action}: next_state {outcome[1]} is not in 0..{num_states - 1}")
