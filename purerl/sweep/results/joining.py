"""Several searches as one: further trials of the same search, or different algorithms in one ranking."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from purerl.sweep.results import ranking
from purerl.sweep.results.result import Result
from purerl.sweep.trials.trials import Trials


def join(results: Sequence[Result], keep: int | None = 10) -> Result:
    """Searches with the same sizes as one result, whose trials are those of the first, then of the second, and so on.

    Trials are comparable if the searches had the same key, since they then share their seeds and the episodes of their
    evaluation.

    Args:
      results: of the same agent, hyperparameters, objective, seeds, steps and episodes; `sweep.load` reads them.
      keep: number of the best trials whose states are kept; None: all that the results hold.

    Raises:
      ValueError: there are none, or a size differs; the message names it.
    """
    if not results:
        raise ValueError("there are no results to join")
    first = results[0]
    for result in results[1:]:
        for name, value in _sizes(first).items():
            if _sizes(result)[name] != value:
                raise ValueError(f"searches with other {name} cannot be joined: {value} and {_sizes(result)[name]}")
    trials = _join_trials([result.trials for result in results])
    firsts = np.cumsum([0, *(result.num_trials for result in results)])
    num_rungs = max(len(result.rung_returns) for result in results)
    padded = [
        np.pad(result.rung_returns, [(0, num_rungs - len(result.rung_returns)), *[(0, 0)] * 3], constant_values=np.nan)
        for result in results
    ]
    scores: Any = {name: _all(results, name) for name in ("scores", "seconds", "pareto")}
    whole = dataclasses.replace(
        first,
        trials=trials,
        rung_returns=np.concatenate(padded, axis=1),
        **{name: np.concatenate([getattr(result, name) for result in results]) for name in _BY_TRIAL},
        **scores,
        **dict(zip(("skipped", "skipped_after"), map(np.concatenate, zip(*(result.skips for result in results))))),
        **_fresh(results, firsts),
        kept=np.concatenate([r.kept + begin * first.num_seeds for r, begin in zip(results, firsts)]),
        states=_states(results),
        settings=_settings(results),
    )
    if keep is None or whole.states is None:
        return whole
    best = whole.member_index.of_trials(whole.order[:keep])
    chosen = [place for place, member in enumerate(whole.kept.tolist()) if member in best]
    return dataclasses.replace(whole, kept=whole.kept[chosen], states=tuple(whole.states[place] for place in chosen))


def ranked_rows(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """One ranking of different searches, such as of PPO, DQN and PQN on one environment: the rows of all, best first.

    Each row has the name of its `search` in front. Names that another search did not have are None. Ranks are by the
    objective, and ties by the searches' own criteria; trials that were stopped early come last. If all searches trained
    their best trials again on fresh seeds, these come first, by the objective there, as in `Result.order`.

    Raises:
      ValueError: the objectives differ, or there are no results.

    Examples:
      >>> ranked_rows({})
      Traceback (most recent call last):
      ValueError: there are no results to rank
    """
    if not results:
        raise ValueError("there are no results to rank")
    goals = {result.objective[::2] for result in results.values()}
    if len(goals) > 1:
        raise ValueError(f"the searches have different objectives: {', '.join(sorted(name for name, _ in goals))}")
    rows = [{"search": name} | row for name, result in results.items() for row in result.rows()]
    trials = [result.order[: len(result.rows())] for result in results.values()]  # in the order of their rows
    names = [
        name for name in next(iter(results.values())).criteria if all(name in r.criteria for r in results.values())
    ]

    def column(of: Callable[[Result], np.ndarray]) -> np.ndarray:
        return np.concatenate([of(result)[which] for result, which in zip(results.values(), trials)])

    ties = [column(lambda result, name=name: result.criteria[name]) for name in names]  # type: ignore[misc]
    own = -np.concatenate([np.arange(len(which)) for which in trials])
    whole = column(lambda result: result.num_updates == result.num_updates.max())
    again = all(len(result.fresh_trials) for result in results.values())
    confirmed = column(lambda result: result.confirmed) if again else None
    score = column(lambda result: result.healthy_score if again else result.score)
    order = ranking.rank(score, [*ties, own], whole, confirmed)
    every = list(dict.fromkeys(name for row in rows for name in row))
    ranked = [{name: rows[i].get(name) for name in every} for i in order.tolist()]
    return [row | {"rank": rank} for rank, row in enumerate(ranked, start=1)]


_BY_TRIAL = ("curves", "returns", "num_updates", "interval")


def _sizes(result: Result) -> dict[str, Any]:
    return {
        "seeds": result.num_seeds,
        "episodes": result.returns.shape[2],
        "steps": result.steps.tolist(),
        "hyperparameters": result.hparams._fields,
        "searched names": result.searched,
        "objective": result.objective.name,
    }


def _join_trials(parts: Sequence[Trials]) -> Trials:
    def joined(*leaves: Any) -> Any:
        return np.concatenate([np.asarray(leaf) for leaf in leaves])

    groups: list[dict[str, Any]] = []
    group = []
    for part in parts:
        new = [each for each in part.groups if each not in groups]
        groups += new
        group.append(np.array([groups.index(part.groups[number]) for number in part.group.tolist()], int))
    kind: Any = type(parts[0].hparams)  # classes of searches that were loaded are equal in their fields alone
    return Trials(
        kind(*(joined(*leaves) for leaves in zip(*(part.hparams for part in parts)))),
        None if parts[0].env_params is None else jax.tree.map(joined, *(part.env_params for part in parts)),
        np.concatenate(group),
        tuple(groups),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        parts[0].space,
        parts[0].reference,
    )


def _all(results: Sequence[Result], name: str) -> np.ndarray | None:
    arrays = [getattr(result, name) for result in results]
    return None if any(array is None for array in arrays) else np.concatenate(arrays)


def _fresh(results: Sequence[Result], firsts: np.ndarray) -> dict[str, Any]:
    """The trials that were trained again; NaN for the seeds that one had less than another."""
    most = max(result.fresh_returns.shape[1] for result in results)

    def wide(array: np.ndarray, filled: float = np.nan) -> np.ndarray:
        return np.pad(array, [(0, 0), (0, most - array.shape[1]), *[(0, 0)] * (array.ndim - 2)], constant_values=filled)

    scores = [
        result.fresh_returns.mean(axis=2, dtype=np.float64) if result.fresh_scores is None else result.fresh_scores
        for result in results
    ]
    return {
        "fresh_trials": np.concatenate([result.fresh_trials + first for result, first in zip(results, firsts)]),
        "fresh_returns": np.concatenate([wide(result.fresh_returns) for result in results]),
        "fresh_scores": np.concatenate([wide(each) for each in scores]),
        "fresh_counts": np.concatenate([result.num_fresh for result in results]),
        "fresh_skipped": np.concatenate([wide(result.fresh_skips.number, 0) for result in results]),
        "fresh_skipped_after": np.concatenate([wide(result.fresh_skips.after) for result in results]),
    }


def _states(results: Sequence[Result]) -> tuple[Any, ...] | None:
    if any(result.states is None for result in results):
        return None
    return tuple(state for result in results for state in result.states or ())


def _settings(results: Sequence[Result]) -> dict[str, Any]:
    """Those of the last search, with the brackets, the time and the steps of all, and their rate."""
    brackets = tuple(bracket for result in results for bracket in result.settings["brackets"])
    steps, seconds = spent(results)
    ran: dict[str, Any] = {"brackets": brackets, "seconds": seconds, "environment_steps": steps}
    rates = [(spent([result])[0], result.settings.get("steps_per_second", math.nan)) for result in results]
    known = [(made, rate) for made, rate in rates if rate > 0]
    if known:
        ran["steps_per_second"] = sum(made for made, _ in known) / sum(made / rate for made, rate in known)
    return {**results[-1].settings, **ran}


def spent(results: Sequence[Result]) -> tuple[int, float]:
    """The environment steps that all agents of these searches made, and their seconds.

    Searches of earlier versions have no count of the steps; it is then that of the agents that were evaluated.
    """
    evaluated = (int(result.trial_steps.sum()) * result.num_seeds for result in results)
    steps = sum(result.settings.get("environment_steps", made) for result, made in zip(results, evaluated))
    return steps, sum(result.settings.get("seconds", 0.0) for result in results)
