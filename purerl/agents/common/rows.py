"""Rows of recorded steps, as agents that learn without an environment read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax

from purerl.agents.common import q_critics, trajectories
from purerl.types import PyTree, Transition


class Columns(NamedTuple):
    """Rows of recorded steps, leaves [B]; `()` for a column that the agent does not read."""

    obs: PyTree = ()
    action: PyTree = ()
    reward: PyTree = ()
    terminated: PyTree = ()
    next_obs: PyTree = ()
    mask: PyTree = ()


def columns(data: PyTree, *names: str) -> Columns:
    """Columns of a `Transition` or a mapping; values that must have no effect are cleaned.

    Raises:
      TypeError, ValueError: it is neither, or a column is missing.
    """
    if isinstance(data, Transition):
        data = trajectories.clean(data)
        mask = trajectories.step_weight(data) if trajectories.is_weighted(data) else ()
        return Columns(**{name: getattr(data, name) for name in names}, mask=mask)
    if not isinstance(data, Mapping):
        raise TypeError(f"data must be a Transition or a mapping of columns, got {type(data).__name__}")
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(f"data has no column {', '.join(missing)}")
    return Columns(**{name: data[name] for name in names})


def one_step_batch(data: PyTree, discount: jax.Array) -> q_critics.Batch:
    """Rows [B] as `q_critics` reads windows: reward r, bootstrap factor γ (1 − terminated) and successor."""
    found = columns(data, "obs", "action", "reward", "terminated", "next_obs")
    chex.assert_rank([found.reward, found.terminated], 1)
    factor = discount * (1.0 - found.terminated)
    return q_critics.Batch(found.obs, found.action, found.reward, factor, found.next_obs, found.mask)
