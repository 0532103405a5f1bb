"""Search spaces: a dict from the name of a hyperparameter to a space, or to a constant.

A space is one map from [0, 1) to values, which serves pseudo-random numbers and low-discrepancy sequences;
`draws` makes tables of trials from spaces.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.hparams import cast, check_hparams, python_number, suggestion
from purerl.types import Hparams, PyTree, Scalar


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both included; made by `uniform`, `log_uniform` and `integers`.

    Attributes:
      low, high: the bounds.
      log: uniform in the logarithm.
      integer: integers only.
      points: number of points of a grid; None: all integers, or no grid.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    points: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", python_number(self.low))
        object.__setattr__(self, "high", python_number(self.high))
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"low = {self.low} and high = {self.high} must be finite numbers")
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} must be above 0 for a logarithmic scale")
        if self.integer and (self.low != int(self.low) or self.high != int(self.high)):
            raise ValueError(f"low = {self.low} and high = {self.high} must be integers")
        if self.points is not None and (self.points < 2 or self.points != int(self.points)):
            raise ValueError(f"points = {self.points} must be an integer above 1, or None")

    def ends(self) -> tuple[float, ...]:
        """The smallest and the largest value, of the type that the values have."""
        return (int(self.low), int(self.high)) if self.integer else (float(self.low), float(self.high))

    def from_unit(self, unit: PyTree) -> Any:
        """Map u in [0, 1) to low + u (high - low); in the logarithm if `log`; all integers are equally likely.

        Args:
          unit: [...] numbers in [0, 1), of NumPy or JAX, which then computes the result.

        Returns:
          [...] values, float64 or int64; of JAX in its default precision.
        """
        xp = _library(unit)
        if not self.integer:
            return xp.clip(_between(self.low, self.high, unit, self.log), self.low, self.high)
        return xp.clip(xp.floor(_between(self.low, self.high + 1, unit, self.log)), self.low, self.high).astype(int)

    def grid(self) -> np.ndarray:
        """`points` values from low to high, equally spaced (in the logarithm if `log`), integers rounded.

        Raises:
          ValueError: the interval is continuous and has no `points`.
        """
        if self.points is None and not self.integer:
            raise ValueError("a grid needs to know how many points to take: pass points=5, say")
        if self.points is None:
            return np.arange(int(self.low), int(self.high) + 1)
        values = _between(self.low, self.high, np.linspace(0.0, 1.0, self.points), self.log)
        return np.unique(np.rint(values).astype(np.int64)) if self.integer else np.clip(values, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of `values`, all equally likely; made by `choice`. NumPy and JAX scalars become Python numbers."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values is empty: a choice needs at least one")
        object.__setattr__(self, "values", tuple(python_number(value) for value in self.values))

    def ends(self) -> tuple[Any, ...]:
        """All values, since any of them may be invalid."""
        return self.values

    def from_unit(self, unit: PyTree) -> Any:
        """Map u in [0, 1) to values[⌊u · len(values)⌋]; [...] to [...]."""
        return self.grid()[np.minimum((unit * len(self.values)).astype(int), len(self.values) - 1)]

    def grid(self) -> np.ndarray:
        """The values, in the order given; an array of objects if they are not numbers."""
        if all(isinstance(value, bool | numbers.Number) for value in self.values):
            return np.asarray(self.values)
        values = np.empty(len(self.values), object)
        values[:] = self.values
        return values


Space: TypeAlias = Range | Choice
SearchSpace: TypeAlias = Mapping[str, Space | float]


def uniform(low: float, high: float, points: int | None = None) -> Range:
    """Real numbers in [low, high], uniform. A grid takes `points` of them, equally spaced.

    Examples:
      >>> uniform(0.0, 1.0, points=3).grid().tolist()
      [0.0, 0.5, 1.0]
    """
    return Range(low, high, points=points)


def log_uniform(low: float, high: float, points: int | None = None) -> Range:
    """Positive numbers in [low, high], uniform in the logarithm. A grid takes `points` of them in equal ratios.

    Examples:
      >>> log_uniform(1e-4, 1e-2, points=3).grid().round(6).tolist()
      [0.0001, 0.001, 0.01]
    """
    return Range(low, high, log=True, points=points)


def integers(low: int, high: int, points: int | None = None) -> Range:
    """Integers from low to high, both included. A grid takes all of them, or `points` of them.

    Examples:
      >>> integers(1, 9, points=3).grid().tolist()
      [1, 5, 9]
    """
    return Range(low, high, integer=True, points=points)


def choice(values: Iterable[Any]) -> Choice:
    """One of the values given, all equally likely. A grid takes all of them.

    Examples:
      >>> choice([0.9, 0.99]).from_unit(np.array([0.2, 0.7])).tolist()
      [0.9, 0.99]
    """
    return Choice(tuple(values))


def check_space(hparams: Hparams, space: SearchSpace) -> tuple[Hparams, dict[str, Space]]:
    """Reject a space that does not fit the hyperparameters, before anything is compiled.

    Args:
      hparams: a NamedTuple of scalars; its class may declare ranges, see `hparams.check_hparams`.
      space: a mapping from names to spaces or constants.

    Returns:
      The hyperparameters with the constants of the space inserted, and the remaining spaces.

    Raises:
      TypeError: a value is neither a number nor a space, or `hparams` is not a NamedTuple.
      ValueError: an unknown name (the nearest one is suggested), NaN, a choice that is not a number, a value of another
        kind than the hyperparameter, or one outside its range. The message names the hyperparameter.

    Examples:
      >>> from typing import NamedTuple
      >>> class Hparams(NamedTuple):
      ...     learning_rate: float = 0.1
      ...     discount: float = 0.99
      >>> check_space(Hparams(), {"discount": 0.9, "learning_rate": choice([0.1, 0.2])})
      (Hparams(learning_rate=0.1, discount=0.9), {'learning_rate': Choice(values=(0.1, 0.2))})
    """
    if not hasattr(hparams, "_fields"):
        raise TypeError(f"hparams must be a NamedTuple of hyperparameters, not {type(hparams).__name__}")
    like = cast(hparams)
    for name, each in space.items():
        _check_name(name, hparams)
        if isinstance(each, str) or not isinstance(each, Range | Choice | numbers.Number | np.ndarray | jax.Array):
            raise TypeError(
                f"space[{name!r}] = {each!r} is neither a number nor uniform, log_uniform, integers or choice([...])"
            )
        for value in _ends(each):
            _check_kind(name, value, getattr(like, name))
            check_hparams(hparams._replace(**{name: value}))
    constants = {name: each for name, each in space.items() if not isinstance(each, Range | Choice)}
    spaces = {name: each for name, each in space.items() if isinstance(each, Range | Choice)}
    hparams = hparams._replace(**constants)
    check_hparams(hparams)
    return hparams, spaces


def to_json(space: Mapping[str, Space]) -> dict[str, Any]:
    """The spaces as JSON data; `from_json` is the inverse.

    Examples:
      >>> to_json({"hidden": choice([8, 64])})
      {'hidden': {'values': (8, 64)}}
    """
    return {name: dataclasses.asdict(each) for name, each in space.items()}


def from_json(data: Mapping[str, Any]) -> dict[str, Space]:
    """The spaces that `to_json` wrote, with tuples instead of lists.

    Examples:
      >>> space = {"rate": log_uniform(0.1, 1.0), "hidden": choice([(64, 64), (8,)])}
      >>> from_json(to_json(space)) == space
      True
    """
    return {
        name: Choice(tuple(fields["values"])) if "values" in fields else Range(**fields)
        for name, fields in data.items()
    }


def _between(low: float, high: float, unit: PyTree, log: bool) -> Any:
    if log:
        return _library(unit).exp(_between(math.log(low), math.log(high), unit, log=False))
    return low + unit * (high - low)


def _library(x: PyTree) -> Any:
    """The library, NumPy or JAX, that an array belongs to."""
    return jnp if isinstance(x, jax.Array) else np


def _ends(each: Space | Scalar) -> tuple[Any, ...]:
    return each.ends() if isinstance(each, Range | Choice) else (each,)


def _check_name(name: str, hparams: Hparams) -> None:
    if name not in hparams._fields:
        hint = suggestion(name, hparams._fields)
        raise ValueError(f"space[{name!r}]: {type(hparams).__name__} has no such hyperparameter{hint}")


def _check_kind(name: str, value: Any, like: PyTree) -> None:
    if not isinstance(value, numbers.Number | np.ndarray | np.generic | jax.Array) or isinstance(value, complex):
        raise ValueError(f"space[{name!r}]: {value!r} is not a number")
    kind, wanted = _kind(value), _kind(like)
    if wanted == "float" and kind == "integer":
        return
    if kind != wanted:
        raise ValueError(f"space[{name!r}]: {value!r} has kind {kind}, but the hyperparameter has kind {wanted}")


def _kind(value: PyTree) -> str:
    kinds = {"b": "bool", "i": "integer", "u": "integer"}
    return kinds.get(np.asarray(value).dtype.kind, "float")
