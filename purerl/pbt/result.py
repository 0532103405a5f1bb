"""Results of population-based training: the lineage, the hyperparameters along it, and the scores."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl import checkpoint
from purerl.distributed import is_main, to_host
from purerl.hparams import python_number
from purerl.pbt.rounds import Lineage
from purerl.sweep.results import skips, storage, sums
from purerl.sweep.results.skips import Skips
from purerl.sweep.trials import spaces
from purerl.sweep.trials.spaces import Space
from purerl.types import Agent, Env, Hparams, PyTree

_ARRAYS = ("parents", "scores", "skipped", "first_skipped")  # of a lineage


@dataclasses.dataclass(frozen=True, eq=False)
class PBTResult:
    """Finished population-based training of P members over R rounds; arrays but the states are NumPy's, on the host.

    Attributes:
      space: the hyperparameters that changed.
      lineage: all decisions and scores, leaves [R, P].
      steps: [R] environment steps of one member at the end of each round.
      states: the trained agents' states, leaves [P, ...]; None if they were not read.
      seconds: time that it took, including compiling.
      settings: the sizes of the run, its devices and versions, for the record.
    """

    space: dict[str, Space]
    lineage: Lineage
    steps: np.ndarray
    states: PyTree
    seconds: float
    settings: dict[str, Any]

    @property
    def num_rounds(self) -> int:
        """R."""
        return self.lineage.parents.shape[0]

    @property
    def population_size(self) -> int:
        """P."""
        return self.lineage.parents.shape[1]

    @property
    def diverged(self) -> np.ndarray:
        """[R, P] bool: the member's score, or anything in its learner, was not finite at the end of the round."""
        return np.isnan(self.lineage.scores)

    @property
    def skips(self) -> Skips:
        """[R, P], the skipped updates of each member in each round, with its environment steps before the first."""
        number, first = self.lineage.skipped, self.lineage.first_skipped
        if number is None or first is None:
            return skips.none(self.lineage.scores.shape)
        round_steps = int(self.steps[0])
        update_steps = round_steps // self.settings["updates"]
        after = (self.steps - round_steps)[:, None] + update_steps * np.asarray(first, np.float64)
        return Skips(np.asarray(number), np.where(number > 0, after, np.nan))

    @property
    def order(self) -> np.ndarray:
        """[P], the members from best to worst by the scores of the last round; those that diverged come last."""
        return np.argsort(-self.lineage.scores[-1], kind="stable")

    @property
    def best(self) -> PyTree:
        """The state of the member ranked first. Its score, the best of many, is optimistic: evaluate it again."""
        return self.select(1)

    def select(self, rank: int) -> PyTree:
        """The trained state of the member of a rank, 1 being the best, for `agent.act(None, state, obs)`.

        If several processes hold the population, all of them must call it.

        Raises:
          IndexError: there is no such rank.
        """
        if not 1 <= rank <= self.population_size:
            raise IndexError(f"rank = {rank} is not between 1 and {self.population_size}")
        state = jax.tree.map(lambda leaf: leaf[self.order[rank - 1]], self.states)
        return jax.tree.map(jnp.asarray, to_host(state))

    @property
    def rounds_back(self) -> np.ndarray:
        """[R, P], how many rounds before the last one the learner of each parent is from: 0 if it is not an elite."""
        return self.lineage.parents // self.population_size

    def trained(self, member: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The rounds in which a member's learner was trained, and its place in each; None: that of the best member.

        These are all R rounds, apart from those that were given up where it went back to an elite.

        a[R-1] = member,   a[r-1-k] = parents[r, a[r]] - P k   with k = rounds_back[r, a[r]]
        """
        r, place = self.num_rounds - 1, int(self.order[0]) if member is None else member
        path = [(r, place)]
        while (before := r - 1 - int(self.rounds_back[r, place])) >= 0:
            r, place = before, int(self.lineage.parents[r, place]) % self.population_size
            path.append((r, place))
        rounds, places = np.array(path[::-1]).T
        return rounds, places

    def ancestry(self, member: int | None = None) -> np.ndarray:
        """The places of `trained`: [R] without elites."""
        return self.trained(member)[1]

    def schedule(self, member: int | None = None) -> Hparams:
        """The hyperparameters that a member's learner was trained with, for `train_schedule`: [R] without elites."""
        trained = self.trained(member)
        return jax.tree.map(lambda leaf: leaf[trained], self.lineage.hparams)

    def member_rows(self) -> list[dict[str, Any]]:
        """One row per member of the last population, from best to worst.

        The columns: `rank`, `member` and `score`; `began_as`, the place of its learner in the first round; `moves`, how
        often the learner was copied to another place since; `diverged`, whether the member diverged in the last round,
        if any did; `skipped`, the updates of its learner that were skipped in all rounds, and `skipped_after`, the
        steps before the first, if any were; `rounds_given_up`, with elites; and its last hyperparameters.
        """
        rows, skipped = [], self.skips
        for rank, member in enumerate(self.order.tolist(), start=1):
            rounds, places = self.trained(member)
            last, moves = self._row(self.num_rounds - 1, member), int((places[1:] != places[:-1]).sum())
            row = {"rank": rank, "member": member, "score": last["score"], "began_as": int(places[0]), "moves": moves}
            row |= {"diverged": bool(self.diverged[-1, member])} if self.diverged[-1].any() else {}
            row |= _of_skips(skips.by_trial(Skips(*(each[rounds, places] for each in skipped))), skipped)
            row |= {"rounds_given_up": self.num_rounds - len(places)} if self.rounds_back.any() else {}
            rows.append(row | {name: last[name] for name in self.space})
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """A tidy table, one dict per round and member, ready for pandas or polars.

        If a parent is an elite, `rounds_back` says for each how many rounds before the last one it was kept. If updates
        were skipped, `skipped` is their number in the round, and `skipped_after` the member's steps before the first.
        """
        skipped = self.skips
        return [
            self._row(r, m) | _of_skips(Skips(skipped.number[r, m], skipped.after[r, m]), skipped)
            for r in range(self.num_rounds)
            for m in range(self.population_size)
        ]

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write `rows()`: a header, and one line per round and member; NaN is an empty field."""
        return storage.write_csv(self.rows(), path)

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write settings, spaces, the best member's schedule and ancestry, and `rows()`; strict JSON, NaN is null."""
        schedule = {name: list(map(python_number, leaf)) for name, leaf in self.schedule()._asdict().items()}
        best = {"member": int(self.order[0]), "ancestry": self.ancestry(), "schedule": schedule}
        return storage.write_json(self._about() | {"best": best, "rows": self.rows()}, path)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write everything, so that `load_pbt` reads it back bit for bit; with several processes all must call it.

        The directory, which may hold other files, receives `lineage.csv` (`rows()`), `pbt.json`, the checkpoints
        `arrays` and `states`, and the SHA-256 sums of all these, `result.sha256`. Files of these names are replaced.

        Returns:
          The directory.
        """
        directory, states = Path(directory), to_host(self.states)
        if is_main():
            directory.mkdir(parents=True, exist_ok=True)
            arrays = {name: getattr(self.lineage, name) for name in _ARRAYS}
            arrays = {name: array for name, array in arrays.items() if array is not None}
            listed = sums.listed(("lineage.csv", "pbt.json"), states=True)
            sums.remove(directory)
            storage.write_arrays(directory, arrays, self.lineage.hparams, self._about() | {"listed": listed})
            checkpoint.save(directory / "states", {"group0": states}, overwrite=True)
            self.to_csv(directory / "lineage.csv")
            self.to_json(directory / "pbt.json")
            sums.write(directory, listed)
        return directory

    def _about(self) -> dict[str, Any]:
        space = spaces.to_json(self.space)
        return {"settings": self.settings, "space": space, "steps": self.steps, "seconds": self.seconds}

    def _row(self, r: int, m: int) -> dict[str, Any]:
        lineage = self.lineage
        numbers = {"parent": lineage.parents % self.population_size}
        numbers |= {"rounds_back": self.rounds_back} if self.rounds_back.any() else {}
        numbers |= {"score": lineage.scores}
        numbers |= {name: getattr(lineage.hparams, name) for name in self.space}
        values = {name: python_number(leaf[r, m]) for name, leaf in numbers.items()}
        return {"round": r, "member": m, "steps": int(self.steps[r])} | values


def _of_skips(one: Skips, of_all: Skips) -> dict[str, Any]:
    """The columns of skipped updates in a row; empty if there are none anywhere."""
    return {"skipped": int(one.number), "skipped_after": float(one.after)} if of_all.number.any() else {}


def load_pbt(
    directory: str | os.PathLike[str], agent: Agent | None = None, env: Env | None = None, hparams: Hparams = None
) -> PBTResult:
    """Read what `PBTResult.save` wrote, after checking every file. A table that has changed is a warning.

    Args:
      directory: the directory given to `save`.
      agent, env, hparams: the arguments of `pbt`. Without them there are no states, and the hyperparameters are in a
        NamedTuple of the same name and fields but of another class.

    Raises:
      CheckpointError: a file is damaged or missing, or the states belong to another agent.
      TypeError: `hparams` has other fields.
    """
    directory = Path(directory)
    arrays, table, about = storage.read_arrays(directory, hparams)
    sums.check(directory, about.get("listed", ()), ("arrays",) if agent is None else ("arrays", "states"))
    lineage = Lineage(hparams=table, **{name: arrays.get(name) for name in _ARRAYS})
    settings = storage.with_tuples(about["settings"])
    states = None
    if agent is not None and env is not None and hparams is not None:
        owners = np.zeros(settings["population_size"], int)
        each = storage.read_states(directory, agent, env, hparams, settings["num_envs"], owners, ({},)) or ()
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    space = spaces.from_json(storage.with_tuples(about["space"]))
    return PBTResult(space, lineage, np.array(about["steps"]), states, about["seconds"], settings)
