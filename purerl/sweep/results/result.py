"""What a search returns: every trial's returns and learning curves, ranked, and the trained states of the best."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl.sweep.results import storage
from purerl.sweep.results.comparison import comparable
from purerl.sweep.results.importance import Method, importance
from purerl.sweep.results.statistics import bootstrap_interval, interquartile_mean
from purerl.sweep.trials import spaces
from purerl.sweep.trials.trials import Trials
from purerl.types import Agent, Env, PyTree


class Trial(NamedTuple):
    """One trial of a search.

    Attributes:
      rank: its place, 1 is the best.
      number: its place in the order in which trials were drawn, from 0.
      hparams: its hyperparameters, Python numbers in the agent's own NamedTuple.
      choices: what else was searched: `env.` parameters and static choices, by name.
      returns: [S], the mean evaluation return of each seed.
      iqm: their interquartile mean.
      interval: (low, high), its 95% bootstrap interval.
      steps: environment steps of each of its agents.
      seed: the seed that `state` comes from.
      state: the trained agent's state, for `agent.act(None, state, obs)`; None where it was not kept.
    """

    rank: int
    number: int
    hparams: Any
    choices: dict[str, Any]
    returns: np.ndarray
    iqm: float
    interval: tuple[float, float]
    steps: int
    seed: int
    state: PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A finished search of P trials with S seeds each; all arrays but the states are NumPy's, on the host.

    Attributes:
      trials: what was tried.
      steps: [C] environment steps of each agent at the end of each chunk.
      curves: [P, S, C] mean training return of the episodes that ended in a chunk; NaN where none did, and after the
        trial was stopped.
      returns: [P, S, E] returns of the greedy evaluation episodes at the end of each trial's training; everyone plays
        the same episodes.
      rung_returns: [R, P, S, E] the same after each rung; NaN where a trial did not get so far.
      num_updates: [P] updates after which each trial ended.
      interval: [P, 2] bootstrap interval of `iqm` over the seeds, 95%; NaN with one seed. See
        `statistics.bootstrap_interval` for how little it can say with few.
      fresh_trials: [K] the trials that were trained again on fresh seeds.
      fresh_returns: [K, S', E] their returns on fresh episodes.
      kept: [A] which agents' states were kept: agent a is seed a % S of trial a // S.
      states: their states, one each; None where there are none.
      settings: the sizes of the search, its time and its speed, for the record.
    """

    trials: Trials
    steps: np.ndarray
    curves: np.ndarray
    returns: np.ndarray
    rung_returns: np.ndarray
    num_updates: np.ndarray
    interval: np.ndarray
    fresh_trials: np.ndarray
    fresh_returns: np.ndarray
    kept: np.ndarray
    states: tuple[PyTree, ...] | None
    settings: dict[str, Any]

    @property
    def hparams(self) -> Any:
        """The trials' hyperparameters: the agent's NamedTuple with leaves [P]."""
        return self.trials.hparams

    @property
    def space(self) -> dict[str, spaces.Space]:
        """The spaces that were searched, by name; empty where a table of trials was given."""
        return self.trials.space

    @property
    def num_trials(self) -> int:
        """P."""
        return self.returns.shape[0]

    @property
    def num_seeds(self) -> int:
        """S."""
        return self.returns.shape[1]

    @property
    def seed_returns(self) -> np.ndarray:
        """[P, S], each agent's mean over its evaluation episodes."""
        return self.returns.mean(axis=2, dtype=np.float64)

    @property
    def iqm(self) -> np.ndarray:
        """[P], the interquartile mean over the seeds; the mean up to three seeds."""
        return interquartile_mean(self.seed_returns)

    @property
    def order(self) -> np.ndarray:
        """[P], the trials from best to worst; see `rank`."""
        return rank(self.returns, self.curves, self.num_updates)

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of what differs between trials: hyperparameters, `env.` parameters, static choices."""
        return tuple(self.trials.columns)

    def values(self, name: str) -> np.ndarray:
        """[P] the values of one of the names in `searched`."""
        return self.trials.columns[name]

    @property
    def trial_steps(self) -> np.ndarray:
        """[P] environment steps after which each agent of a trial ended."""
        return self.num_updates * self.update_steps

    @property
    def update_steps(self) -> int:
        """Environment steps of one update of an agent, at the nominal sizes."""
        return int(self.steps[-1]) // int(self.settings["num_updates"])

    @property
    def best(self) -> Trial:
        """The trial ranked first. As the best of many its return is optimistic: play it again on another key."""
        return self.select(1)

    def select(self, rank: int, seed: int | None = None) -> Trial:
        """The trial of a rank, 1 being the best, with the state of one of its seeds.

        Args:
          rank: from 1 to the number of trials.
          seed: from 0; None takes the one of the highest return.

        Raises:
          IndexError: there is no such rank or seed.
        """
        if not 1 <= rank <= self.num_trials:
            raise IndexError(f"rank = {rank} is not between 1 and {self.num_trials}")
        number = int(self.order[rank - 1])
        returns = self.seed_returns[number]
        seed = int(np.argmax(np.nan_to_num(returns, nan=-np.inf))) if seed is None else seed
        if not 0 <= seed < self.num_seeds:
            raise IndexError(f"seed = {seed} is not between 0 and {self.num_seeds - 1}")
        low, high = self.interval[number].tolist()
        others = [name for name in self.searched if name not in self.hparams._fields]
        return Trial(
            rank=rank,
            number=number,
            hparams=self._hparams_of(number),
            choices={name: python_number(self.values(name)[number]) for name in others},
            returns=returns,
            iqm=float(self.iqm[number]),
            interval=(low, high),
            steps=int(self.trial_steps[number]),
            seed=seed,
            state=self._state_of(number, seed),
        )

    def rows(self) -> list[dict[str, Any]]:
        """The table of trials from best to worst, one dict a trial, ready for pandas or polars.

        The columns: `rank` from 1, `trial` in the order drawn from 0, what was searched, `return` (interquartile mean),
        `return_low`, `return_high` (its interval), `steps` of each of its agents; where trials were trained again on
        fresh seeds `fresh_return`, `fresh_low`, `fresh_high`, NaN for others; and `return_seed_0`, ... of all seeds.
        """
        iqm, seed_returns, fresh, steps = self.iqm, self.seed_returns, self._fresh_columns(), self.trial_steps
        return [
            {"rank": place, "trial": int(i)}
            | {name: python_number(self.values(name)[i]) for name in self.searched}
            | dict(zip(("return", "return_low", "return_high"), (float(iqm[i]), *self.interval[i].tolist())))
            | {"steps": int(steps[i])}
            | {name: float(column[i]) for name, column in fresh.items()}
            | {f"return_seed_{seed}": value for seed, value in enumerate(seed_returns[i].tolist())}
            for place, i in enumerate(self.order, start=1)
        ]

    def curve_rows(self) -> list[dict[str, Any]]:
        """The learning curves as a tidy table: `trial`, `seed`, `steps`, `return`; a row a chunk that had episodes."""
        trial, seed, chunk = np.nonzero(~np.isnan(self.curves))
        columns = (trial, seed, self.steps[chunk], self.curves[trial, seed, chunk].astype(np.float64))
        names = ("trial", "seed", "steps", "return")
        return [dict(zip(names, row)) for row in zip(*(column.tolist() for column in columns))]

    def _fresh_columns(self) -> dict[str, np.ndarray]:
        """`fresh_return` and its interval, [P], by name; nothing where no trial was trained again."""
        if not len(self.fresh_trials):
            return {}
        table = np.full((3, self.num_trials), np.nan)
        returns = self.fresh_returns.mean(axis=2, dtype=np.float64)
        interval = bootstrap_interval(jax.random.key(0), returns)
        table[:, self.fresh_trials] = np.stack([interquartile_mean(returns), *interval.T])
        return dict(zip(("fresh_return", "fresh_low", "fresh_high"), table))

    def importance(self, method: Method = "auto") -> dict[str, float]:
        """Share of the variance of the returns that each searched name accounts for, the largest first.

        Over the trials that `comparison.comparable` finds; see `importance.importance` for the methods and errors.
        """
        compared = comparable(self)
        columns = {name: self.values(name)[compared.trials] for name in self.searched}
        return importance(columns, self.space, compared.iqm, method)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write `rows()`: a header, and a line a trial from best to worst; NaN is an empty field."""
        return storage.write_csv(self.rows(), path)

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write settings, spaces, `rows()`, and each trial's full hyperparameters and learning curves.

        Strict JSON: NaN is null, an infinity the string "inf" or "-inf".
        """
        trials = [
            row | {"hparams": self._hparams_of(row["trial"])._asdict(), "curves": self.curves[row["trial"]]}
            for row in self.rows()
        ]
        return storage.write_json(self._about() | {"trials": trials}, path)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write everything, so that `load` reads it again bit for bit; every file is under a SHA-256.

        The directory, which may hold other files, gets `trials.csv` (`rows()`), `curves.csv` (`curve_rows()`),
        `sweep.json`, and the checkpoints `arrays` and, where states were kept, `states`. What was there under these
        names is replaced.

        Returns:
          The directory.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        names = ("curves", "returns", "rung_returns", "fresh_returns")
        arrays = {name: getattr(self, name) for name in names}
        groups = {"group": self.trials.group, "groups": self.trials.groups, "columns": self.trials.columns}
        about = self._about() | groups | {name: getattr(self, name) for name in _LISTED}
        storage.write_arrays(directory, arrays, self.hparams, about)
        owners = self.trials.group[self.kept // self.num_seeds]
        storage.write_states(directory, self.states, owners)
        self.to_csv(directory / "trials.csv")
        storage.write_csv(self.curve_rows(), directory / "curves.csv")
        self.to_json(directory / "sweep.json")
        return directory

    def _about(self) -> dict[str, Any]:
        return {"settings": self.settings, "space": spaces.to_json(self.space), "steps": self.steps}

    def _hparams_of(self, trial: int) -> Any:
        return jax.tree.map(lambda leaf: python_number(leaf[trial]), self.hparams)

    def _state_of(self, trial: int, seed: int) -> PyTree:
        (found,) = np.nonzero(self.kept == trial * self.num_seeds + seed)
        if self.states is None or not found.size:
            return None
        return self.states[found[0]]


def load(
    directory: str | os.PathLike[str],
    agent: Agent | Callable[..., Agent] | None = None,
    env: Env | None = None,
    hparams: Any = None,
) -> Result:
    """Read what `Result.save` wrote, after checking every file.

    Args:
      directory: the directory given to `save`.
      agent, env, hparams: what the search was made with. Without them there are no states, and the trials are in a
        NamedTuple of the same name and fields but of another class.

    Raises:
      CheckpointError: a file is damaged or missing, or the states are those of another agent.
      TypeError: some of `agent`, `env` and `hparams` are given but not all, or `hparams` has other fields.
    """
    directory = Path(directory)
    if 0 < sum(given is not None for given in (agent, env, hparams)) < 3:
        raise TypeError("pass all of agent, env and hparams, which make the states playable, or none of them")
    arrays, table, about = storage.read_arrays(directory, hparams)
    listed: dict[str, Any] = {name: np.array(about[name], dtype) for name, dtype in _LISTED.items()}
    trials = _read_trials(table, about)
    settings = storage.with_tuples(about["settings"])
    states = None
    if agent is not None and env is not None and hparams is not None:
        owners = trials.group[listed["kept"] // arrays["returns"].shape[1]]
        states = storage.read_states(directory, agent, env, hparams, settings["num_envs"], owners, trials.groups)
    steps = np.array(about["steps"])
    return Result(trials=trials, steps=steps, states=states, settings=settings, **arrays, **listed)


_LISTED: dict[str, type] = {"interval": np.float64, "kept": int, "num_updates": int, "fresh_trials": int}


def _read_trials(hparams: Any, about: dict[str, Any]) -> Trials:
    columns = {}
    for name, values in about["columns"].items():
        column = np.empty(len(values), object)
        column[:] = [storage.with_tuples(value) for value in values]
        plain = getattr(hparams, name) if name in hparams._fields else column
        columns[name] = np.array(column.tolist()) if plain is column and _numeric(values) else plain
    groups = tuple(storage.with_tuples(group) for group in about["groups"])
    return Trials(hparams, None, np.array(about["group"], int), groups, columns, spaces.from_json(about["space"]))


def _numeric(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def python_number(value: Any) -> Any:
    """A NumPy scalar as a Python number, a float32 in its fewest digits (0.1, not 0.10000000149); all else stays."""
    if not hasattr(value, "dtype") or np.ndim(value):
        return value
    return float(str(value)) if np.issubdtype(value.dtype, np.floating) else value.item()


def rank(returns: np.ndarray, curves: np.ndarray, num_updates: np.ndarray | None = None) -> np.ndarray:
    """Trials from best to worst: by the interquartile mean of their seeds' returns, among those trained equally far.

    Equal ones (many trials solve an easy task) by the mean of their learning curves, so that who learned faster comes
    first; then in the order drawn. Trials that were stopped earlier come after those that were trained further, and a
    trial with NaN comes last of its kind.

    Args:
      returns: [P, S, E] evaluation returns.
      curves: [P, S, C] learning curves, NaN where there is no value.
      num_updates: [P] how far each was trained; None: all alike.

    Returns:
      [P] indices.
    """
    score = interquartile_mean(returns.mean(axis=2, dtype=np.float64))
    known = ~np.isnan(curves)
    speed = np.sum(curves, axis=(1, 2), where=known, dtype=np.float64) / np.maximum(known.sum(axis=(1, 2)), 1)
    far = np.zeros(len(returns)) if num_updates is None else num_updates
    return np.lexsort((-speed, np.where(np.isnan(score), np.inf, -score), -far))
