"""How much of the spread of the returns each searched name accounts for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from purerl.sweep.spaces import Choice, Space

Method: TypeAlias = Literal["auto", "fanova", "permutation"]
_TREES = 64
_MISSING = "importance needs scikit-learn (and, for fANOVA, optuna): pip install 'purerl[importance]'"


def importance(
    columns: Mapping[str, np.ndarray],
    space: Mapping[str, Space],
    returns: np.ndarray,
    method: Method = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Share of the variance of the returns that each column accounts for, by a forest of regression trees.

    Values are mapped to where they lie in their space first, so a logarithmic range is measured in the logarithm, and
    choices are categories without an order, each as likely. Returns that are NaN count as the lowest of all: that a
    value makes training diverge is what matters about it.

    "fanova" is the variance of the forest's mean prediction given one column alone, over the variance of all its
    predictions (Hutter et al. 2014, "An Efficient Approach for Assessing Hyperparameter Importance", eq. 7, by Optuna):
    what is missing to 1 is the part of interactions. "permutation" is by how much the prediction's squared error grows
    when one column is shuffled, normalised to a sum of 1 (Breiman 2001, by scikit-learn): interactions count for each
    of their columns. Both are estimates: below some 50 trials take them as a hint.

    Args:
      columns: [K] values by name.
      space: where they come from, by name; a column without a space is taken as it is.
      returns: [K].
      method: "auto" takes "fanova" where Optuna is installed.
      seed: of the forest.

    Returns:
      From names to shares in [0, 1], the largest first; all 0 where the returns do not differ.

    Raises:
      ModuleNotFoundError: a package is missing; the message names the extra.
      ValueError: fewer than 4 trials, or no column.
    """
    if not columns or len(returns) < 4:
        raise ValueError(f"importance needs something that was searched and at least 4 trials, not {len(returns)}")
    if np.isnan(returns).all():
        raise ValueError("importance needs a trial whose return is a number")
    evaluate = _fanova if _choose(method) == "fanova" else _permutation
    values = {name: _encode(column, space.get(name)) for name, column in columns.items()}
    target = np.where(np.isnan(returns), np.nanmin(returns), returns)
    varied = {name: value for name, value in values.items() if np.ptp(value) > 0}
    shares = dict.fromkeys(columns, 0.0)
    if varied and np.ptp(target) > 0:
        shares |= evaluate(varied, target, seed)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _choose(method: Method) -> str:
    if method not in ("auto", "fanova", "permutation"):
        raise ValueError(f"method = {method!r} must be 'auto', 'fanova' or 'permutation'")
    has_optuna, has_forest = (importlib.util.find_spec(name) is not None for name in ("optuna", "sklearn"))
    if not has_forest or (method == "fanova" and not has_optuna):
        raise ModuleNotFoundError(_MISSING)
    return ("fanova" if has_optuna else "permutation") if method == "auto" else method


def _encode(column: np.ndarray, space: Space | None) -> np.ndarray:
    """[K] places in [0, 1]: between the ends of the column, or the middle of one of c equal parts for c categories.

    Trees split between any parts, so the order of the categories does not matter, and each has the same measure.
    """
    if isinstance(space, Choice) or column.dtype == bool or column.dtype == object:
        names, code = np.unique([repr(value) for value in column.tolist()], return_inverse=True)
        return (code + 0.5) / len(names)
    values = np.log(column.astype(np.float64)) if getattr(space, "log", False) else column.astype(np.float64)
    return (values - values.min()) / max(np.ptp(values), 1e-300)


def _fanova(values: Mapping[str, np.ndarray], target: np.ndarray, seed: int) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution

    distributions: dict[str, BaseDistribution] = dict.fromkeys(values, FloatDistribution(0.0, 1.0))
    rows = [dict(zip(values, row)) for row in zip(*(value.tolist() for value in values.values()))]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                optuna.trial.create_trial(params=row, distributions=distributions, value=goal)
                for row, goal in zip(rows, target.tolist())
            ]
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=seed)
        return {name: float(share) for name, share in evaluator.evaluate(study).items()}
    finally:
        optuna.logging.set_verbosity(verbosity)


def _permutation(values: Mapping[str, np.ndarray], target: np.ndarray, seed: int) -> dict[str, float]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    table = np.stack(list(values.values()), axis=1)
    forest = RandomForestRegressor(_TREES, random_state=seed).fit(table, target)
    growth = permutation_importance(forest, table, target, n_repeats=10, random_state=seed).importances_mean
    growth = np.maximum(growth, 0)
    return {name: float(each) for name, each in zip(values, growth / max(growth.sum(), 1e-300))}
