"""Optuna proposes, purerl trains: batches of trials are asked for, trained side by side as one search, and told back.

Needs the extra `purerl[optuna]`. Every trial is in Optuna's own storage, so its dashboard and its other tools see it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from purerl.hparams import python_number
from purerl.runtime import install_hint
from purerl.sweep.results.result import Result
from purerl.sweep.search import search
from purerl.sweep.trials import trials as trials_module
from purerl.sweep.trials.spaces import Choice, Range, SearchSpace, Space
from purerl.sweep.trials.trials import Parts
from purerl.types import Agent, Env, PyTree

_NUMBER, _DIVERGED = "purerl_batch", "diverged"


def optuna_search(
    key: jax.Array,
    agent: Agent | Callable[..., Agent],
    env: Env,
    hparams: Any,
    space: SearchSpace,
    *,
    num_trials: int,
    batch_size: int,
    storage: str | os.PathLike[str] | None = None,
    study_name: str = "purerl",
    sampler: Any = None,
    static: Mapping[str, Choice] | None = None,
    env_params: PyTree = None,
    **options: Any,
) -> Any:
    """Search with an Optuna sampler, `batch_size` trials at a time.

    Batch b is one `search` with the key `fold_in(key, b)`. A trial's value is the interquartile mean of its seeds;
    where a schedule stopped it, it is told as pruned, with its value after each rung at its number of updates. A trial
    that came out NaN is told as failed.

    With a storage a study goes on where it stopped: trials that were asked for and never told, because the process
    died, are told as failed and their parameters asked for again.

    Args:
      key, agent, env, hparams, space, static, env_params: as in `search`.
      num_trials: number of trials in all, those of earlier processes included.
      batch_size: trials that are asked for together; the sampler learns from one batch to the next.
      storage: path of a journal file that keeps the study; None keeps it in memory.
      study_name: its name there.
      sampler: any of Optuna's; None takes TPE, told not to crowd a batch, with a seed from the key.
      **options: further arguments of `search`: `num_updates`, `num_envs`, `rollout_length`, `schedule`, ...

    Returns:
      The `optuna.Study`, of direction "maximize".

    Raises:
      ModuleNotFoundError: Optuna is not installed; the message says how.
      TypeError, ValueError: as `search`.
    """
    optuna = _import_optuna()
    parts = trials_module.split(hparams, space, static=static, env_params=env_params)
    if sampler is None:
        seed = int(np.asarray(jax.random.key_data(key)).reshape(-1)[-1])
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    backend = None
    if storage is not None:
        backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(os.fspath(storage)))
    study = optuna.create_study(
        storage=backend, study_name=study_name, sampler=sampler, direction="maximize", load_if_exists=True
    )
    _ask_again(optuna, study)
    distributions = {name: _distribution(optuna, each) for name, each in _named(parts).items()}
    while (left := num_trials - _num_told(optuna, study)) > 0:
        batch = study.user_attrs.get(_NUMBER, 0)
        asked = [study.ask(distributions) for _ in range(min(batch_size, left))]
        drawn = _columns(parts, [trial.params for trial in asked])
        made = trials_module.assemble(parts, drawn, len(asked))
        result = search(jax.random.fold_in(key, batch), agent, env, made, **options)
        for i, trial in enumerate(asked):
            _tell(optuna, study, trial, result, i)
        study.set_user_attr(_NUMBER, batch + 1)
    return study


def _tell(optuna: Any, study: Any, trial: Any, result: Result, i: int) -> None:
    """Tell how a trial ended, after its value at each rung it reached."""
    state = optuna.trial.TrialState
    means = result.rung_returns[:, i].mean(axis=(1, 2), dtype=np.float64)
    ends = sorted({rung.num_updates for bracket in result.settings["brackets"] for rung in bracket})
    for end, value in zip(ends, means):
        if np.isfinite(value):
            trial.report(float(value), end)
    if not np.isfinite(result.iqm[i]):
        trial.set_user_attr(_DIVERGED, True)
        study.tell(trial, state=state.FAIL)
    elif result.num_updates[i] < result.num_updates.max():
        study.tell(trial, state=state.PRUNED)
    else:
        study.tell(trial, float(result.iqm[i]))


def _ask_again(optuna: Any, study: Any) -> None:
    """Queue what a process that died had asked for."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _num_told(optuna: Any, study: Any) -> int:
    """Trials that ended; one that failed because its process died was asked for again and does not count."""
    states = optuna.trial.TrialState
    told = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
    failed = study.get_trials(deepcopy=False, states=(states.FAIL,))
    return len(told) + sum(_DIVERGED in trial.user_attrs for trial in failed)


def _named(parts: Parts) -> dict[str, Space]:
    return {**parts.searched, **parts.env_searched, **parts.static}


def _distribution(optuna: Any, space: Space) -> Any:
    if isinstance(space, Range) and space.integer:
        return optuna.distributions.IntDistribution(int(space.low), int(space.high), log=space.log)
    if isinstance(space, Range):
        return optuna.distributions.FloatDistribution(space.low, space.high, log=space.log)
    return optuna.distributions.CategoricalDistribution([_label(value) for value in space.values])


def _label(value: Any) -> Any:
    """A choice as Optuna can store it: tuples by their text."""
    return value if isinstance(value, bool | int | float | str) else repr(value)


def _columns(parts: Parts, params: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """What `trials.assemble` takes: values by name, of static choices their indices."""
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
