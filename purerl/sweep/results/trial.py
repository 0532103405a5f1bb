"""One trial of a finished search."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from purerl.types import Hparams, PyTree


class Trial(NamedTuple):
    """One trial of a search.

    Attributes:
      rank: its rank; 1 is the best.
      number: its position in the order in which trials were drawn, from 0.
      hparams: its hyperparameters, Python numbers in the agent's own NamedTuple.
      choices: `env.` parameters and static choices that were searched, by name.
      returns: [S], the mean evaluation return of each seed.
      iqm: their interquartile mean.
      interval: (low, high), its 95% bootstrap interval.
      steps: environment steps of each of its members.
      seed: the seed that `state` comes from.
      state: the trained agent's state, for `agent.act(None, state, obs)`; None if it was not kept.
      settings: everything that was searched, by name: hyperparameters, `env.` parameters and static choices.
      fresh_iqm: interquartile mean of the returns on fresh seeds; NaN if it was not trained again.
    """

    rank: int
    number: int
    hparams: Hparams
    choices: dict[str, Any]
    returns: np.ndarray
    iqm: float
    interval: tuple[float, float]
    steps: int
    seed: int
    state: PyTree
    settings: dict[str, Any] = {}
    fresh_iqm: float = float("nan")

    def __repr__(self) -> str:
        """All fields, with the name of the state's type in place of its weights."""
        fields = {name: repr(value) for name, value in self._asdict().items()}
        fields["state"] = "None" if self.state is None else f"<{type(self.state).__name__}>"
        return f"Trial({', '.join(f'{name}={value}' for name, value in fields.items())})"
