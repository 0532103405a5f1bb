"""What a search returns: every trial's returns and learning curves, ranked, and the trained states of the best."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl.sweep import spaces, storage
from purerl.sweep.statistics import interquartile_mean
from purerl.types import Agent, Env, PyTree


class Trial(NamedTuple):
    """One trial of a search.

    Attributes:
      rank: its place, 1 is the best.
      number: its place in the order in which trials were drawn, from 0.
      hparams: its hyperparameters, Python numbers in the agent's own NamedTuple.
      returns: [S], the mean evaluation return of each seed.
      iqm: their interquartile mean.
      interval: (low, high), its 95% bootstrap interval.
      seed: the seed that `state` comes from.
      state: the trained agent's state, for `agent.act(None, state, obs)`; None where it was not kept.
    """

    rank: int
    number: int
    hparams: Any
    returns: np.ndarray
    iqm: float
    interval: tuple[float, float]
    seed: int
    state: PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A finished search of P trials with S seeds each; all arrays but the states are NumPy's, on the host.

    Attributes:
      hparams: the trials: the agent's NamedTuple with leaves [P].
      space: the spaces that were searched; empty where a table of trials was given.
      steps: [C] environment steps of each agent at the end of each chunk.
      curves: [P, S, C] mean training return of the episodes that ended in a chunk; NaN where none did.
      returns: [P, S, E] returns of the greedy evaluation episodes, the same episodes for everyone.
      interval: [P, 2] bootstrap interval of `iqm` over the seeds, 95%; NaN with one seed. See
        `statistics.bootstrap_interval` for how little it can say with few.
      kept: [K] which agents' states were kept: agent a is seed a % S of trial a // S.
      states: their states, with leaves [K, ...]; None where there are none.
      settings: the sizes of the search, its time and its speed, for the record.
    """

    hparams: Any
    space: dict[str, spaces.Space]
    steps: np.ndarray
    curves: np.ndarray
    returns: np.ndarray
    interval: np.ndarray
    kept: np.ndarray
    states: PyTree
    settings: dict[str, Any]

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
        return rank(self.returns, self.curves)

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the hyperparameters that differ between trials."""
        names = self.space or self.hparams._fields
        return tuple(name for name in names if self.space or np.ptp(getattr(self.hparams, name)) > 0)

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
        hparams, state = self._hparams_of(number), self._state_of(number, seed)
        return Trial(rank, number, hparams, returns, float(self.iqm[number]), (low, high), seed, state)

    def rows(self) -> list[dict[str, Any]]:
        """The table of trials from best to worst, one dict a trial, ready for pandas or polars.

        The columns: `rank` from 1, `trial` in the order drawn from 0, the hyperparameters that were searched, `return`
        (interquartile mean), `return_low`, `return_high` (its interval), and `return_seed_0`, ... of each seed.
        """
        iqm, seed_returns = self.iqm, self.seed_returns
        return [
            {"rank": place, "trial": int(i)}
            | {name: python_number(getattr(self.hparams, name)[i]) for name in self.searched}
            | dict(zip(("return", "return_low", "return_high"), (float(iqm[i]), *self.interval[i].tolist())))
            | {f"return_seed_{seed}": value for seed, value in enumerate(seed_returns[i].tolist())}
            for place, i in enumerate(self.order, start=1)
        ]

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

        The directory, which may hold other files, gets `trials.csv` and `sweep.json`, and the checkpoints `arrays` and,
        where states were kept, `states`. What was there under these names is replaced.

        Returns:
          The directory.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {"curves": self.curves, "returns": self.returns}
        about = self._about() | {"interval": self.interval, "kept": self.kept}
        storage.write_arrays(directory, arrays, self.hparams, self.states, about)
        self.to_csv(directory / "trials.csv")
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
        return jax.tree.map(lambda leaf: leaf[found[0]], self.states)


def load(
    directory: str | os.PathLike[str], agent: Agent | None = None, env: Env | None = None, hparams: Any = None
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
    arrays, table, about = storage.read_arrays(directory, hparams)
    kept = np.array(about["kept"], int)
    states = None
    if agent is not None and env is not None and hparams is not None:
        states = storage.read_states(directory, agent, env, hparams, about["settings"]["num_envs"], len(kept))
    elif agent is not None or env is not None or hparams is not None:
        raise TypeError("pass all of agent, env and hparams, which make the states playable, or none of them")
    return Result(
        hparams=table,
        space=spaces.from_json(about["space"]),
        steps=np.array(about["steps"]),
        curves=arrays["curves"],
        returns=arrays["returns"],
        interval=np.array(about["interval"], np.float64),
        kept=kept,
        states=states,
        settings=about["settings"],
    )


def python_number(value: Any) -> Any:
    """A NumPy scalar as a Python number, a float32 in its fewest digits (0.1, not 0.10000000149); arrays stay."""
    if np.ndim(value):
        return value
    return float(str(value)) if np.issubdtype(value.dtype, np.floating) else value.item()


def rank(returns: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Trials from best to worst: by the interquartile mean of their seeds' returns.

    Equal ones (many trials solve an easy task) by the mean of their learning curves, so that who learned faster comes
    first; then in the order drawn. A trial with NaN comes last.

    Args:
      returns: [P, S, E] evaluation returns.
      curves: [P, S, C] learning curves, NaN where there is no value.

    Returns:
      [P] indices.
    """
    score = interquartile_mean(returns.mean(axis=2, dtype=np.float64))
    known = ~np.isnan(curves)
    speed = np.sum(curves, axis=(1, 2), where=known, dtype=np.float64) / np.maximum(known.sum(axis=(1, 2)), 1)
    return np.lexsort((-speed, np.where(np.isnan(score), np.inf, -score)))
