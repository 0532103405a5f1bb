"""The policy with the best evaluation while `purerl sweep --eval-every` trains, in `best/`."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from purerl import runs, sweep
from purerl.commands import compared, searches
from purerl.commands.evaluations import BEST, best_return
from purerl.commands.sweep_jobs import Job, with_choices
from purerl.distributed import is_main
from purerl.hparams import python_number
from purerl.sweep import Chunk
from purerl.sweep.run.work import Callback
from purerl.sweep.trials.trials import Trials
from purerl.types import State


def keep(job: Job, batches: Sequence[Trials]) -> Callback:
    """A callback that saves the policy with the best evaluation so far, of all agents and of earlier processes.

    Args:
      job: the search.
      batches: its trials, in the order of their numbers; more may be appended while it runs.
    """

    def save(chunk: Chunk, row: int, state: State) -> None:
        number = int(chunk.trials[row])
        trials, place = _find(batches, number)
        hparams = jax.tree.map(lambda leaf: python_number(leaf[place]), trials.hparams)
        choices = trials.groups[trials.group[place]]
        own = compared.own_of(job.task, job.compared, hparams, {}, choices)
        task = with_choices(job.task, job.compared, choices)
        task = searches.with_hparams(task, compared.hparams_of(task, own.hparams))
        details = {
            "command": "sweep", "trial": number, "seed_index": int(chunk.seeds[row]),
            "eval_return": float(chunk.curve[row]), "num_steps": chunk.num_steps,
        }  # fmt: skip
        if is_main():
            runs.save_policy(job.directory, task, state, details, name=BEST)

    return sweep.when_best(save, best_return(job.directory))


def _find(batches: Sequence[Trials], number: int) -> tuple[Trials, int]:
    """The batch of a trial, and its place there."""
    place = number
    for trials in batches:
        if place < trials.size:
            return trials, place
        place -= trials.size
    raise IndexError(f"no batch has trial {number}")
