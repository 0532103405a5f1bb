"""Grids of an environment's parameters, in which agents are evaluated."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from purerl.sweep.trials import trials
from purerl.sweep.trials.spaces import SearchSpace
from purerl.types import PyTree


class EnvGrid(NamedTuple):
    """Q points in the space of an environment's parameters.

    Attributes:
      env_params: the parameters, leaves [Q].
      columns: the parameters that differ between them, values [Q] by name.
    """

    env_params: PyTree
    columns: dict[str, np.ndarray]


def env_grid(env_params: PyTree, space: SearchSpace) -> EnvGrid:
    """Every combination of the grid points of some of an environment's parameters; the last varies fastest.

    Args:
      env_params: the parameters, such as `purerl.envs.env_params("CartPole-v1")` returns.
      space: a mapping from names of its fields to spaces with `points`, choices or constants.

    Raises:
      ValueError: a field does not exist, or a space has no `points`.

    Examples:
      >>> from purerl.sweep import uniform
      >>> class Params(NamedTuple):
      ...     length: float = 0.5
      ...     gravity: float = 9.8
      >>> grid = env_grid(Params(), {"length": uniform(0.0, 1.0, points=3)})
      >>> grid.env_params.length.tolist(), grid.env_params.gravity.shape
      ([0.0, 0.5, 1.0], (3,))
    """
    prefixed = {trials.ENV_PREFIX + name: each for name, each in space.items()}
    made = trials.make(jax.random.key(0), _NoHparams(), prefixed, None, env_params=env_params)
    columns = {name.removeprefix(trials.ENV_PREFIX): values for name, values in made.columns.items()}
    return EnvGrid(made.env_params, columns)


class _NoHparams(NamedTuple):
    """No hyperparameters: the grid is over the environment only."""
