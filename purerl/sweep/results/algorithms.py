"""A search over algorithms, one row per algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from purerl.sweep.trials.algorithms import ALGORITHM

if TYPE_CHECKING:
    from purerl.sweep.results.result import Result


def by_algorithm(result: Result) -> list[dict[str, Any]]:
    """How the algorithms of a search compare, the one with the best trial first; empty if it is of one alone.

    Returns:
      A dict each: `algorithm`, the number of its `trials`, how many were trained to the end (`finished`), the `rank`
      and number (`best_trial`) of its best one with its `return`, `return_low` and `return_high`, and the median of the
      returns of all of its trials that can be compared (`median_return`, after `median_steps` steps each), which the
      luck of the best one does not move.
    """
    names = algorithms_of(result)
    compared = result.comparable() if names else None
    rows = []
    for name in names:
        mine = result.values(ALGORITHM) == name
        rank = int(np.flatnonzero(mine[result.order])[0]) + 1
        best = result.select(rank)
        assert compared is not None
        returns = compared.iqm[mine[compared.trials]]
        known = returns[np.isfinite(returns)]
        rows.append({
            "algorithm": name, "trials": int(mine.sum()),
            "finished": int((mine & (result.num_updates == result.num_updates.max())).sum()),
            "rank": rank, "best_trial": best.number, "return": best.iqm,
            "return_low": best.interval[0], "return_high": best.interval[1],
            "median_return": float(np.median(known)) if known.size else float("nan"), "median_steps": compared.steps,
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["rank"])


def algorithms_of(result: Result) -> tuple[str, ...]:
    """The algorithms that a search compares, in the order of its space; empty if it is of one alone."""
    if ALGORITHM not in result.searched:
        return ()
    found = result.values(ALGORITHM).tolist()
    space = result.space.get(ALGORITHM)
    return tuple(name for name in getattr(space, "values", dict.fromkeys(found)) if name in found)
