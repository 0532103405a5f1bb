"""Results of a search: every trial's returns and learning curves, ranked, and the trained states of the best."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.hparams import python_number
from purerl.sweep.results import comparison, storage
from purerl.sweep.results.comparison import Comparison
from purerl.sweep.results.importance import Method, importance
from purerl.sweep.results.ranking import rank
from purerl.sweep.results.statistics import bootstrap_interval, interquartile_mean
from purerl.sweep.results.trial import Trial
from purerl.sweep.trials import spaces
from purerl.sweep.trials.members import MemberIndex
from purerl.sweep.trials.trials import Trials
from purerl.types import Hparams, PyTree

# Arrays that are stored as JSON lists beside the checkpoint of the larger ones, and their types.
LISTED: dict[str, type] = {"interval": np.float64, "kept": int, "num_updates": int, "fresh_trials": int}


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A finished search of P trials with S seeds each. Arrays are NumPy's, on the host, except those in `states`.

    Attributes:
      trials: the trials.
      steps: [C] environment steps of each member at the end of each chunk.
      curves: [P, S, C] mean training return of the episodes that ended in a chunk; NaN if none did, and after the
        trial was stopped.
      returns: [P, S, E] returns of the greedy evaluation episodes at the end of each trial's training; all members
        play the same episodes. NaN if anything in the learner was NaN.
      rung_returns: [R, P, S, E] the same after each rung; NaN if a trial did not reach it.
      num_updates: [P] updates after which each trial ended.
      interval: [P, 2] 95% bootstrap interval of `iqm` over the seeds; NaN with one seed. See
        `statistics.bootstrap_interval` for how little it can say with few seeds.
      fresh_trials: [K] the trials that were trained again on fresh seeds.
      fresh_returns: [K, S', E] their returns on fresh episodes.
      kept: [A] members whose states were kept, as numbered by `member_index`.
      states: their states, one each; None if there are none.
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
    def member_index(self) -> MemberIndex:
        """The numbers of the members, each a trial with one of its seeds."""
        return MemberIndex(self.num_seeds)

    @property
    def hparams(self) -> Hparams:
        """The trials' hyperparameters: the agent's NamedTuple with leaves [P]."""
        return self.trials.hparams

    @property
    def space(self) -> dict[str, spaces.Space]:
        """The spaces that were searched, by name; empty if a table of trials was given."""
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
        """[P, S], each member's mean over its evaluation episodes."""
        return self.returns.mean(axis=2, dtype=np.float64)

    @property
    def iqm(self) -> np.ndarray:
        """[P], the interquartile mean over the seeds; the mean up to three seeds."""
        return interquartile_mean(self.seed_returns)

    @property
    def diverged(self) -> np.ndarray:
        """[P, S] bool: the member's return, or anything in its learner, was not finite when it was last evaluated."""
        return ~np.isfinite(self.seed_returns) & (self.num_updates > 0)[:, None]

    @property
    def order(self) -> np.ndarray:
        """[P], the trials from best to worst; see `ranking.rank`."""
        return rank(self.returns, self.curves, self.num_updates)

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of everything that differs between trials: hyperparameters, `env.` parameters, static choices."""
        return tuple(self.trials.columns)

    def values(self, name: str) -> np.ndarray:
        """[P] the values of one of the names in `searched`."""
        return self.trials.columns[name]

    @property
    def trial_steps(self) -> np.ndarray:
        """[P] environment steps after which each member of a trial ended."""
        return self.num_updates * self.update_steps

    @property
    def update_steps(self) -> int:
        """Environment steps of one update of a member, at the nominal sizes."""
        return int(self.steps[-1]) // int(self.settings["num_updates"])

    @property
    def best(self) -> Trial:
        """The trial ranked first. As the best of many its return is optimistic: evaluate it again with another key."""
        return self.select(1)

    def select(self, rank: int, seed: int | None = None) -> Trial:
        """The trial of a rank, 1 being the best, with the state of one of its seeds.

        Args:
          rank: from 1 to the number of trials.
          seed: from 0; None takes the one with the highest return.

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
        settings = {name: python_number(self.values(name)[number]) for name in self.searched}
        return Trial(
            rank=rank,
            number=number,
            hparams=self._hparams_of(number),
            choices={name: value for name, value in settings.items() if name not in self.hparams._fields},
            returns=returns,
            iqm=float(self.iqm[number]),
            interval=(low, high),
            steps=int(self.trial_steps[number]),
            seed=seed,
            state=self._state_of(number, seed),
            settings=settings,
        )

    def rows(self) -> list[dict[str, Any]]:
        """The table of trials from best to worst, one dict per trial, ready for pandas or polars.

        The columns: `rank` from 1; `trial` in the order drawn from 0; what was searched; `return` (interquartile mean);
        `return_low`, `return_high` (its interval); `steps` of each of its members; if any member diverged,
        `diverged`, the number of the trial's seeds that did; if trials were trained again on fresh seeds,
        `fresh_return`, `fresh_low`, `fresh_high`, NaN for the others; and `return_seed_0`, ... for all seeds.
        """
        iqm, seed_returns, fresh, steps = self.iqm, self.seed_returns, self._fresh_columns(), self.trial_steps
        diverged = {"diverged": self.diverged.sum(axis=1)} if self.diverged.any() else {}
        return [
            {"rank": place, "trial": int(i)}
            | {name: python_number(self.values(name)[i]) for name in self.searched}
            | dict(zip(("return", "return_low", "return_high"), (float(iqm[i]), *self.interval[i].tolist())))
            | {"steps": int(steps[i])}
            | {name: int(column[i]) for name, column in diverged.items()}
            | {name: float(column[i]) for name, column in fresh.items()}
            | {f"return_seed_{seed}": value for seed, value in enumerate(seed_returns[i].tolist())}
            for place, i in enumerate(self.order, start=1)
        ]

    def curve_rows(self) -> list[dict[str, Any]]:
        """The learning curves as a tidy table: `trial`, `seed`, `steps`, `return`; a row per chunk with episodes."""
        trial, seed, chunk = np.nonzero(~np.isnan(self.curves))
        columns = (trial, seed, self.steps[chunk], self.curves[trial, seed, chunk].astype(np.float64))
        names = ("trial", "seed", "steps", "return")
        return [dict(zip(names, row)) for row in zip(*(column.tolist() for column in columns))]

    def _fresh_columns(self) -> dict[str, np.ndarray]:
        """`fresh_return` and its interval, [P], by name; empty if no trial was trained again."""
        if not len(self.fresh_trials):
            return {}
        table = np.full((3, self.num_trials), np.nan)
        returns = self.fresh_returns.mean(axis=2, dtype=np.float64)
        interval = bootstrap_interval(jax.random.key(0), returns)
        table[:, self.fresh_trials] = np.stack([interquartile_mean(returns), *interval.T])
        return dict(zip(("fresh_return", "fresh_low", "fresh_high"), table))

    def evaluated_after(self) -> np.ndarray:
        """[R, P] updates after which each trial was evaluated in each rung; 0 if it did not reach the rung."""
        return comparison.evaluated_after(self.settings["brackets"], self.num_updates, len(self.rung_returns))

    def comparable(self) -> Comparison:
        """The trials that can be compared fairly; see `comparison.comparable`."""
        return comparison.comparable(self.evaluated_after(), self.rung_returns, self.update_steps)

    def seed_agreement(self) -> float:
        """Mean of Spearman's ρ over all pairs of seeds, for the trials trained furthest; NaN with one seed."""
        return comparison.seed_agreement(self.seed_returns[self.num_updates == self.num_updates.max()])

    def importance(self, method: Method = "auto") -> dict[str, float]:
        """Share of the variance of the returns that each searched name accounts for, the largest first.

        Over the trials of `comparable()`; see `importance.importance` for the methods and errors.
        """
        compared = self.comparable()
        columns = {name: self.values(name)[compared.trials] for name in self.searched}
        return importance(columns, self.space, compared.iqm, method)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write `rows()`: a header, and one line per trial from best to worst; NaN is an empty field."""
        return storage.write_csv(self.rows(), path)

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write settings, spaces, `rows()`, and each trial's full hyperparameters and learning curves.

        The file is strict JSON: NaN is null, an infinity the string "inf" or "-inf".
        """
        trials = [
            row | {"hparams": self._hparams_of(row["trial"])._asdict(), "curves": self.curves[row["trial"]]}
            for row in self.rows()
        ]
        return storage.write_json(self._about() | {"trials": trials}, path)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write everything, so that `load` reads it back bit for bit, with SHA-256 sums of the checkpoints.

        The directory, which may hold other files, receives `trials.csv` (`rows()`), `curves.csv` (`curve_rows()`),
        `sweep.json`, and the checkpoints `arrays` and, if states were kept, `states`. Files of these names are
        replaced.

        Returns:
          The directory.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        names = ("curves", "returns", "rung_returns", "fresh_returns")
        arrays = {name: getattr(self, name) for name in names}
        groups = {"group": self.trials.group, "groups": self.trials.groups, "columns": self.trials.columns}
        about = self._about() | groups | {name: getattr(self, name) for name in LISTED}
        storage.write_arrays(directory, arrays, self.hparams, about)
        owners = self.trials.group[self.member_index.decode(self.kept)[0]]
        storage.write_states(directory, self.states, owners)
        self.to_csv(directory / "trials.csv")
        storage.write_csv(self.curve_rows(), directory / "curves.csv")
        self.to_json(directory / "sweep.json")
        return directory

    def _about(self) -> dict[str, Any]:
        return {"settings": self.settings, "space": spaces.to_json(self.space), "steps": self.steps}

    def _hparams_of(self, trial: int) -> Hparams:
        return jax.tree.map(lambda leaf: python_number(leaf[trial]), self.hparams)

    def _state_of(self, trial: int, seed: int) -> PyTree:
        (found,) = np.nonzero(self.kept == self.member_index.encode(trial, seed))
        if self.states is None or not found.size:
            return None
        return self.states[found[0]]
