"""Spaces of other libraries, and values that pass between their spaces and those of `purerl.spaces`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from purerl.types import PyTree

_UNBOUNDED = np.finfo(np.float32).max
_INT32 = np.iinfo(np.int32)


def compact_bound(bound: np.ndarray) -> float | tuple[float, ...]:
    """A bound as `Box` keeps it: one float if all elements agree, otherwise a flat tuple.

    Examples:
      >>> compact_bound(np.ones(3)), compact_bound(np.array([0, 1]))
      (1.0, (0.0, 1.0))
    """
    flat = np.asarray(bound, np.float64).ravel()
    return float(flat[0]) if flat.size and np.all(flat == flat[0]) else tuple(flat.tolist())


def converted(space: Any) -> Space:
    """The counterpart of a space of gymnax or Gymnasium, with Python numbers for bounds so that it can be hashed.

        Discrete(n, start=s)      ->  Discrete(n), from 0
        MultiDiscrete(n, start=s) ->  MultiDiscrete(n), from 0 and as a vector
        MultiBinary(n)            ->  MultiDiscrete of two values each, as a vector

    Types of 64 bits become those of 32 unless JAX computes in 64; integers whose bounds do not fit in 32 bits become
    float32. Bounds as large as float32 allows stand for none. `to_purerl` and `from_purerl` convert the values.

    Raises:
      TypeError: a kind of space that has no counterpart, or too many integers for 32 bits.
    """
    kind = type(space).__name__
    if kind == "Dict":
        return Dict(tuple((name, converted(part)) for name, part in space.spaces.items()))
    if kind == "Tuple":
        return Tuple(tuple(map(converted, space.spaces)))
    if kind == "Discrete":
        return Discrete(_fitting(int(space.n), space))
    if kind == "MultiDiscrete":
        return MultiDiscrete(tuple(_fitting(int(n), space) for n in space.nvec.ravel()))
    if kind == "MultiBinary":
        return MultiDiscrete((2,) * int(np.prod(space.shape)))
    if kind == "Box":
        return Box(_bound(space.low), _bound(space.high), tuple(map(int, space.shape)), _box_dtype(space))
    raise TypeError(
        f"space {space} has no counterpart; Discrete, MultiDiscrete, MultiBinary, Box, Dict and Tuple spaces have one"
    )


def repeated(space: Box, count: int) -> Box:
    """The space of `count` elements of a space, stacked.

    Examples:
      >>> repeated(Box(0.0, 1.0, (3,)), 2).shape
      (2, 3)
    """
    low, high = (np.broadcast_to(bound, (count, *space.shape)) for bound in space.bounds())
    return Box(compact_bound(low), compact_bound(high), low.shape, space.dtype)


def observed_space(observed: PyTree) -> Space:
    """The space of observations of which only shapes and dtypes are known: without bounds, in dicts and tuples.

    Examples:
      >>> observed_space({"position": jax.ShapeDtypeStruct((3,), "float32")})["position"].shape
      (3,)
    """
    if isinstance(observed, Mapping):
        return Dict(tuple((name, observed_space(part)) for name, part in observed.items()))
    if isinstance(observed, tuple):
        return Tuple(tuple(map(observed_space, observed)))
    low, high = (0, 1) if observed.dtype == bool else (-np.inf, np.inf)
    return Box(low, high, tuple(observed.shape), np.dtype(observed.dtype).name)


def to_purerl(foreign: Any, space: Space, value: PyTree) -> PyTree:
    """NumPy arrays, leaves [N, ...], of another library's space as elements of its counterpart. Nothing is shared.

    Examples:
      >>> import gymnasium
      >>> foreign = gymnasium.spaces.Discrete(3, start=5)
      >>> to_purerl(foreign, converted(foreign), np.array([5, 7])).tolist()
      [0, 2]
    """
    if isinstance(space, Dict):
        return {name: to_purerl(foreign.spaces[name], part, value[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        parts = zip(foreign.spaces, space.spaces, value, strict=True)
        return tuple(to_purerl(theirs, ours, leaf) for theirs, ours, leaf in parts)
    value = np.asarray(value)
    if not isinstance(space, Box):
        # [N, *nvec.shape] -> [N, K], counted from 0
        value = (value - np.asarray(getattr(foreign, "start", 0))).reshape(len(value), *space.shape)
    return np.array(value, space.dtype)


def from_purerl(foreign: Any, space: Space, value: PyTree) -> PyTree:
    """Inverse of `to_purerl`, with what is outside the bounds of a `Box` clipped to them.

    Examples:
      >>> import gymnasium
      >>> foreign = gymnasium.spaces.Discrete(3, start=5)
      >>> from_purerl(foreign, converted(foreign), np.array([0, 2])).tolist()
      [5, 7]
    """
    if isinstance(space, Dict):
        return {name: from_purerl(foreign.spaces[name], part, value[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        parts = zip(foreign.spaces, space.spaces, value, strict=True)
        return tuple(from_purerl(theirs, ours, leaf) for theirs, ours, leaf in parts)
    value = np.asarray(value)
    if isinstance(space, Box):
        value = np.clip(value, *space.bounds()).astype(foreign.dtype)
        return np.clip(value, foreign.low, foreign.high)  # whose 64 bits may be narrower than our bounds
    # [N, K] -> [N, *nvec.shape], counted from the foreign start
    return value.reshape(len(value), *foreign.shape).astype(foreign.dtype) + np.asarray(getattr(foreign, "start", 0))


def _fitting(count: int, space: Any) -> int:
    if count > _INT32.max:
        raise TypeError(f"space {space} has more values than integers of 32 bits can count")
    return count


def _bound(bound: Any) -> float | tuple[float, ...]:
    bound = np.asarray(bound, np.float64)
    return compact_bound(np.where(np.abs(bound) >= _UNBOUNDED, np.copysign(np.inf, bound), bound))


def _box_dtype(space: Any) -> str:
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    if np.issubdtype(dtype, np.integer) and dtype != np.dtype(space.dtype):
        limits = np.iinfo(dtype)
        if np.min(space.low, initial=0) < limits.min or np.max(space.high, initial=0) > limits.max:
            return "float32"
    return dtype.name
