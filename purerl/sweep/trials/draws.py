"""Tables of trials from search spaces: at random, by a Sobol sequence, or every point of a grid.

A table is the agent's own NamedTuple of hyperparameters with leaves [num_trials]: `jax.vmap` takes it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np

from purerl.hparams import cast
from purerl.sweep.trials.spaces import Choice, SearchSpace, Space, check_space
from purerl.types import Hparams

Method = Literal["random", "sobol"]


def sample(key: jax.Array, hparams: Hparams, space: SearchSpace, num_trials: int) -> Hparams:
    """Draw trials from a space, independently and uniformly over it.

    A hyperparameter's draws depend only on the key and its own name, and trial i's neither on the number of trials nor
    on the other hyperparameters: a search of 128 trials begins with the 64 of the smaller one.

    Args:
      key: typed key.
      hparams: the agent's hyperparameters, a NamedTuple of scalars: the values of those that the space leaves out.
      space: a mapping from the names of hyperparameters to spaces or constants.
      num_trials: number of trials P.

    Returns:
      The same NamedTuple with leaves [P], NumPy arrays of the dtypes that training uses.

    Raises:
      TypeError, ValueError: as `check_space`, or `num_trials` is not positive.

    Examples:
      >>> from typing import NamedTuple
      >>> from purerl.sweep import uniform
      >>> class Hparams(NamedTuple):
      ...     learning_rate: float = 0.1
      ...     discount: float = 0.99
      >>> table = sample(jax.random.key(0), Hparams(), {"learning_rate": uniform(0, 1)}, num_trials=4)
      >>> table.learning_rate.shape, table.discount.shape
      ((4,), (4,))
    """
    hparams, spaces = check_space(hparams, space)
    return table(hparams, columns(key, spaces, num_trials, "random"), num_trials)


def sobol(key: jax.Array, hparams: Hparams, space: SearchSpace, num_trials: int) -> Hparams:
    """Draw trials by a scrambled Sobol sequence, which covers the space more evenly than independent draws.

    Best with a power of two of trials. A search of 128 trials begins with the 64 of the smaller one; another
    hyperparameter in the space changes all draws. Owen's scrambling, by `scipy.stats.qmc.Sobol`.

    Arguments, result and errors are those of `sample`.

    Examples:
      >>> from typing import NamedTuple
      >>> from purerl.sweep import uniform
      >>> class Hparams(NamedTuple):
      ...     learning_rate: float = 0.1
      >>> table = sobol(jax.random.key(0), Hparams(), {"learning_rate": uniform(0, 1)}, num_trials=4)
      >>> sorted((4 * table.learning_rate).astype(int).tolist())  # one in each quarter
      [0, 1, 2, 3]
    """
    hparams, spaces = check_space(hparams, space)
    return table(hparams, columns(key, spaces, num_trials, "sobol"), num_trials)


def grid(hparams: Hparams, space: SearchSpace) -> Hparams:
    """Every combination of the grid points of a space; the last hyperparameter varies fastest.

    Arguments, result and errors are those of `sample`; a continuous space without `points` is a ValueError too.

    Examples:
      >>> from typing import NamedTuple
      >>> from purerl.sweep import choice, integers
      >>> class Hparams(NamedTuple):
      ...     learning_rate: float = 0.1
      ...     num_steps: int = 4
      >>> table = grid(Hparams(), {"learning_rate": choice([0.25, 0.5]), "num_steps": integers(1, 2)})
      >>> table.learning_rate.tolist(), table.num_steps.tolist()
      ([0.25, 0.25, 0.5, 0.5], [1, 2, 1, 2])
    """
    hparams, spaces = check_space(hparams, space)
    points = grid_columns(spaces)
    return table(hparams, points, math.prod(len(each.grid()) for each in spaces.values()))


def columns(key: jax.Array, spaces: Mapping[str, Space], num_trials: int, method: Method) -> dict[str, np.ndarray]:
    """Draws from each space, [num_trials] by name.

    Raises:
      ValueError: `num_trials` is not positive, or the method is unknown.

    Examples:
      >>> from purerl.sweep import integers
      >>> columns(jax.random.key(0), {"num_steps": integers(5, 6)}, 3, "sobol")["num_steps"].shape
      (3,)
    """
    if num_trials < 1:
        raise ValueError(f"num_trials = {num_trials} must be at least 1")
    if method not in ("random", "sobol"):
        raise ValueError(f"method = {method!r} must be 'random' or 'sobol'; a grid has no num_trials")
    turns = {name: each for name, each in spaces.items() if isinstance(each, Choice) and each.in_turn}
    drawn = [name for name in spaces if name not in turns]
    if method == "random":
        units = {name: _unit_numbers(key, name, num_trials) for name in drawn}
    else:
        units = dict(zip(drawn, _sobol_numbers(key, len(drawn), num_trials)))
    places = {name: each.grid()[np.arange(num_trials) % len(each.values)] for name, each in turns.items()}
    return {name: places[name] if name in turns else spaces[name].from_unit(units[name]) for name in spaces}


def grid_columns(spaces: Mapping[str, Space]) -> dict[str, np.ndarray]:
    """Every combination of the spaces' grid points, by name; the last varies fastest.

    Raises:
      ValueError: a continuous space has no `points`; the message names it.

    Examples:
      >>> from purerl.sweep import choice, integers
      >>> grid_columns({"a": integers(1, 2), "b": choice([8, 9])})
      {'a': array([1, 1, 2, 2]), 'b': array([8, 9, 8, 9])}
    """
    points = []
    for name, each in spaces.items():
        try:
            points.append(each.grid())
        except ValueError as error:
            raise ValueError(f"space[{name!r}]: {error}") from None
    return dict(zip(spaces, (axis.reshape(-1) for axis in np.meshgrid(*points, indexing="ij"))))


def table(hparams: Hparams, columns: Mapping[str, np.ndarray], num_trials: int) -> Hparams:
    """The hyperparameters repeated for each trial, leaves [num_trials], with the columns inserted."""
    base = jax.tree.map(np.asarray, cast(hparams))
    full = jax.tree.map(lambda leaf: np.repeat(leaf[None], num_trials, axis=0), base)
    return full._replace(**{name: values.astype(getattr(base, name).dtype) for name, values in columns.items()})


def _unit_numbers(key: jax.Array, name: str, count: int) -> np.ndarray:
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    draw = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))
    return np.asarray(draw(np.arange(count)), np.float64)


def _sobol_numbers(key: jax.Array, dimensions: int, count: int) -> np.ndarray:
    """[dimensions, count] numbers in [0, 1), the beginning of a power of two of them."""
    from scipy.stats import qmc

    if not dimensions:
        return np.empty((0, count))
    seed = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    sequence = qmc.Sobol(dimensions, scramble=True, rng=seed)
    return sequence.random_base2(math.ceil(math.log2(count)))[:count].T
