"""Search with Optuna: ask for a batch of trials, train them side by side as one search, and tell the results.

Needs the extra `purerl[optuna]`. Every trial is in Optuna's own storage, so its dashboard and its other tools see it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import jax
import numpy as np

from purerl.hparams import python_number
from purerl.runtime import install_hint
from purerl.sweep import optuna_workers
from purerl.sweep.model_search import check_fresh, limits, take_budget
from purerl.sweep.results.joining import spent
from purerl.sweep.results.result import Result
from purerl.sweep.results.statistics import interquartile_mean
from purerl.sweep.results.storage import Row
from purerl.sweep.run import budget as budgets
from purerl.sweep.run.keeping import renumbered
from purerl.sweep.search import search
from purerl.sweep.trials import trials as trials_module
from purerl.sweep.trials.algorithms import AgentSource
from purerl.sweep.trials.spaces import Choice, Range, SearchSpace, Space
from purerl.sweep.trials.trials import Parts
from purerl.types import Env, Hparams, PyTree

Study: TypeAlias = Any
"""`optuna.Study`; Optuna is optional, so its types are not imported."""
Sampler: TypeAlias = Any
"""`optuna.samplers.BaseSampler`."""
Asked: TypeAlias = Any
"""`optuna.Trial`."""

_BATCH, _WORKER, _DIVERGED = "purerl_batch", "purerl_worker", "diverged"


def optuna_search(
    key: jax.Array,
    agent: AgentSource,
    env: Env,
    hparams: Hparams,
    space: SearchSpace,
    *,
    num_trials: int,
    batch_size: int,
    storage: str | os.PathLike[str] | None = None,
    study_name: str = "purerl",
    sampler: Sampler | None = None,
    static: Mapping[str, Choice] | None = None,
    env_params: PyTree = None,
    **options: Any,
) -> Study:
    """Search with an Optuna sampler, `batch_size` trials at a time.

    Batch b is one `search` with the key `fold_in(key, b)`. A trial's value is its objective, with the opposite sign if
    that is minimized: without `objective=`, the interquartile mean of the returns of its seeds. A trial that a schedule
    stopped is told as pruned, with its return after each rung at its number of updates, and a trial that diverged, or
    whose objective is NaN, as failed.

    With a storage a study resumes where it stopped: trials that were asked for and never told, because their process
    died, are told as failed and their parameters asked for again. Several processes may work on one storage; trials
    that another one is training are left to it.

    Args:
      key, agent, env, hparams, space, static, env_params: as in `search`.
      num_trials: total number of trials, including those of other processes, earlier and now.
      batch_size: trials that are asked for together; the sampler learns from one batch to the next.
      storage: path of a journal file that keeps the study; None keeps it in memory. The folder `<storage>.workers`
        beside it holds a lock file for each process.
      study_name: its name there.
      sampler: any of Optuna's; None takes TPE with `constant_liar`, which spreads a batch, seeded from the key.
      **options: further arguments of `search`: `num_updates`, `num_envs`, `rollout_length`, `schedule`, ...; with a
        `directory`, batch b is written to its folder `batch<b>`, `callbacks` see Optuna's numbers of trials, and a
        search that stops early, such as with `until`, is the last one. `max_steps` and `max_seconds` are limits of all
        batches of this call together; `confirm` and `num_seeds="auto"` are refused.

    Returns:
      The `optuna.Study`, of direction "maximize".

    Raises:
      ModuleNotFoundError: Optuna is not installed; the message says how.
      TypeError, ValueError: as `search`.
    """
    optuna, directory, callbacks = _import_optuna(), options.pop("directory", None), options.pop("callbacks", ())
    check_fresh(options)
    budget, results = take_budget(options), list[Result]()
    parts = trials_module.split(hparams, space, static=static, env_params=env_params)
    backend = None
    if storage is not None:
        backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(os.fspath(storage)))
    study = optuna.create_study(
        storage=backend, study_name=study_name, sampler=sampler, direction="maximize", load_if_exists=True
    )
    if sampler is None:
        study.sampler = _default_sampler(optuna, key, len(study.get_trials(deepcopy=False)))
    distributions = {name: _distribution(optuna, each) for name, each in _named(parts).items()}
    with optuna_workers.working_on(storage) as worker:
        _ask_again(optuna, study, storage)
        while (left := num_trials - _num_taken(optuna, study)) > 0:
            if results and budgets.spent(budget, *spent(results)):
                break
            batch = 1 + max(
                (trial.user_attrs.get(_BATCH, -1) for trial in study.get_trials(deepcopy=False)), default=-1
            )
            asked = [study.ask(distributions) for _ in range(min(batch_size, left))]
            for trial in asked:
                trial.set_user_attr(_WORKER, worker)
                trial.set_user_attr(_BATCH, batch)
            drawn = _columns(parts, [trial.params for trial in asked])
            made = trials_module.assemble(parts, drawn, len(asked))
            folder = None if directory is None else Path(directory) / f"batch{batch:04d}"
            options["callbacks"] = renumbered(callbacks, np.array([trial.number for trial in asked]))
            rest = limits(budget, results)
            result = search(jax.random.fold_in(key, batch), agent, env, made, directory=folder, **rest, **options)
            results.append(dataclasses.replace(result, states=None))
            for i, trial in enumerate(asked):
                _tell(optuna, study, trial, result, i)
            if "stopped" in result.settings:
                break
    return study


def _tell(optuna: ModuleType, study: Study, trial: Asked, result: Result, i: int) -> None:
    """Tell the outcome of a trial, and before it its return at each rung that it reached."""
    state, score = optuna.trial.TrialState, float(result.score[i])
    values = interquartile_mean(result.rung_returns[:, i].mean(axis=2, dtype=np.float64))
    for end, value in zip(result.evaluated_after()[:, i].tolist(), values.tolist()):
        if end and np.isfinite(value):
            trial.report(value, end)
    if not result.num_updates[i]:  # the search stopped before
        study.tell(trial, state=state.FAIL)
    elif np.isnan(score):
        trial.set_user_attr(_DIVERGED, True)
        study.tell(trial, state=state.FAIL)
    elif result.trained[i] < result.trained.max():
        study.tell(trial, state=state.PRUNED)
    else:
        study.tell(trial, score)


def _default_sampler(optuna: ModuleType, key: jax.Array, num_trials: int) -> Sampler:
    """TPE with another seed after each number of trials: with the same one a restart would draw the same trials."""
    seed = int(jax.random.bits(jax.random.fold_in(key, num_trials)))
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _ask_again(optuna: ModuleType, study: Study, storage: str | os.PathLike[str] | None) -> None:
    """Queue the trials that dead processes had asked for, and leave those of living ones alone."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if optuna_workers.is_alive(storage, trial.user_attrs.get(_WORKER)):
            continue
        try:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        except (ValueError, RuntimeError):  # another process, which starts now too, has told it before
            continue
        study.enqueue_trial(trial.params)


def _num_taken(optuna: ModuleType, study: Study) -> int:
    """Trials that ended or are being trained; those that failed with their process were asked for again."""
    states = optuna.trial.TrialState
    taken = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.RUNNING))
    failed = study.get_trials(deepcopy=False, states=(states.FAIL,))
    return len(taken) + sum(_DIVERGED in trial.user_attrs for trial in failed)


def _named(parts: Parts) -> dict[str, Space]:
    return {**parts.searched, **parts.env_searched, **parts.static}


def _distribution(optuna: ModuleType, space: Space) -> Any:
    if isinstance(space, Range) and space.integer:
        return optuna.distributions.IntDistribution(int(space.low), int(space.high), log=space.log)
    if isinstance(space, Range):
        return optuna.distributions.FloatDistribution(space.low, space.high, log=space.log)
    return optuna.distributions.CategoricalDistribution([_label(value) for value in space.values])


def _label(value: object) -> bool | float | str:
    """A choice as Optuna can store it; a tuple becomes its text."""
    return value if isinstance(value, bool | int | float | str) else repr(value)


def _columns(parts: Parts, params: Sequence[Row]) -> dict[str, np.ndarray]:
    """The arguments of `trials.assemble`: values by name; static choices by index."""
    columns = {}
    for name in _named(parts):
        values = [each[name] for each in params]
        if name in parts.static:
            labels = [_label(value) for value in parts.static[name].values]
            values = [labels.index(value) for value in values]
        columns[name] = np.array([python_number(value) for value in values])
    return columns


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"searching with Optuna needs optuna: {install_hint('optuna')}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
