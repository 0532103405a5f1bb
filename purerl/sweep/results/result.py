"""Results of a search: every trial's returns and learning curves, ranked, and the trained states of the best."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.hparams import python_number
from purerl.sweep.results import comparison, objectives, ranking, skips, storage, sums, tabulated
from purerl.sweep.results.comparison import Comparison
from purerl.sweep.results.encoded import encode
from purerl.sweep.results.importance import Method, importance, noise_level
from purerl.sweep.results.objectives import Evidence, Objective
from purerl.sweep.results.rules import DEFAULT_TIES
from purerl.sweep.results.skips import Skips
from purerl.sweep.results.statistics import interquartile_mean
from purerl.sweep.results.trial import Trial
from purerl.sweep.trials import spaces
from purerl.sweep.trials.members import MemberIndex
from purerl.sweep.trials.trials import Trials
from purerl.text import plural
from purerl.types import Hparams, PyTree

# Arrays that are stored as JSON lists beside the checkpoint of the larger ones, and their types.
LISTED: dict[str, type] = {"interval": np.float64, "kept": int, "num_updates": int, "fresh_trials": int}

_TABLES = ("curves.csv", "sweep.json", "trials.csv")
_OF_CURVES = ("trial", "seed", "steps", "return")

# Optional arrays of 64 bits, stored bit for bit beside it.
EXACT = (
    "scores", "fresh_scores", "seconds", "fresh_counts", "pareto", "skipped", "skipped_after", "fresh_skipped",
    "fresh_skipped_after",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A finished search of P trials with S seeds each. Arrays are NumPy's, on the host, except those in `states`.

    Attributes:
      trials: the trials.
      steps: [C] environment steps of each member at the end of each chunk.
      curves: [P, S, C] mean training return of the episodes that ended in a chunk, or what `search(curve=)` named; NaN
        if none did, and after the trial was stopped.
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
      scores: [P, S] the objective of each agent, larger if better; None: the greedy return.
      fresh_scores: [K, S'] the same of the fresh seeds.
      seconds: [P, S] seconds of training, each agent's share of its block; None: not measured.
      pareto: [P, K] the objective and the further ones of `search(pareto=)`, as measured; None: one objective only.
      fresh_counts: [K] how many of the fresh seeds each was trained with, the first ones; None: with all.
      skipped: [P, S] updates of each agent that were skipped, at least in part, because their gradient was NaN or
        infinite; None: not counted.
      skipped_after: [P, S] environment steps of the agent before the first of them; NaN: none was skipped.
      fresh_skipped, fresh_skipped_after: [K, S'] the same of the fresh seeds.
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
    scores: np.ndarray | None = None
    fresh_scores: np.ndarray | None = None
    seconds: np.ndarray | None = None
    fresh_counts: np.ndarray | None = None
    pareto: np.ndarray | None = None
    skipped: np.ndarray | None = None
    skipped_after: np.ndarray | None = None
    fresh_skipped: np.ndarray | None = None
    fresh_skipped_after: np.ndarray | None = None

    def __repr__(self) -> str:
        """The sizes and the best trial, without the arrays."""
        best, total = int(self.order[0]), int(self.trial_steps.max())
        sizes = f"{plural(self.num_trials, 'trial')} x {plural(self.num_seeds, 'seed')}, {total:,} steps each"
        score = float(self.score[best] if self.objective.maximize else -self.score[best])
        found = {name: python_number(self.values(name)[best]) for name in self.searched}
        settings = ", ".join(f"{name}={value!r}" for name, value in found.items())
        return f"Result({sizes}; best: trial {best} with {self.objective.name} {score:.4g}, {settings})"

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
    def skips(self) -> Skips:
        """[P, S], the skipped updates of each agent; none if they were not counted."""
        return skips.counted(self.skipped, self.skipped_after, self.returns.shape[:2])

    @property
    def fresh_skips(self) -> Skips:
        """[K, S'], the skipped updates on fresh seeds; none if they were not counted."""
        return skips.counted(self.fresh_skipped, self.fresh_skipped_after, self.fresh_returns.shape[:2])

    @property
    def objective(self) -> Objective:
        """What was optimised. A function of the user's own is not stored, so its `measure` is that of the return."""
        return objectives.final_return()._replace(**self.settings.get("objective", {}))

    @property
    def evidence(self) -> Evidence:
        """The measurements that objectives are computed from: `sweep.objectives.score(objective, result.evidence)`."""
        seconds = np.full(self.returns.shape[:2], np.nan) if self.seconds is None else self.seconds
        made = np.broadcast_to(self.trial_steps[:, None], self.returns.shape[:2])
        return Evidence(self.returns, self.curves, self.steps, seconds, made)

    @property
    def score(self) -> np.ndarray:
        """[P], the objective of each trial, larger if better; NaN if one of its agents diverged."""
        scores = self.seed_returns if self.scores is None else self.scores
        return objectives.over_seeds(self.objective, np.where(np.isfinite(self.seed_returns), scores, np.nan))

    @property
    def confirmed(self) -> np.ndarray:
        """[P], the objective on fresh seeds; NaN for trials that were not trained again, or diverged then."""
        found = np.full(self.num_trials, np.nan)
        returns = self.fresh_returns.mean(axis=2, dtype=np.float64)
        scores = np.where(np.isfinite(returns), returns if self.fresh_scores is None else self.fresh_scores, np.nan)
        for trial, each, count in zip(self.fresh_trials.tolist(), scores, self.num_fresh.tolist()):
            found[trial] = objectives.over_seeds(self.objective, each[:count])
        return found

    @property
    def healthy_score(self) -> np.ndarray:
        """[P], `score`; NaN also for a trial that diverged when it was trained again on fresh seeds."""
        confirmed, score = self.confirmed, self.score
        lost = self.fresh_trials[np.isnan(confirmed[self.fresh_trials])]
        score[lost] = np.nan
        return score

    @property
    def num_fresh(self) -> np.ndarray:
        """[K], with how many fresh seeds each of `fresh_trials` was trained again."""
        whole = np.full(len(self.fresh_trials), self.fresh_returns.shape[1])
        return whole if self.fresh_counts is None else self.fresh_counts

    @property
    def criteria(self) -> dict[str, np.ndarray]:
        """The criteria that break ties, in order, each [P] and larger if better; see `ranking.criteria`."""
        names = tuple(self.settings.get("ties", DEFAULT_TIES))
        return dict(zip(names, ranking.criteria(self.evidence, names, self.settings.get("threshold"))))

    @property
    def num_tied(self) -> np.ndarray:
        """[P], how many trials share each trial's score, itself included: their order says nothing about the score."""
        return ranking.num_tied(self.score, self.num_updates)

    @property
    def search_order(self) -> np.ndarray:
        """[P], the trials from best to worst before the best ones were trained again; see `ranking.rank`."""
        return ranking.rank(self.score, tuple(self.criteria.values()), self.trained)

    @property
    def order(self) -> np.ndarray:
        """[P], the trials from best to worst; those that were trained again on fresh seeds by their return there."""
        score = self.healthy_score
        return ranking.rank(score, tuple(self.criteria.values()), self._far(score), self.confirmed)

    @property
    def trained(self) -> np.ndarray:
        """[P] updates that each trial counts with: one that was good enough to stop the search has the most."""
        return self._far(self.score)

    def _far(self, score: np.ndarray) -> np.ndarray:
        until = self.settings.get("until")
        if until is None:
            return self.num_updates
        good = score >= (until if self.objective.maximize else -until)
        return np.where(good, self.num_updates.max(), self.num_updates)

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
        """The trial ranked first, with the state of its best seed.

        As those of the best of many, its returns are optimistic. So are fresh episodes of its state, since the seed was
        chosen by its returns: with `confirm=` the search trains the best trials again on fresh seeds, and
        `fresh_iqm` is the return to quote.
        """
        return self.select(1)

    def select(self, rank: int, seed: int | None = None) -> Trial:
        """The trial of a rank, 1 being the best, with the state of one of its seeds.

        Args:
          rank: from 1 to the number of trials.
          seed: from 0; None takes the one with the highest return, among those whose states were kept if any were.

        Raises:
          IndexError: there is no such rank or seed.
        """
        if not 1 <= rank <= self.num_trials:
            raise IndexError(f"rank = {rank} is not between 1 and {self.num_trials}")
        number = int(self.order[rank - 1])
        returns = self.seed_returns[number]
        seed = self._best_seed(number) if seed is None else seed
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
            fresh_iqm=float(
                tabulated.fresh_columns(self).get("fresh_return", np.full(self.num_trials, np.nan))[number]
            ),
        )

    def rows(self) -> list[dict[str, Any]]:
        """The table of trials from best to worst, one dict per trial, ready for pandas or polars.

        The columns: `rank` from 1; `tied`, how many trials share the score, if any do; `trial` in the order drawn from
        0; what was searched; the objective, if it is not the return; `return` (interquartile mean); `return_low`,
        `return_high` (its interval) and `interval_coverage`, the highest probability with which that contains the
        median of all seeds; `steps` of each of its members; if any member diverged, `diverged`, the number of the
        trial's seeds that did, and `diverged_after`, the steps of the last finite training return of the first of them;
        if updates were skipped, `skipped`, their number over the trial's seeds, and `skipped_after`, the steps of the
        agent before the first;
        if any trials tie, the criteria that order them; if trials were trained again on fresh seeds, `fresh_return`,
        `fresh_low`, `fresh_high`, `fresh_diverged`, `fresh_skipped` and `fresh_skipped_after`, NaN for the others; and
        `return_seed_0`, ... for all seeds.
        """
        return tabulated.rows(self)

    def curve_rows(self) -> list[dict[str, Any]]:
        """The learning curves as a tidy table: `trial`, `seed`, `steps`, `return`; a row per chunk with episodes."""
        return [dict(zip(_OF_CURVES, row)) for block in self._curve_blocks() for row in block]

    def _curve_blocks(self) -> Iterator[Iterator[tuple[Any, ...]]]:
        """The rows of `curve_rows` as tuples, some trials at a time."""
        for first in range(0, self.num_trials, 500):
            curves = self.curves[first : first + 500]
            trial, seed, chunk = np.nonzero(~np.isnan(curves))
            values = curves[trial, seed, chunk].astype(np.float64)
            columns = (first + trial, seed, self.steps[chunk], values)
            yield zip(*(column.tolist() for column in columns))

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

    def importance_noise(self, method: Method = "auto") -> dict[str, float]:
        """The share that each name would reach by chance; see `importance.noise_level`."""
        compared = self.comparable()
        columns = {name: self.values(name)[compared.trials] for name in self.searched}
        return noise_level(columns, self.space, compared.iqm, method)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write `rows()`: a header, and one line per trial from best to worst; NaN is an empty field."""
        return storage.write_csv(self.rows(), path)

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write settings, spaces, `rows()`, and each trial's full hyperparameters and learning curves.

        The file is strict JSON: NaN is null, an infinity the string "inf" or "-inf".
        """
        trials = (
            row | {"hparams": self._hparams_of(row["trial"])._asdict(), "curves": self.curves[row["trial"]]}
            for row in self.rows()
        )
        return storage.write_json_items(self._about(), "trials", trials, path)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write everything, so that `load` reads it back bit for bit, with SHA-256 sums of all files.

        The directory, which may hold other files, receives `trials.csv` (`rows()`), `curves.csv` (`curve_rows()`),
        `sweep.json`, the checkpoints `arrays` and, if states were kept, `states`, and the sums, `result.sha256`. Files
        of these names are replaced.

        Returns:
          The directory.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        names = ("curves", "returns", "rung_returns", "fresh_returns")
        arrays = {name: getattr(self, name) for name in names}
        groups = {"group": self.trials.group, "groups": self.trials.groups, "columns": self.trials.columns}
        about = self._about() | groups | {name: getattr(self, name) for name in LISTED}
        exact = {name: getattr(self, name) for name in EXACT}
        about |= {"exact": {name: encode(each) for name, each in exact.items() if each is not None}}
        about |= {"listed": (listed := sums.listed(_TABLES, bool(self.states)))}
        sums.remove(directory)
        storage.write_arrays(directory, arrays, self.hparams, about)
        owners = self.trials.group[self.member_index.decode(self.kept)[0]]
        storage.write_states(directory, self.states, owners)
        self.to_csv(directory / "trials.csv")
        storage.write_blocks(_OF_CURVES, self._curve_blocks(), directory / "curves.csv")
        self.to_json(directory / "sweep.json")
        sums.write(directory, listed)
        return directory

    def _about(self) -> dict[str, Any]:
        return {"settings": self.settings, "space": spaces.to_json(self.space), "steps": self.steps}

    def _hparams_of(self, trial: int) -> Hparams:
        return jax.tree.map(lambda leaf: python_number(leaf[trial]), self.hparams)

    def _best_seed(self, trial: int) -> int:
        of_trial, seeds = self.member_index.decode(self.kept)
        among = np.sort(seeds[of_trial == trial]) if (of_trial == trial).any() else np.arange(self.num_seeds)
        return int(among[np.argmax(np.nan_to_num(self.seed_returns[trial, among], nan=-np.inf))])

    def _state_of(self, trial: int, seed: int) -> PyTree:
        (found,) = np.nonzero(self.kept == self.member_index.encode(trial, seed))
        if self.states is None or not found.size:
            return None
        return self.states[found[0]]
