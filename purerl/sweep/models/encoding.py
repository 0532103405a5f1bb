"""Trials as points of the unit cube, in which models measure distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.sweep.trials.spaces import Choice, Space


class Axes(NamedTuple):
    """The axes of the cube, one per name.

    Attributes:
      names: D of them.
      sizes: number of categories of each; 0 for numbers.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def decode(self, spaces: Mapping[str, Space], points: np.ndarray) -> dict[str, np.ndarray]:
        """Values by name, [N] each, of points [N, D]."""
        return {name: _plain(spaces[name]).from_unit(points[:, d]) for d, name in enumerate(self.names)}


class Observed(NamedTuple):
    """Evaluated points, padded so that few sizes compile.

    Attributes:
      points: [N, D] in the unit cube.
      scores: [N] larger is better, standardised; 0 where `known` is not set.
      known: [N] bool.
    """

    points: jax.Array
    scores: jax.Array
    known: jax.Array


def axes_of(spaces: Mapping[str, Space]) -> Axes:
    """The axes of some spaces.

    Examples:
      >>> from purerl.sweep import choice, uniform
      >>> axes_of({"rate": uniform(0, 1), "kind": choice(["a", "b"])})
      Axes(names=('rate', 'kind'), sizes=(0, 2))
    """
    sizes = (len(each.values) if isinstance(each, Choice) else 0 for each in spaces.values())
    return Axes(tuple(spaces), tuple(sizes))


def encode(spaces: Mapping[str, Space], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """[N, D] positions of values in the unit cube, in the order of the spaces."""
    return np.stack([each.to_unit(columns[name]) for name, each in spaces.items()], axis=1).astype(np.float32)


def observed(points: np.ndarray, scores: np.ndarray) -> Observed:
    """Evaluated points with the quantiles of a normal distribution in place of their scores.

    Models then neither chase outliers nor drown in them: returns of agents that failed differ by orders of magnitude.
    Trials that diverged, whose score is NaN, count as the worst. The number of rows is the next power of two.

    Args:
      points: [n, D].
      scores: [n], larger is better.
    """
    from scipy import special, stats

    worst = np.where(np.isfinite(scores), scores, -np.inf)
    ranks = stats.rankdata(worst)  # ties share their mean
    normal = special.ndtri((ranks - 0.5) / max(len(ranks), 1))
    size = max(8, 1 << (len(scores) - 1).bit_length())
    more = size - len(scores)
    return Observed(
        jnp.asarray(np.pad(points, ((0, more), (0, 0))), float),
        jnp.asarray(np.pad(normal, (0, more)), float),
        jnp.arange(size) < len(scores),
    )


def _plain(space: Space) -> Space:
    """A space without its prior, whose positions are uniform."""
    return space if isinstance(space, Choice) else type(space)(space.low, space.high, space.log, space.integer)
