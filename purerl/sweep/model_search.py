"""Search with a model: batches of trials, each chosen where the trials before it promise most."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.distributed import is_main
from purerl.prng import check_key
from purerl.sweep.models import gp, tpe
from purerl.sweep.models.encoding import Observed, axes_of, encode, observed
from purerl.sweep.results.joining import join, spent
from purerl.sweep.results.result import Result
from purerl.sweep.run import budget as budgets
from purerl.sweep.run import identity, journal
from purerl.sweep.run.budget import Budget
from purerl.sweep.run.fingerprint import digest_of
from purerl.sweep.run.keeping import renumbered
from purerl.sweep.search import search
from purerl.sweep.trials import draws, spaces
from purerl.sweep.trials import trials as trials_module
from purerl.sweep.trials.algorithms import AgentSource
from purerl.sweep.trials.spaces import Choice, SearchSpace
from purerl.sweep.trials.trials import Constraint, Parts, Trials, assemble, default_of, is_one_of
from purerl.types import Env, Hparams, PyTree

Model: TypeAlias = Literal["tpe", "gp"]
MODELS: dict[str, Callable[..., jax.Array]] = {"tpe": tpe.propose, "gp": gp.propose}


def model_search(
    key: jax.Array,
    agent: AgentSource,
    env: Env,
    hparams: Hparams,
    space: SearchSpace,
    *,
    num_trials: int,
    batch_size: int = 16,
    model: Model = "tpe",
    warm_start: Result | None = None,
    static: Mapping[str, Choice] | None = None,
    env_params: PyTree = None,
    constraint: Constraint | None = None,
    adjust: Callable[[Trials], Trials] | None = None,
    keep: int | None = 10,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **options: Any,
) -> Result:
    """Search in batches: the first by a Sobol sequence, each further one where a model of all before it promises most.

    All batches have the same seeds and play the same episodes, so all trials are comparable. Under a schedule the model
    learns from the trials that were trained to the end once there are enough of them, before that from the returns
    after the rung that most trials reached; with `sweep.hyperband` this is BOHB.

    Args:
      key: typed key.
      agent, env, hparams, space, static, env_params, constraint: as in `search`.
      num_trials: number of trials, in all batches.
      batch_size: trials that are chosen together and trained side by side.
      model: "tpe", a tree-structured Parzen estimator, see `models.tpe`; or "gp", a Gaussian process with expected
        improvement, see `models.gp`, which is better with few trials and slower with many.
      warm_start: a search over the same names, from which the model learns before the first batch: from its trials
        that lie in the space.
      adjust: applied to the trials of each batch, for hyperparameters that depend on others.
      keep: number of the best trials whose states are kept; None: all.
      directory: batch b is written to its folder `batch<b>`, what decides the choices to `model`, and all together at
        the end to the directory itself.
      resume: resume the search in `directory`: finished batches are read, and the same ones follow. `num_trials` may be
        larger than before.
      **options: further arguments of `search`: `num_updates`, `num_envs`, `rollout_length`, `schedule`, `until`, ...;
        `callbacks` see the numbers that trials have among those of all batches, and `max_steps` and `max_seconds` are
        limits of all batches together. `confirm` and `num_seeds="auto"` would spend fresh seeds on the best trials of
        each batch, so they are refused.

    Returns:
      The `Result` of all batches.

    Raises:
      TypeError, ValueError: as `search`; an unknown model; a search that is resumed is made longer, or with another
        model, batch size, constraint or warm start; or the warm start is a search over other names, or has no trial in
        the space.
    """
    check_key(key)
    if model not in MODELS:
        raise ValueError(f"model = {model!r} must be 'tpe' or 'gp'")
    if batch_size < 1 or num_trials < 1:
        raise ValueError(f"num_trials = {num_trials} and batch_size = {batch_size} must be at least 1")
    parts = trials_module.split(hparams, space, static=static, env_params=env_params)
    if not parts.drawn:
        raise ValueError("space holds constants only: there is nothing to choose")
    if warm_start is not None and set(warm_start.searched) != set(parts.drawn):
        raise ValueError(f"the warm start searched {', '.join(warm_start.searched)}, not {', '.join(parts.drawn)}")
    if resume and directory is not None:
        _check_length(Path(directory), options["num_updates"])
    check_fresh(options)
    results: list[Result] = []
    callbacks, budget = options.pop("callbacks", ()), take_budget(options)
    with _opened(directory, resume, _definition(key, parts, model, batch_size, constraint, warm_start)):
        while (done := sum(result.num_trials for result in results)) < num_trials:
            count, batch = min(batch_size, num_trials - done), len(results)
            folder = None if directory is None else Path(directory) / f"batch{batch:04d}"
            again = resume and folder is not None and journal.exists(folder)
            if results and not again and budgets.spent(budget, *spent(results)):
                break
            count = _num_trials(folder) or count if again and folder else count
            made = _next(jax.random.fold_in(key, batch), parts, model, count, constraint, warm_start, results)
            made = made if adjust is None else adjust(made)
            options["callbacks"] = renumbered(callbacks, np.arange(done, done + count))
            places: Any = {"keep": keep, "directory": folder, "resume": again}
            results.append(search(key, agent, env, made, **places, **limits(budget, results), **options))
            if "stopped" in results[-1].settings:
                break
    result = _with_reason(join(results, keep), budget, num_trials)
    return result if directory is None or not is_main() else _saved(result, directory)


def check_fresh(options: Mapping[str, Any]) -> None:
    """Reject options of `search` that spend fresh seeds on the best trials, which would be those of each batch.

    Raises:
      ValueError: names the option.
    """
    if options.get("confirm"):
        raise ValueError(
            f"confirm = {options['confirm']}: a search in batches does not train its best trials again; leave it out, "
            "and train the best one with other seeds"
        )
    if options.get("num_seeds") == "auto":
        raise ValueError("num_seeds = 'auto' is not for a search in batches: give a number")


def take_budget(options: dict[str, Any]) -> Budget:
    """The limits of all batches together, which are removed from the options of each."""
    return Budget(max_steps=options.pop("max_steps", None), max_seconds=options.pop("max_seconds", None))


def limits(budget: Budget, results: Sequence[Result]) -> dict[str, Any]:
    """The limits of the next batch, as options of `search`."""
    rest = budgets.left(budget, *spent(results))
    return {"max_steps": rest.max_steps, "max_seconds": rest.max_seconds}


def _with_reason(result: Result, budget: Budget, num_trials: int) -> Result:
    """The result of all batches; if their budget stopped the search before its last trial, it says so."""
    reason = budgets.spent(budget, result.settings["environment_steps"], result.settings["seconds"])
    if reason is None or ("stopped" not in result.settings and result.num_trials >= num_trials):
        return result
    return dataclasses.replace(result, settings={"until": None, **result.settings, "stopped": reason})


def _definition(
    key: jax.Array,
    parts: Parts,
    model: Model,
    batch_size: int,
    constraint: Constraint | None,
    warm_start: Result | None,
) -> dict[str, Any]:
    """The settings that decide which trials are tried; each batch has a definition of its own for its training."""
    made: dict[str, Any] = {"model": model, "batch_size": batch_size, **identity.parts_of("key", key)}
    made["space"] = spaces.to_json(parts.drawn)
    made["constraint"] = None if constraint is None else identity.of_function(constraint)
    known = None if warm_start is None else _warm(parts, warm_start)
    return made | {"warm start": None if known is None else digest_of(known)}


@contextlib.contextmanager
def _opened(directory: str | os.PathLike[str] | None, resume: bool, definition: dict[str, Any]) -> Iterator[None]:
    """Hold the journal of the choices, `directory/model`, and compare the definition with the one that it began with.

    Raises:
      As `journal.opened` and `identity.check`.
    """
    folder = None if directory is None else Path(directory) / "model"
    again = resume and folder is not None and journal.exists(folder)  # earlier versions had none
    with journal.opened(folder, resume=again) as log:
        identity.check(log, definition)
        yield


def _num_trials(folder: Path) -> int | None:
    """The size of a batch that was begun: the last one is smaller than the others, also after the search has grown."""
    found = [event for event in journal.read(folder) if event["kind"] == "size"]
    return sum(found[-1]["trials"]) if found else None


def _check_length(directory: Path, num_updates: int) -> None:
    first = directory / "batch0000"
    events = journal.read(first) if journal.exists(first) else []
    before = next((sum(event["updates"]) for event in events if "updates" in event), num_updates)
    if num_updates != before:
        raise ValueError(
            f"{directory} was begun with num_updates = {before}, not {num_updates}: a model chose its trials by runs "
            "of that length, so the search cannot be made longer"
        )


def _saved(result: Result, directory: str | os.PathLike[str]) -> Result:
    result.save(directory)
    return result


def _next(
    key: jax.Array,
    parts: Parts,
    model: Model,
    count: int,
    constraint: Constraint | None,
    warm_start: Result | None,
    results: list[Result],
) -> Trials:
    """The trials of the next batch."""
    known = [] if warm_start is None else [_warm(parts, warm_start)]
    known += [_evaluated(parts, join(results, 0))] if results else []
    drawn = draws.columns(key, parts.drawn, 8 * count if constraint else count, "sobol")
    if known:
        points, scores = (np.concatenate(each) for each in zip(*known))
        chosen = propose(key, parts.drawn, observed(points, scores), model, 4 * count if constraint else count)
        drawn = {name: np.concatenate([chosen[name], drawn[name]]) for name in drawn}
    made = assemble(parts, drawn, len(next(iter(drawn.values()))))
    good = np.arange(made.size) if constraint is None else np.flatnonzero(trials_module.allowed(made, constraint))
    if len(good) < count:
        raise ValueError(f"constraint: only {len(good)} of {made.size} draws are allowed; narrow the space instead")
    return assemble(parts, {name: column[good[:count]] for name, column in drawn.items()}, count)


def propose(
    key: jax.Array, spaces: Mapping[str, Any], seen: Observed, model: Model, count: int
) -> dict[str, np.ndarray]:
    """Values to try next, [count] by name, given what was seen; see `models.tpe.propose`."""
    axes = axes_of(spaces)
    nowhere = jnp.zeros((0, len(axes.names)))
    points = MODELS[model](key, seen, nowhere, sizes=axes.sizes, count=count)
    return axes.decode(spaces, np.asarray(points, np.float64))


def _evaluated(parts: Parts, result: Result, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The points [n, D] and scores [n] that a model learns from, of all trials or of those that are `inside`, [P]."""
    rows = np.arange(result.num_trials) if inside is None else np.flatnonzero(inside)
    columns = {name: result.values(name)[rows] for name in parts.drawn}
    for name, each in parts.static.items():
        columns[name] = np.array([each.values.index(value) for value in columns[name].tolist()], int)
    points, whole = encode(parts.drawn, columns), result.num_updates[rows] == result.num_updates.max()
    if whole.all() or whole.sum() >= 2 * (points.shape[1] + 1):
        return points[whole], result.score[rows][whole]
    compared = result.comparable()
    known = np.isin(compared.trials, rows)
    return points[np.searchsorted(rows, compared.trials[known])], compared.iqm[known]


def _warm(parts: Parts, result: Result) -> tuple[np.ndarray, np.ndarray]:
    """The same of the trials of a warm start that lie in the space, which may be narrower.

    Raises:
      ValueError: there are none.
    """
    inside = np.ones(result.num_trials, bool)
    for name, drawn in parts.drawn.items():
        values, each = result.values(name), parts.static.get(name, drawn)
        holds = is_one_of(values, each.values) if isinstance(each, Choice) else each.holds(values)
        if name in parts.conditions:
            holds |= is_one_of(values, [default_of(parts, name).item()])
        inside &= holds
    if not inside.any():
        raise ValueError("no trial of the warm start lies in the space: a model could not learn from it")
    return _evaluated(parts, result, inside)
