"""Calls of an agent's `init` and `update`, compiled to less code: random numbers are drawn without loops."""

from __future__ import annotations

from collections.abc import Callable

from purerl import prng
from purerl.loops import checking
from purerl.orthonormal import jointly
from purerl.types import Agent, Key, Metrics, PyTree, State


def initial_state(init: Callable[[Key], State], key: Key) -> State:
    """`init(key)`, for use within `jax.jit`, with all orthogonal weights drawn together.

    Weights are those of `init(key)` up to rounding. Keys that the state keeps are of JAX's own implementation.
    """
    return prng.standard(jointly(init)(prng.unrolled(key)))


def update(agent: Agent, key: Key, state: State, data: PyTree) -> tuple[State, Metrics]:
    """`agent.update`, with the same bits."""
    state, metrics = checking.update(agent, prng.unrolled(key), state, data)
    return prng.standard(state), metrics
