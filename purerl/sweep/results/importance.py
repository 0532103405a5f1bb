"""Importance: how much of the variance of the returns each searched name accounts for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from purerl.sweep.trials.spaces import Range, Space

Method: TypeAlias = Literal["auto", "fanova", "permutation"]
Tree: TypeAlias = Any
"""scikit-learn's `sklearn.tree._tree.Tree`."""
_TREES = 64
_MOST_TRIALS = 2000  # of more, so many are drawn: forests take minutes on all of 10,000
_MISSING = "importance needs scikit-learn: pip install scikit-learn"


def importance(
    columns: Mapping[str, np.ndarray],
    space: Mapping[str, Space],
    returns: np.ndarray,
    method: Method = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Share of the variance of the returns that each column accounts for, by a forest of regression trees.

    Values are first mapped to their position in their space, so a logarithmic range is measured in the logarithm, and
    choices are categories without an order, all equally likely. Values outside their range, which are the defaults of
    trials in which a name with a condition is not searched, have one position of their own. Returns that are NaN count
    as the lowest of all, so a value that makes training diverge is important. Of more than 2,000 trials as many are
    drawn.

    "fanova" is the variance of a tree's mean prediction given one column alone, over the variance of all its
    predictions, averaged over the trees (Hutter et al. 2014, "An Efficient Approach for Assessing Hyperparameter
    Importance", eq. 7); the rest, up to 1, is due to interactions. "permutation" is the growth of the prediction's
    squared error when one column is shuffled, normalised to a sum of 1 (Breiman 2001, by scikit-learn); interactions
    count for each of their columns. Both are estimates: with fewer than about 50 trials take them as a hint.

    Args:
      columns: [K] values by name.
      space: the spaces they come from, by name; a column without a space is used unchanged.
      returns: [K].
      method: "auto" is "fanova".
      seed: of the forest.

    Returns:
      A dict from names to shares in [0, 1], the largest first; all 0 if the returns do not differ.

    Raises:
      ModuleNotFoundError: scikit-learn is missing; the message says how to install it.
      ValueError: fewer than 4 trials, no column, no return that is a number, or an unknown method.

    Examples:
      >>> columns = {"rate": np.arange(8.0), "idle": np.array([0, 0, 1, 1, 0, 1, 0, 1.0])}
      >>> list(importance(columns, {}, returns=np.arange(8.0)))
      ['rate', 'idle']
    """
    _check(columns, returns, method)
    return _importance(columns, space, returns, method, seed, _TREES)


def noise_level(
    columns: Mapping[str, np.ndarray],
    space: Mapping[str, Space],
    returns: np.ndarray,
    method: Method = "auto",
    seed: int = 0,
    num_shuffles: int = 20,
) -> dict[str, float]:
    """The share that each column would reach by chance: the 95th percentile of `importance` over shuffled returns.

    Arguments and errors are those of `importance`. A share below this level is no finding: forests explain part of any
    noise, the more the fewer trials there are. The forests are smaller, so the level is a little too high.

    Examples:
      >>> columns = {"rate": np.arange(40.0), "idle": np.arange(40.0) % 7}
      >>> shares, level = (f(columns, {}, returns=np.arange(40.0)) for f in (importance, noise_level))
      >>> shares["rate"] > level["rate"], shares["idle"] > level["idle"]
      (True, False)
    """
    _check(columns, returns, method)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(returns) for _ in range(num_shuffles)]
    found = [_importance(columns, space, each, method, seed + i, _TREES // 8) for i, each in enumerate(shuffled)]
    return {name: float(np.quantile([shares[name] for shares in found], 0.95)) for name in columns}


def _check(columns: Mapping[str, np.ndarray], returns: np.ndarray, method: Method) -> None:
    if not columns or len(returns) < 4:
        raise ValueError(f"importance needs at least one searched name and at least 4 trials; there are {len(returns)}")
    if np.isnan(returns).all():
        raise ValueError("importance needs a trial whose return is a number; all are NaN")
    if method not in ("auto", "fanova", "permutation"):
        raise ValueError(f"method = {method!r} must be 'auto', 'fanova' or 'permutation'")
    if importlib.util.find_spec("sklearn") is None:
        raise ModuleNotFoundError(_MISSING)


def _importance(
    columns: Mapping[str, np.ndarray],
    space: Mapping[str, Space],
    returns: np.ndarray,
    method: Method,
    seed: int,
    num_trees: int,
) -> dict[str, float]:
    evaluate = _permutation if method == "permutation" else _fanova
    if len(returns) > _MOST_TRIALS:
        chosen = np.random.default_rng(seed).choice(len(returns), _MOST_TRIALS, replace=False)
        columns, returns = {name: column[chosen] for name, column in columns.items()}, returns[chosen]
    values = {name: _encode(column, space.get(name)) for name, column in columns.items()}
    target = np.where(np.isnan(returns), np.nanmin(returns), returns)
    varied = {name: value for name, value in values.items() if np.ptp(value) > 0}
    shares = dict.fromkeys(columns, 0.0)
    if varied and np.ptp(target) > 0:
        shares |= evaluate(varied, target, seed, num_trees)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _encode(column: np.ndarray, space: Space | None) -> np.ndarray:
    """[K] positions in [0, 1]: between the ends of the column, or the middle of one of c equal parts for c categories.

    Values outside their range are at 1, and the others share the rest of it.

    Trees split between any parts, so the order of the categories does not matter, and each has the same measure.
    """
    inside = _inside(column, space)
    if inside is None or not inside.any():
        names, code = np.unique([repr(value) for value in column.tolist()], return_inverse=True)
        return (code + 0.5) / len(names)
    values = column[inside].astype(np.float64)
    values = np.log(values) if getattr(space, "log", False) else values
    positions = np.ones(len(column))
    positions[inside] = (values - values.min()) / max(np.ptp(values), 1e-300) * inside.mean()
    return positions


def _inside(column: np.ndarray, space: Space | None) -> np.ndarray | None:
    """[K] bool, the values that have an order; None: the column consists of categories."""
    if isinstance(space, Range):
        return space.holds(column)
    plain = space is None and column.dtype not in (bool, object) and np.isfinite(column).all()
    return np.ones(len(column), bool) if plain else None


def _fanova(values: Mapping[str, np.ndarray], target: np.ndarray, seed: int, num_trees: int) -> dict[str, float]:
    from sklearn.ensemble import RandomForestRegressor

    table = np.stack(list(values.values()), axis=1)
    forest = RandomForestRegressor(num_trees, max_depth=64, random_state=seed).fit(table, target)
    shares = [found for tree in forest.estimators_ if (found := _shares_of_tree(tree.tree_))]
    return dict(zip(values, np.mean(shares or np.zeros((1, len(values))), axis=0).tolist()))


def _shares_of_tree(tree: Tree) -> list[float]:
    """Share of the variance of one tree's predictions over [0, 1]^D that each column accounts for alone.

    It is empty for a tree that predicts the same everywhere.

    A tree is constant on boxes that fill the cube. The mean of its predictions given x in column d is a step function,

        a_d(x) = Σ over the boxes whose side d holds x of prediction · volume of the other sides,

    so its variance is a sum over the steps.
    """
    low, high = _boxes(tree)
    leaf = tree.feature < 0
    sides, value = (high - low)[leaf], tree.value[leaf, 0, 0]
    volume = sides.prod(axis=1)  # [L], of each leaf's box; they sum to 1
    value = value - (volume * value).sum()
    variance = (volume * value**2).sum()
    if variance <= 1e-28 * np.square(tree.value).max():
        return []
    shares = []
    for d in range(sides.shape[1]):
        part = value * np.delete(sides, d, axis=1).prod(axis=1)  # the summands of a_d
        ends, place = np.unique(np.concatenate([low[leaf, d], high[leaf, d]]), return_inverse=True)
        steps = np.cumsum(np.bincount(place, np.concatenate([part, -part])))[:-1]  # a_d between two ends
        shares.append(float((steps**2 * np.diff(ends)).sum() / variance))
    return shares


def _boxes(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest corner of the box of each node, [N, D], from the root down."""
    low, high = np.zeros((tree.node_count, tree.n_features)), np.ones((tree.node_count, tree.n_features))
    nodes = np.zeros(1, int)
    while (nodes := nodes[tree.feature[nodes] >= 0]).size:
        left, right, split = tree.children_left[nodes], tree.children_right[nodes], tree.feature[nodes]
        for children in (left, right):
            low[children], high[children] = low[nodes], high[nodes]
        high[left, split] = low[right, split] = tree.threshold[nodes]
        nodes = np.concatenate([left, right])
    return low, high


def _permutation(values: Mapping[str, np.ndarray], target: np.ndarray, seed: int, num_trees: int) -> dict[str, float]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    table = np.stack(list(values.values()), axis=1)
    forest = RandomForestRegressor(num_trees, random_state=seed).fit(table, target)
    growth = permutation_importance(forest, table, target, n_repeats=10, random_state=seed).importances_mean
    growth = np.maximum(growth, 0)
    return {name: float(each) for name, each in zip(values, growth / max(growth.sum(), 1e-300))}
