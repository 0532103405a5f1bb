"""A search that has not finished, from its journal: what has been measured so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.checkpoint import Json
from purerl.distributed import is_main
from purerl.sweep.results import storage
from purerl.sweep.results.loading import read_trials
from purerl.sweep.results.result import Result
from purerl.sweep.results.statistics import bootstrap_interval
from purerl.sweep.run import journal, measurements, records
from purerl.sweep.run.journal import Journal
from purerl.sweep.run.measurements import Measurements
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.rungs import Rung
from purerl.sweep.trials import spaces
from purerl.sweep.trials.members import MemberIndex
from purerl.sweep.trials.trials import Trials

_FOLDER = "begun"


def record(log: Journal, trials: Trials, plan: Plan, settings: Mapping[str, Json], anew: bool = False) -> None:
    """Write the trials and the plan of a search beside its journal, so that `load_unfinished` can read them.

    They are written once, and `anew` after the search has grown.
    """
    if log.directory is None or not is_main() or ((log.directory / _FOLDER / "arrays").exists() and not anew):
        return
    about = {"settings": {**settings, "brackets": plan.brackets}, "steps": plan.steps, "plan": plan._asdict()}
    about |= {"group": trials.group, "groups": trials.groups, "columns": trials.columns}
    about |= {"space": spaces.to_json(trials.space)}
    storage.write_arrays(log.directory / _FOLDER, {}, trials.hparams, about)


def load_unfinished(directory: str | os.PathLike[str]) -> Result:
    """The result so far of a search that is running or was interrupted; no process is disturbed by it.

    Trials that have not been evaluated yet have made 0 updates, and are left out of `rows`.

    Raises:
      CheckpointError: a file is damaged, or no search was begun there.
    """
    directory = Path(directory)
    _, table, about = storage.read_arrays(directory / _FOLDER)
    plan = Plan(**storage.with_tuples(about["plan"]))
    plan = plan._replace(brackets=tuple(tuple(Rung(*rung) for rung in bracket) for bracket in plan.brackets))
    trials, settings = read_trials(table, about), storage.with_tuples(about["settings"])
    events = [event for event in journal.read(directory) if event["kind"] == "block"]
    measured = measurements.empty(plan, trials.size, settings["num_seeds"], settings["eval_episodes"])
    done = 0
    for count in settings.pop("parts_of_seeds", (settings["num_seeds"],)):
        part, prefix = measured.of_seeds(slice(done, done + count)), f"seeds{done}-" if done else ""
        _fill(part, MemberIndex(count), plan._replace(prefix=prefix), events)
        if done and not np.array_equal(part.num_updates, measured.of_seeds(slice(0, done)).num_updates):
            break  # of added seeds only those that all trials have count
        done += count
    measured, settings["num_seeds"] = measured.of_seeds(slice(0, done)), done
    fields = measured.fields()
    nobody, elapsed = np.empty(0, int), max((event["elapsed"] for event in events), default=0.0)
    fresh: Any = np.empty((0, 1, settings["eval_episodes"]), np.float32)
    interval = bootstrap_interval(jax.random.key(0), fields["returns"].mean(axis=2, dtype=np.float64))
    settings |= {"seconds": elapsed, "stopped": "the search has not finished"}
    return Result(
        trials=trials, steps=plan.steps, interval=interval, fresh_trials=nobody, fresh_returns=fresh, kept=nobody,
        states=None, settings=settings, **fields,
    )  # fmt: skip


def _fill(measured: Measurements, index: MemberIndex, plan: Plan, events: list[dict[str, Any]]) -> None:
    """Enter the blocks of a plan that have been finished."""
    for stage in (plan.stage(b, r) for b, bracket in enumerate(plan.brackets) for r in range(len(bracket))):
        for event in (each for each in events if each["name"].startswith(f"{stage.name}-")):
            curves, returns = (journal.decode(event[name]) for name in ("curves", "returns"))
            members, skipped = np.array(event["members"]), records.skipped_in(event, len(event["members"]))
            measurements.fill(measured, index, stage, members, curves, returns, event["seconds"], skipped)
