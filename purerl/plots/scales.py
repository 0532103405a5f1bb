"""The axis of each name that was searched: numbers, logarithms, or categories side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, ScalarFormatter

from purerl.plots.style import number
from purerl.sweep.trials.spaces import Choice, Range

if TYPE_CHECKING:
    from purerl.sweep import Result


class Scale(NamedTuple):
    """An axis for one name that was searched.

    Attributes:
      name: the name.
      at: [P] positions of the trials; NaN if the value is the default of a trial in which it was not searched.
      log: whether the axis is logarithmic.
      categories: labels at 0, 1, ...; empty for numbers.
      limits: the ends of the axis.
    """

    name: str
    at: np.ndarray
    log: bool
    categories: tuple[str, ...]
    limits: tuple[float, float]

    def unit(self, positions: np.ndarray) -> np.ndarray:
        """Positions as parts of the axis, 0 to 1."""
        low, high = np.log(self.limits) if self.log else self.limits
        return ((np.log(positions) if self.log else positions) - low) / (high - low)

    def positions(self, unit: np.ndarray) -> np.ndarray:
        """The inverse of `unit`."""
        low, high = np.log(self.limits) if self.log else self.limits
        return np.exp(low + unit * (high - low)) if self.log else low + unit * (high - low)

    def spread(self) -> np.ndarray:
        """[P] the positions, those of one category side by side instead of on top of each other."""
        if not self.categories:
            return self.at
        golden = (np.arange(len(self.at)) * 0.618034) % 1 - 0.5
        return self.at + 0.36 * golden


def scale_of(result: Result, name: str) -> Scale:
    """The axis for one name that was searched."""
    values, space = result.values(name), result.space.get(name)
    ordered = values.dtype not in (object, bool) and np.isfinite(values).all()
    if isinstance(space, Choice) or not (ordered or isinstance(space, Range)):
        options = _options(space, values.tolist())
        labels = [number(option) for option in options]
        at = np.array([_nearest(labels, options, value) for value in values.tolist()], float)
        return Scale(name, at, False, tuple(labels), (-0.5, len(labels) - 0.5))
    log = bool(getattr(space, "log", False))
    low, high = (space.low, space.high) if isinstance(space, Range) else (float(values.min()), float(values.max()))
    values = values.astype(np.float64)
    values = np.where(space.holds(values), values, np.nan) if isinstance(space, Range) else values
    margin = 0.02
    if log:
        factor = (high / low) ** margin
        return Scale(name, values, True, (), (low / factor, high * factor))
    width = (high - low) or 1.0
    return Scale(name, values, False, (), (low - margin * width, high + margin * width))


def dress(axis: Axis, scale: Scale) -> None:
    """Scale, ends and ticks of an x or y axis."""
    axes = axis.axes
    set_scale, set_limits = (axes.set_xscale, axes.set_xlim) if axis is axes.xaxis else (axes.set_yscale, axes.set_ylim)
    if scale.log:
        set_scale("log")
        decades = np.log10(scale.limits[1] / scale.limits[0])
        if decades < 2:  # the powers of ten alone would leave the axis nearly bare
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades > 0.8 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8)))
            axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    if scale.categories:
        axis.set_ticks(range(len(scale.categories)), scale.categories)
        axis.set_minor_locator(NullLocator())
    set_limits(*scale.limits)


def _options(space: Choice | None, values: list) -> list:
    """The values of a choice, and after them the defaults of trials in which it was not searched."""
    options = space.grid().tolist() if space is not None else []
    others = {value: None for value in values if not any(_same(value, option) for option in options)}
    return options + (list(others) if options else sorted(others))


def _same(value: Any, option: Any) -> bool:
    if isinstance(value, float) and isinstance(option, int | float):
        return math.isclose(value, option, rel_tol=1e-6)
    return bool(value == option)


def _nearest(labels: list[str], options: list, value: object) -> int:
    """The position of a value among the options; for a float that was rounded to float32, that of the nearest one."""
    if value in options:
        return options.index(value)
    if isinstance(value, float):
        return int(np.argmin([abs(option - value) for option in options]))
    return labels.index(number(value))
