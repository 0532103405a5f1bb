"""The hyperparameters that a population begins with, if they are given: those of the best trials of a search."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from purerl.hparams import check_hparams
from purerl.sweep.results.result import Result
from purerl.types import Hparams


def best_trials(result: Result, count: int) -> np.ndarray:
    """The numbers of the best trials, from the best on: at most `count`, and none that was not trained."""
    return result.order[: min(count, int((result.num_updates > 0).sum()))]


def first_members(initial: Result | Hparams | None, hparams: Hparams, population_size: int) -> Hparams | None:
    """The hyperparameters of the first members, leaves [n].

    Raises:
      TypeError, ValueError: they are of another class, out of range, or not one entry per member; or there are more
        than members.
    """
    if isinstance(initial, Result):
        best = best_trials(initial, population_size)
        initial = jax.tree.map(lambda leaf: leaf[best], initial.hparams)
    if initial is None:
        return None
    if getattr(initial, "_fields", None) != hparams._fields:
        raise TypeError(f"initial must hold {type(hparams).__name__}, not {type(initial).__name__}")
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(initial)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError("every leaf of initial must have the same leading axis: one entry per member")
    ((count,),) = sizes
    if count > population_size:
        raise ValueError(f"initial holds {count} members, but population_size = {population_size}")
    table: Any = initial
    made: Hparams = type(hparams)(*map(np.asarray, table))
    check_hparams(made)
    return made
