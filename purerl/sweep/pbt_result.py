"""What population-based training returns: who learned from whom, with which hyperparameters, and how well."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.distributed import to_host
from purerl.sweep import storage
from purerl.sweep.pbt_rounds import Lineage
from purerl.sweep.results import python_number
from purerl.sweep.spaces import Space
from purerl.types import PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class PBTResult:
    """Finished population-based training of P members over R rounds; arrays but the states are NumPy's, on the host.

    Attributes:
      space: the hyperparameters that changed.
      lineage: everything that was decided and measured, leaves [R, P].
      steps: [R] environment steps of one member at the end of each round.
      states: the trained agents' states, leaves [P, ...].
      seconds: how long it took, compiling included.
    """

    space: dict[str, Space]
    lineage: Lineage
    steps: np.ndarray
    states: PyTree
    seconds: float

    @property
    def num_rounds(self) -> int:
        """R."""
        return self.lineage.parents.shape[0]

    @property
    def population_size(self) -> int:
        """P."""
        return self.lineage.parents.shape[1]

    @property
    def order(self) -> np.ndarray:
        """[P], the members from best to worst by the scores of the last round; NaN last."""
        return np.argsort(-self.lineage.scores[-1], kind="stable")

    @property
    def best(self) -> PyTree:
        """The state of the member ranked first. Its score, the best of many, is optimistic: evaluate it again."""
        return self.select(1)

    def select(self, rank: int) -> PyTree:
        """The trained state of the member of a rank, 1 being the best, for `agent.act(None, state, obs)`.

        Where several processes hold the population, all of them must call it.

        Raises:
          IndexError: there is no such rank.
        """
        if not 1 <= rank <= self.population_size:
            raise IndexError(f"rank = {rank} is not between 1 and {self.population_size}")
        state = jax.tree.map(lambda leaf: leaf[self.order[rank - 1]], self.states)
        return jax.tree.map(jnp.asarray, to_host(state))

    def ancestry(self, member: int | None = None) -> np.ndarray:
        """[R], which member's place a member's learner was trained in, in each round; None: the best one's.

        a[R-1] = member,   a[r-1] = parents[r, a[r]]
        """
        places = [int(self.order[0]) if member is None else member]
        for parents in self.lineage.parents[:0:-1]:
            places.append(int(parents[places[-1]]))
        return np.array(places[::-1])

    def schedule(self, member: int | None = None) -> Any:
        """The hyperparameters, leaves [R], that a member's learner was trained with, for `train_schedule`."""
        return jax.tree.map(lambda leaf: leaf[np.arange(self.num_rounds), self.ancestry(member)], self.lineage.hparams)

    def rows(self) -> list[dict[str, Any]]:
        """A tidy table, one dict for each round and member, ready for pandas or polars."""
        return [self._row(r, m) for r in range(self.num_rounds) for m in range(self.population_size)]

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write `rows()`: a header, and a line for each round and member; NaN is an empty field."""
        return storage.write_csv(self.rows(), path)

    def _row(self, r: int, m: int) -> dict[str, Any]:
        lineage = self.lineage
        numbers = {"parent": lineage.parents, "score": lineage.scores}
        numbers |= {name: getattr(lineage.hparams, name) for name in self.space}
        values = {name: python_number(leaf[r, m]) for name, leaf in numbers.items()}
        return {"round": r, "member": m, "steps": int(self.steps[r])} | values
