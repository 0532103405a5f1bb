"""Spaces of observations and actions: frozen and hashable, so that an `Env` can be static under `jax.jit`."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0, ..., n - 1."""

    n: int
    dtype: str = "int32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return ()


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers; element i lies in 0, ..., num_values[i] - 1."""

    num_values: tuple[int, ...]
    dtype: str = "int32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return (len(self.num_values),)


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape between bounds.

    Attributes:
      low, high: one bound for all elements, or a flat tuple with one bound an element in C order; may be infinite.
      shape: shape of an element of the space.
      dtype: its dtype's name.
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    shape: tuple[int, ...] = ()
    dtype: str = "float32"

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The two bounds as arrays of the space's shape."""
        low = np.asarray(self.low, self.dtype)
        high = np.asarray(self.high, self.dtype)
        if low.ndim:
            low = low.reshape(self.shape)
        if high.ndim:
            high = high.reshape(self.shape)
        return np.broadcast_to(low, self.shape), np.broadcast_to(high, self.shape)


@dataclasses.dataclass(frozen=True)
class Dict:
    """A dict of spaces, kept as a tuple of (name, space) so that it can be hashed."""

    spaces: tuple[tuple[str, Space], ...]

    def __getitem__(self, name: str) -> Space:
        return dict(self.spaces)[name]

    def __contains__(self, name: object) -> bool:
        return name in dict(self.spaces)


@dataclasses.dataclass(frozen=True)
class Tuple:
    """A tuple of spaces."""

    spaces: tuple[Space, ...]


Space: TypeAlias = Discrete | MultiDiscrete | Box | Dict | Tuple


def action_mask(obs: Any) -> Any:
    """What `obs["action_mask"]` says of the actions, true where one is allowed; None where it says nothing."""
    return obs["action_mask"] if isinstance(obs, dict) and "action_mask" in obs else None


def check_action(action: Any, space: Space) -> None:
    """Reject an action whose shape or kind cannot belong to a space.

    Raises:
      TypeError: says what the agent returns and what the environment takes.
    """
    if isinstance(space, Dict | Tuple):
        return
    integer = not isinstance(space, Box) or np.issubdtype(np.dtype(space.dtype), np.integer)
    leaves = jax.tree.leaves(action)
    fits = len(leaves) == 1 and leaves[0].shape == space.shape
    if not fits or jnp.issubdtype(leaves[0].dtype, jnp.integer) != integer:
        got = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
        raise TypeError(f"the agent's action is {got}, but the environment's action space is {space}")
