"""Read a saved search back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from purerl.sweep.results import storage, sums
from purerl.sweep.results.encoded import decode
from purerl.sweep.results.result import LISTED, Result
from purerl.sweep.trials import spaces
from purerl.sweep.trials.algorithms import AgentSource
from purerl.sweep.trials.members import MemberIndex
from purerl.sweep.trials.trials import Trials
from purerl.types import Env, Hparams


def load(
    directory: str | os.PathLike[str],
    agent: AgentSource | None = None,
    env: Env | None = None,
    hparams: Hparams = None,
) -> Result:
    """Read what `Result.save` wrote, after checking every file. A table that has changed is a warning.

    Args:
      directory: the directory given to `save`.
      agent, env, hparams: the arguments of the search. Without them there are no states, and the trials are in a
        NamedTuple of the same name and fields but of another class.

    Raises:
      CheckpointError: a file of the checkpoints is damaged, missing or of another search, or the states belong to
        another agent.
      TypeError: some of `agent`, `env` and `hparams` are given and others not, or `hparams` has other fields.
    """
    directory = Path(directory)
    if 0 < sum(given is not None for given in (agent, env, hparams)) < 3:
        raise TypeError("pass all of agent, env and hparams, which make the states playable, or none of them")
    arrays, table, about = storage.read_arrays(directory, hparams)
    sums.check(directory, about.get("listed", ()), ("arrays",) if agent is None else ("arrays", "states"))
    listed: dict[str, Any] = {name: np.array(storage.with_tuples(about[name]), dtype) for name, dtype in LISTED.items()}
    listed |= {name: decode(data) for name, data in about.get("exact", {}).items()}
    trials = read_trials(table, about)
    settings = storage.with_tuples(about["settings"])
    states = None
    if agent is not None and env is not None and hparams is not None:
        owners = trials.group[MemberIndex(arrays["returns"].shape[1]).decode(listed["kept"])[0]]
        states = storage.read_states(directory, agent, env, hparams, settings["num_envs"], owners, trials.groups)
    steps = np.array(about["steps"])
    return Result(trials=trials, steps=steps, states=states, settings=settings, **arrays, **listed)


def read_trials(hparams: Hparams, about: dict[str, storage.Json]) -> Trials:
    """The trials from the table of their hyperparameters, and the description that was stored beside it."""
    columns = {}
    for name, values in about["columns"].items():
        column = np.empty(len(values), object)
        column[:] = storage.with_tuples(values)
        numeric = all(isinstance(value, int | float) for value in column)
        columns[name] = np.array(column.tolist()) if numeric else column
        if name in hparams._fields:
            columns[name] = getattr(hparams, name)
    groups = storage.with_tuples(about["groups"])
    space = spaces.from_json(storage.with_tuples(about["space"]))
    return Trials(hparams, None, np.array(about["group"], int), groups, columns, space)
