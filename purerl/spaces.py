"""Spaces of observations and actions: frozen and hashable, so that an `Env` can be static under `jax.jit`."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

_MANY_CHANNELS = 12  # of a stack of colour frames
_EXACT = 2**24  # integers beyond this have no float32 of their own, so such a bound means "any integer"


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0, ..., n - 1.

    Raises:
      ValueError: n is not an integer of at least 1.

    Examples:
      >>> Discrete(3).shape
      ()
    """

    n: int
    dtype: str = "int32"

    def __post_init__(self) -> None:
        if not _counts(self.n):
            raise ValueError(f"Discrete.n must be an integer of at least 1, got {self.n!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return ()


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers; element i lies in 0, ..., num_values[i] - 1.

    Raises:
      ValueError: a number of values is not an integer of at least 1.

    Examples:
      >>> MultiDiscrete((2, 3)).shape
      (2,)
    """

    num_values: tuple[int, ...]
    dtype: str = "int32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_values", tuple(self.num_values))
        if not all(map(_counts, self.num_values)):
            raise ValueError(f"MultiDiscrete.num_values must be integers of at least 1, got {self.num_values}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return (len(self.num_values),)


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape between bounds.

    Attributes:
      low, high: one bound for all elements, or a flat tuple with one bound per element in C order; may be infinite.
        Arrays and lists become such tuples.
      shape: shape of an element of the space.
      dtype: its dtype's name, also if it is given as a type.

    Raises:
      TypeError: the shape is not a sequence of integers, or the dtype unknown.
      ValueError: a bound is NaN, `low` is above `high`, or a tuple does not have one bound per element.

    Examples:
      >>> low, high = Box((-1.0, 0.0), 2.0, (2,)).bounds()
      >>> low.tolist(), high.tolist()
      ([-1.0, 0.0], [2.0, 2.0])
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    shape: tuple[int, ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            if np.ndim(bound):
                object.__setattr__(self, name, tuple(np.ravel(bound).tolist()))
            elif hasattr(bound, "item"):  # an array of shape (), which cannot be hashed
                object.__setattr__(self, name, bound.item())
        object.__setattr__(self, "shape", _shape(self.shape))
        object.__setattr__(self, "dtype", _dtype_name(self.dtype))
        size = int(np.prod(self.shape, dtype=int))
        low, high = (np.asarray(bound, float) for bound in (self.low, self.high))
        for name, bound in (("low", low), ("high", high)):
            if bound.ndim and bound.size != size:
                raise ValueError(f"Box.{name} has {bound.size} bounds, but shape {self.shape} has {size} elements")
            if np.isnan(bound).any():
                raise ValueError(f"Box.{name} is NaN")
        above = (low > high).ravel()
        if above.any():
            i = int(above.argmax())
            at = [np.broadcast_to(bound.ravel(), above.shape)[i] for bound in (low, high)]
            raise ValueError(f"Box.low must not be above Box.high: element {i} has low = {at[0]}, high = {at[1]}")

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The two bounds as arrays of the space's shape and dtype; a bound outside an integer dtype is its limit."""
        return self._bound(self.low), self._bound(self.high)

    def _bound(self, bound: float | tuple[float, ...]) -> np.ndarray:
        dtype = np.dtype(self.dtype)
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            bound = jax.tree.map(lambda x: int(max(limits.min, min(limits.max, x))), bound)
        array = np.asarray(bound, dtype)
        return np.broadcast_to(array.reshape(self.shape) if array.ndim else array, self.shape)


def _counts(n: Any) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool) and int(n) >= 1


def _shape(shape: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, shape))
    except TypeError:
        raise TypeError(f"Box.shape must be a tuple of integers, got {shape!r}") from None


def _dtype_name(dtype: Any) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        raise TypeError(f"Box.dtype must be the name of a dtype, such as 'float32'; got {dtype!r}") from None


def _check_part(space: Any, name: str) -> None:
    if not isinstance(space, Space):
        raise TypeError(f"{name} must be a space of purerl.spaces, got {space!r}")


@dataclasses.dataclass(frozen=True, init=False)
class Dict:
    """A dict of spaces, given as one or as pairs; kept as a tuple of (name, space) so that it can be hashed.

    Raises:
      TypeError: a part is not a space.

    Examples:
      >>> space = Dict({"position": Box(-1.0, 1.0, (2,)), "action_mask": Box(0, 1, (4,), "bool")})
      >>> space["position"].shape, "action_mask" in space
      ((2,), True)
    """

    spaces: tuple[tuple[str, Space], ...]

    def __init__(self, spaces: Mapping[str, Space] | Iterable[tuple[str, Space]]) -> None:
        pairs = spaces.items() if isinstance(spaces, Mapping) else spaces
        object.__setattr__(self, "spaces", tuple((name, space) for name, space in pairs))
        for name, space in self.spaces:
            _check_part(space, f"Dict[{name!r}]")

    def __getitem__(self, name: str) -> Space:
        return dict(self.spaces)[name]

    def __contains__(self, name: object) -> bool:
        return name in dict(self.spaces)


@dataclasses.dataclass(frozen=True)
class Tuple:
    """A tuple of spaces.

    Raises:
      TypeError: a part is not a space.

    Examples:
      >>> len(Tuple((Discrete(2), Discrete(3))).spaces)
      2
    """

    spaces: tuple[Space, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "spaces", tuple(self.spaces))
        for i, space in enumerate(self.spaces):
            _check_part(space, f"Tuple[{i}]")


Space: TypeAlias = Discrete | MultiDiscrete | Box | Dict | Tuple
PyTree: TypeAlias = Any  # as in `purerl.types`, which imports this module


def action_mask(obs: PyTree) -> jax.Array | None:
    """`obs["action_mask"]`, true where an action is allowed; None if the observation has none.

    Examples:
      >>> import numpy as np
      >>> action_mask({"board": np.zeros(9), "action_mask": np.array([True, False])}).tolist()
      [True, False]
      >>> action_mask(np.zeros(9)) is None
      True
    """
    return obs["action_mask"] if isinstance(obs, dict) and "action_mask" in obs else None


def is_integer(space: Space) -> bool:
    """Whether the elements of a space without parts are integers.

    Examples:
      >>> is_integer(Discrete(2)), is_integer(Box(0.0, 1.0))
      (True, False)
    """
    return not isinstance(space, Box) or np.issubdtype(np.dtype(space.dtype), np.integer)


def unit_of(space: Box) -> np.ndarray | None:
    """The number that integers and images of a `Box` are divided by for a network: the largest magnitude of the bounds.

    Returns:
      A float32 scalar, or an array of the space's shape if the bounds differ; None if nothing is to be divided: for
      floats that are not an image [H, W, C], for bounds within ±1, and for bounds of 2²⁴ or more, which count as none.

    Examples:
      >>> unit_of(Box(0, 255, (84, 84, 4), "uint8")).tolist()
      255.0
      >>> unit_of(Box(0.0, 255.0, (3,))) is None
      True
    """
    if not is_integer(space) and len(space.shape) != 3:
        return None
    largest = np.maximum(*(np.abs(bound.astype(np.float64)) for bound in space.bounds()))
    unit = np.where((largest > 1) & (largest < _EXACT), largest, 1.0).astype(np.float32)
    if (unit == 1).all():
        return None
    first = unit.reshape(-1)[0]
    return np.asarray(first) if (unit == first).all() else unit


def has_channels_first(space: Space) -> bool:
    """Whether elements look like images [C, H, W]: few channels before two longer sides, of which the last is no count.

    Examples:
      >>> has_channels_first(Box(0, 255, (4, 84, 84), "uint8")), has_channels_first(Box(0, 255, (84, 84, 4), "uint8"))
      (True, False)
    """
    if not isinstance(space, Box) or len(space.shape) != 3:
        return False
    channels, *sides = space.shape
    return channels <= _MANY_CHANNELS < min(sides)


def check_action(action: PyTree, space: Space) -> None:
    """Reject an action whose shape or kind cannot belong to a space.

    Raises:
      TypeError: names the action and the space.

    Examples:
      >>> import jax.numpy as jnp
      >>> check_action(jnp.int32(1), Discrete(2))
      >>> check_action(jnp.zeros(1), Discrete(2))
      Traceback (most recent call last):
      ...
      TypeError: the agent's action is float32[1], but the environment's action space is Discrete(n=2, dtype='int32')
    """
    if isinstance(space, Dict | Tuple):
        return
    leaves = jax.tree.leaves(action)
    fits = len(leaves) == 1 and jnp.shape(leaves[0]) == space.shape
    if not fits or jnp.issubdtype(jnp.result_type(leaves[0]), jnp.integer) != is_integer(space):
        got = ", ".join(f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" for leaf in leaves)
        raise TypeError(f"the agent's action is {got}, but the environment's action space is {space}")


def clip_action(action: PyTree, space: Space) -> PyTree:
    """The action clipped to the bounds of a `Box`, also within a `Dict` or `Tuple`; other actions are returned as is.

    The environments of `purerl.envs` clip what they are given. A policy that is used anywhere else needs this; see
    `purerl.loops.deploy`.

    Args:
      action: an action, or actions that lead with further axes.
      space: the environment's action space.

    Examples:
      >>> import jax.numpy as jnp
      >>> clip_action(jnp.array([18.0]), Box(-2.0, 2.0, (1,))).tolist()
      [2.0]
    """
    if isinstance(space, Dict):
        return {name: clip_action(action[name], part) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(clip_action(part, inner) for part, inner in zip(action, space.spaces, strict=True))
    return jnp.clip(action, *space.bounds()) if isinstance(space, Box) else action


def in_range(action: PyTree, space: Space) -> bool:
    """Whether every one of some actions, leaves [..., *shape], belongs to a space. Bounds of floats may be rounded.

    Examples:
      >>> import numpy as np
      >>> in_range(np.array([0, 1, 2]), Discrete(3)), in_range(np.array([0, 3]), Discrete(3))
      (True, False)
    """
    if isinstance(space, Dict):
        return all(in_range(action[name], part) for name, part in space.spaces)
    if isinstance(space, Tuple):
        return all(in_range(part, inner) for part, inner in zip(action, space.spaces, strict=True))
    action = np.asarray(action)
    if isinstance(space, Discrete | MultiDiscrete):
        count = space.n if isinstance(space, Discrete) else np.asarray(space.num_values)
        return bool(((action >= 0) & (action < count)).all())
    low, high = (bound.astype(float) for bound in space.bounds())
    slack = 1e-6 * np.where(np.isfinite(high - low), high - low, 0.0)
    return bool(((action >= low - slack) & (action <= high + slack)).all())


def check_bounded(space: Space, name: str = "action_space") -> None:
    """Reject a `Box` of actions with an element that has only one value: nothing can be learned about it.

    Raises:
      ValueError: names the bounds.

    Examples:
      >>> check_bounded(Box(-1.0, 1.0, (2,)))
      >>> check_bounded(Box((0.0, -1.0), (0.0, 1.0), (2,)))
      Traceback (most recent call last):
      ...
      ValueError: action_space has low == high == 0.0 in element 0; remove the element from the action space
    """
    if not isinstance(space, Box):
        return
    low, high = (bound.ravel() for bound in space.bounds())
    same = np.flatnonzero(low == high)
    if same.size:
        i = int(same[0])
        raise ValueError(f"{name} has low == high == {low[i]} in element {i}; remove the element from the action space")


def check_spaces(env: Any) -> None:
    """Reject something whose spaces cannot be read, such as an environment's name or one of another library.

    Raises:
      TypeError: says what was given, and how to make an environment of it.

    Examples:
      >>> check_spaces("CartPole-v1")
      Traceback (most recent call last):
      ...
      TypeError: env is the string 'CartPole-v1', not an environment; pass purerl.envs.make('CartPole-v1')
    """
    if isinstance(env, str):
        raise TypeError(f"env is the string {env!r}, not an environment; pass purerl.envs.make({env!r})")
    for field in ("observation_space", "action_space"):
        if not isinstance(getattr(env, field, None), Space):
            raise TypeError(f"env.{field} is not a space of purerl.types: {_origin(env, field)}")


def _origin(env: Any, field: str) -> str:
    """How to make an `Env` of something that is not one."""
    libraries = {cls.__module__.split(".")[0] for cls in type(env).__mro__}
    if "gymnasium" in libraries:
        return "env is a Gymnasium environment; pass purerl.envs.from_gymnasium(name, num_envs) to train_on_host"
    if "gymnax" in libraries:
        return "env is a gymnax environment; pass purerl.envs.from_gymnax(env)"
    found = getattr(env, field, None)
    return f"it has none, and is of type {type(env).__name__}" if found is None else f"got {found!r}"
