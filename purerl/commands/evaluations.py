"""Evaluation while `purerl train` trains: when it is due, what it found, and the best policy so far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from purerl import checkpoint, runs
from purerl.callbacks import crosses
from purerl.commands import console, training
from purerl.commands.training import Config, Program
from purerl.types import State

BEST = "best"


class Evaluated(NamedTuple):
    """What the evaluation after a row of metrics found.

    Attributes:
      metrics: `eval_return` and `eval_length`, [num_seeds] or scalar; NaN if none was due.
      note: the mean return in words; empty if none was due.
      reached: whether the mean return, over the seeds too, is the one at which training ends.
    """

    metrics: dict[str, Any]
    note: str = ""
    reached: bool = False


Evaluate: TypeAlias = Callable[[State, int, int], Evaluated]
"""From the state and the numbers of updates before and after a row."""


def during(config: Config, program: Program, directory: Path, num_episodes: int) -> Evaluate:
    """A function that evaluates a run whenever it is due, and saves the best policy in `directory`/best."""
    best = best_return(directory)
    missing = np.full(config.num_seeds, np.nan)[() if config.num_seeds > 1 else 0]

    def evaluate(state: State, before: int, after: int) -> Evaluated:
        nonlocal best
        if not due(config, before, after):
            return Evaluated({"eval_return": missing, "eval_length": missing} if config.eval_every else {})
        played = program.evaluate(state, num_episodes)
        returns = np.asarray(played.episode_return, np.float64)  # [E], or [S, E] of several seeds
        means = np.atleast_1d(returns.mean(axis=-1))
        score, seed = float(np.nan_to_num(means, nan=-np.inf).max()), int(np.nan_to_num(means, nan=-np.inf).argmax())
        if score > best:
            best = score
            _save(config, directory, state, seed, returns.reshape(config.num_seeds, -1)[seed], after)
        metrics = {"eval_return": returns.mean(axis=-1), "eval_length": np.asarray(played.episode_length).mean(axis=-1)}
        mean = float(means.mean())
        return Evaluated(metrics, f"evaluated {mean:.4g}", config.until is not None and mean >= config.until)

    return evaluate


def due(config: Config, before: int, after: int) -> bool:
    """Whether a row of updates, numbered from `before` to `after`, ends in an evaluation."""
    steps = config.update_steps
    return config.eval_every > 0 and crosses(config.eval_every, before * steps, after * steps)


def best_return(directory: Path) -> float:
    """The mean return of the best policy that was saved while training; -inf if there is none, or if it is damaged."""
    path = directory / BEST
    if not path.is_dir():
        return -np.inf
    try:
        return checkpoint.read_metadata(path)["eval_return"]
    except checkpoint.CheckpointError as error:
        console.prose(f"Passing over the best policy so far, which cannot be used: {error}")
        return -np.inf


def _save(config: Config, directory: Path, state: State, seed: int, returns: np.ndarray, num_updates: int) -> None:
    details = {
        "command": "train", "seed": config.seed, "seed_index": seed, "returns": returns.tolist(),
        "eval_return": float(returns.mean()), "num_steps": num_updates * config.update_steps,
    }  # fmt: skip
    policy = training.select_seed(state, config.num_seeds, seed)
    runs.save_policy(directory, config.task, policy, details, name=BEST)
