"""The policy with the best evaluation while `purerl sweep --eval-every` trains, in `best/`."""

from __future__ import annotations

import jax

from purerl import runs, sweep
from purerl.commands import compared, searches
from purerl.commands.evaluations import BEST, best_return
from purerl.commands.sweep_jobs import Job, with_choices
from purerl.distributed import is_main
from purerl.hparams import python_number
from purerl.sweep import Chunk
from purerl.sweep.run.work import Callback
from purerl.types import State


def keep(job: Job) -> Callback:
    """A callback that saves the policy with the best evaluation so far, of all agents and of earlier processes."""

    def save(chunk: Chunk, row: int, state: State) -> None:
        number = int(chunk.trials[row])
        hparams = jax.tree.map(lambda leaf: python_number(leaf[number]), job.trials.hparams)
        choices = job.trials.groups[job.trials.group[number]]
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
