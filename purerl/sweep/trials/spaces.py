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
      prior: (center, width) of a normal distribution instead of the uniform one, cut to the bounds: a value, and the
        standard deviation as a share of the range, in the logarithm if `log`. Grids take no notice of it.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    points: int | None = None
    prior: tuple[float, float] | None = None

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
        if self.prior is not None and not (self.low <= self.prior[0] <= self.high and 0 < self.prior[1] < math.inf):
            raise ValueError(f"prior = {self.prior} must be (a value of the range, a positive share of the range)")

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
        unit = unit if self.prior is None else self._weighted(unit)
        if not self.integer:
            return xp.clip(_between(self.low, self.high, unit, self.log), self.low, self.high)
        return xp.clip(xp.floor(_between(self.low, self.high + 1, unit, self.log)), self.low, self.high).astype(int)

    def to_unit(self, values: PyTree) -> Any:
        """The positions of values in [0, 1], [...] to [...]; an integer lies in the middle of its share.

        The inverse of `from_unit` without a prior. Values outside the range, such as the default of a name that is not
        searched in a trial, have the position of the nearest end.
        """
        xp = _library(values)
        values = xp.clip(xp.asarray(values, float), self.low, self.high)
        if not self.integer:
            return xp.clip(_position(self.low, self.high, values, self.log), 0, 1)
        ends = (_position(self.low, self.high + 1, values + more, self.log) for more in (0, 1))
        return sum(ends) / 2

    def _weighted(self, unit: PyTree) -> Any:
        """Quantiles of the prior as positions: m + w Φ⁻¹(Φ(-m / w) + u (Φ((1 - m) / w) - Φ(-m / w)))."""
        from jax.scipy import special as of_jax
        from scipy import special as of_numpy

        special: Any = of_jax if isinstance(unit, jax.Array) else of_numpy
        assert self.prior is not None
        center, width = float(_position(self.low, self.high, np.float64(self.prior[0]), self.log)), self.prior[1]
        low, high = special.ndtr(-center / width), special.ndtr((1 - center) / width)
        return _library(unit).clip(center + width * special.ndtri(low + unit * (high - low)), 0, 1 - 1e-7)

    def holds(self, values: np.ndarray) -> np.ndarray:
        """[...] bool, which values lie in the range, up to the rounding of float32.

        Of a name with a condition, those that do not are the default of the trials in which it is not searched.
        """
        values = np.asarray(values, np.float64)
        more = 1e-6 * np.array([self.low, self.high] if self.log else [max(abs(self.low), abs(self.high))] * 2)
        return (values >= self.low - more[0]) & (values <= self.high + more[1])

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
    """One of `values`; made by `choice`. NumPy and JAX scalars become Python numbers.

    Attributes:
      values: all equally likely.
      in_turn: trial i takes value i mod n instead of a draw, so that each is taken equally often.
    """

    values: tuple[Any, ...]
    in_turn: bool = False

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

    def to_unit(self, values: PyTree) -> np.ndarray:
        """The middle of each value's share of [0, 1], [...] to [...]; of a number that is not a value, the nearest."""
        options = list(self.values)
        return (np.array([_nearest(options, value) for value in np.asarray(values).tolist()]) + 0.5) / len(options)

    def grid(self) -> np.ndarray:
        """The values, in the order given; an array of objects if they are not numbers."""
        if all(isinstance(value, bool | numbers.Number) for value in self.values):
            return np.asarray(self.values)
        values = np.empty(len(self.values), object)
        values[:] = self.values
        return values


@dataclasses.dataclass(frozen=True)
class When:
    """A space that is searched only if another name has one of some values; made by `when`.

    Attributes:
      parent: the other name.
      values: those that it must have.
      space: what is searched then.
      also: a further name and its values, which must be met too; see `algorithms`.
    """

    parent: str
    values: tuple[Any, ...]
    space: Range | Choice
    also: tuple[str, tuple[Any, ...]] | None = None


Space: TypeAlias = Range | Choice
Prior: TypeAlias = tuple[float, float]
SearchSpace: TypeAlias = Mapping[str, Space | When | float]


def when(parent: str, values: Iterable[Any], space: Space) -> When:
    """A space that is searched only in trials in which `parent` has one of `values`; in others the default stays.

    Examples:
      >>> spaces = {"target_kl": when("clip_epsilon", [0.3], uniform(0.01, 0.1))}
      >>> spaces["target_kl"].parent
      'clip_epsilon'
    """
    if not isinstance(space, Range | Choice):
        raise TypeError(f"when({parent!r}, ...): {space!r} is not a space such as uniform(0, 1)")
    return When(parent, tuple(python_number(value) for value in values), space)


def uniform(low: float, high: float, points: int | None = None, prior: Prior | None = None) -> Range:
    """Real numbers in [low, high], uniform, or by a `prior`, see `Range`. A grid takes `points`, equally spaced.

    Examples:
      >>> uniform(0.0, 1.0, points=3).grid().tolist()
      [0.0, 0.5, 1.0]
    """
    return Range(low, high, points=points, prior=prior)


def log_uniform(low: float, high: float, points: int | None = None, prior: Prior | None = None) -> Range:
    """Positive numbers in [low, high], uniform in the logarithm. A grid takes `points` of them in equal ratios.

    Examples:
      >>> log_uniform(1e-4, 1e-2, points=3).grid().round(6).tolist()
      [0.0001, 0.001, 0.01]
    """
    return Range(low, high, log=True, points=points, prior=prior)


def integers(low: int, high: int, points: int | None = None, prior: Prior | None = None) -> Range:
    """Integers from low to high, both included. A grid takes all of them, or `points` of them.

    Examples:
      >>> integers(1, 9, points=3).grid().tolist()
      [1, 5, 9]
    """
    return Range(low, high, integer=True, points=points, prior=prior)


def log_integers(low: int, high: int, points: int | None = None, prior: Prior | None = None) -> Range:
    """Positive integers from low to high, uniform in the logarithm: 8 to 16 is as likely as 512 to 1,024.

    Examples:
      >>> log_integers(1, 1000, points=4).grid().tolist()
      [1, 10, 100, 1000]
    """
    return Range(low, high, log=True, integer=True, points=points, prior=prior)


def choice(values: Iterable[Any], in_turn: bool = False) -> Choice:
    """One of the values given, all equally likely, or `in_turn`, see `Choice`. A grid takes all of them.

    Examples:
      >>> choice([0.9, 0.99]).from_unit(np.array([0.2, 0.7])).tolist()
      [0.9, 0.99]
    """
    return Choice(tuple(values), in_turn)


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
      (Hparams(learning_rate=0.1, discount=0.9), {'learning_rate': Choice(values=(0.1, 0.2), in_turn=False)})
    """
    if not hasattr(hparams, "_fields"):
        raise TypeError(f"hparams must be a NamedTuple of hyperparameters, not {type(hparams).__name__}")
    like = cast(hparams)
    for name, each in space.items():
        _check_name(name, hparams)
        if isinstance(each, When):
            raise TypeError(
                f"space[{name!r}] depends on {each.parent!r}, and only a search has conditions: give it another space"
            )
        if isinstance(each, str) or not isinstance(each, Range | Choice | numbers.Number | np.ndarray | jax.Array):
            raise TypeError(
                f"space[{name!r}] = {each!r} is neither a number nor uniform, log_uniform, integers or choice([...])"
            )
        for value in ends(each):
            check_kind(name, value, getattr(like, name))
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
      {'hidden': {'values': (8, 64), 'in_turn': False}}
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
        name: Choice(tuple(fields["values"]), fields.get("in_turn", False)) if "values" in fields else Range(**fields)
        for name, fields in data.items()
    }


def _between(low: float, high: float, unit: PyTree, log: bool) -> Any:
    if log:
        return _library(unit).exp(_between(math.log(low), math.log(high), unit, log=False))
    return low + unit * (high - low)


def _position(low: float, high: float, value: PyTree, log: bool) -> Any:
    """The inverse of `_between`."""
    if log:
        return _position(math.log(low), math.log(high), _library(value).log(value), log=False)
    return (value - low) / (high - low)


def _nearest(options: list[Any], value: Any) -> int:
    """The index of a value among the options; of a number that is none of them, such as a rounded one, the nearest."""
    if value in options or not all(isinstance(each, numbers.Real) for each in (value, *options)):
        return options.index(value)
    return int(np.argmin([abs(float(option) - value) for option in options]))


def _library(x: PyTree) -> Any:
    """The library, NumPy or JAX, that an array belongs to."""
    return jnp if isinstance(x, jax.Array) else np


def ends(each: Space | When | Scalar) -> tuple[Any, ...]:
    """The values of a space that decide whether all are valid, or the constant."""
    return each.ends() if isinstance(each, Range | Choice) else (each,)


def _check_name(name: str, hparams: Hparams) -> None:
    if name not in hparams._fields:
        hint = suggestion(name, hparams._fields)
        raise ValueError(f"space[{name!r}]: {type(hparams).__name__} has no such hyperparameter{hint}")


def check_kind(name: str, value: Any, like: PyTree) -> None:
    """Reject a value of `space[name]` that is not a number, or is of another kind than the one that it replaces.

    Raises:
      ValueError: names it.
    """
    if not isinstance(value, numbers.Number | np.ndarray | np.generic | jax.Array) or isinstance(value, complex):
        raise ValueError(f"space[{name!r}]: {value!r} is not a number")
    kind, wanted = _kind(value), _kind(like)
    if wanted == "float" and kind == "integer":
        return
    if kind != wanted:
        raise ValueError(f"space[{name!r}]: {value!r} has kind {kind}, but the default has kind {wanted}")


def _kind(value: PyTree) -> str:
    kinds = {"b": "bool", "i": "integer", "u": "integer"}
    return kinds.get(np.asarray(value).dtype.kind, "float")
