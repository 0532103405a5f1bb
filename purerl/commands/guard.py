"""Updates that were skipped because a gradient was NaN or infinite: how many, since when, and when to give up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LIMIT = 100
_METRIC = "loss/skipped"


class Guard:
    """Counts skipped updates of each seed; see `see`.

    Args:
      num_seeds: S.
      num_updates: of the whole run.
      saved: what `to_json` returned, or nothing.
    """

    def __init__(self, num_seeds: int, num_updates: int, saved: Mapping[str, Any]) -> None:
        self._limit = min(LIMIT, max(1, num_updates // 2))
        self._in_a_row = np.array(saved.get("in_a_row", [0] * num_seeds))
        self._total = np.array(saved.get("total", [0] * num_seeds))
        self._first = np.array(saved.get("first", [-1] * num_seeds))  # update; -1: none

    def see(self, metrics: Mapping[str, np.ndarray], first: int) -> None:
        """Count the skipped updates among some, leaves [U] or [U, S], of which `first` is the number of the first."""
        if _METRIC not in metrics:
            return
        share = np.nan_to_num(metrics[_METRIC]).reshape(len(metrics[_METRIC]), -1)  # [U, S]
        for number, now in enumerate(share, start=first):
            self._first = np.where((self._first < 0) & (now > 0), number, self._first)
            self._total += now > 0
            self._in_a_row = np.where(now >= 1, self._in_a_row + 1, 0)

    @property
    def is_stuck(self) -> bool:
        """Whether the last `LIMIT` updates of every seed were skipped, or half of all if the run is short."""
        return bool((self._in_a_row >= self._limit).all())

    def problem(self, done: int, update_steps: int) -> str:
        """Why training is stuck, and since when, after `done` updates."""
        since = (done - int(self._in_a_row.min())) * update_steps
        return (
            f"training is stuck: since step {since:,} every gradient has been NaN or infinite and every update was "
            "skipped. The parameters from before are saved. Look for NaN or infinity in the rewards and observations "
            "of the environment, or try a lower learning rate"
        )

    def summary(self, update_steps: int) -> str:
        """The skipped updates in a sentence per seed; empty if there were none."""
        sentences = []
        for seed in np.flatnonzero(self._total):
            who = f" of seed {seed}" if len(self._total) > 1 else ""
            sentences.append(
                f"{self._total[seed]:,} updates{who} had a gradient that was NaN or infinite, whose step was skipped; "
                f"the first after step {self._first[seed] * update_steps:,}."
            )
        return " ".join(sentences)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a checkpoint."""
        return {"in_a_row": self._in_a_row.tolist(), "total": self._total.tolist(), "first": self._first.tolist()}
