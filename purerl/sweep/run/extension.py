"""A search that grows: trials, seeds and updates that are added to what has been trained already.

Added trials are brackets of their own after those of the search as it began. Added seeds take every trial through the
rungs that it went through, and are stages of their own. Added updates are a further rung for the trials whose states
were kept. So nothing is trained twice, and without a schedule that stops trials the result is that of a search which
had this size from the beginning.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl.sweep.run import brackets, journal, rungs
from purerl.sweep.run import plan as plans
from purerl.sweep.run.budget import Enough
from purerl.sweep.run.engine import Engine
from purerl.sweep.run.fingerprint import digest_of
from purerl.sweep.run.journal import Journal
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.programs import Program
from purerl.sweep.run.rungs import Bracket, Rung
from purerl.sweep.run.work import Callback
from purerl.sweep.trials.trials import Trials, first_trials


class Sizes(NamedTuple):
    """The trials, the seeds and the updates that a search began with, and those that were added each time.

    Attributes:
      trials, seeds: numbers of them.
      updates: of a trial that is trained to the end.
      continued: the trials that were trained further, each time that updates were added.
    """

    trials: tuple[int, ...]
    seeds: tuple[int, ...]
    updates: tuple[int, ...]
    continued: tuple[tuple[int, ...], ...] = ()

    @property
    def first(self) -> Sizes:
        """Those of the beginning alone."""
        return Sizes(self.trials[:1], self.seeds[:1], self.updates[:1])

    @property
    def counts(self) -> dict[str, tuple[int, ...]]:
        """The numbers alone, by name."""
        return {"trials": self.trials, "seeds": self.seeds, "updates": self.updates}


class Part(NamedTuple):
    """The seeds that were added together: an engine that knows no other seeds, with its own names of stages."""

    engine: Engine
    plan: Plan
    first_seed: int

    def members_of(self, whole: Engine, members: np.ndarray) -> np.ndarray:
        """The numbers of its members in the whole search."""
        trial, seed = self.engine.member_index.decode(members)
        return whole.member_index.encode(trial, seed + self.first_seed)


def sizes(directory: str | os.PathLike[str] | None, num_trials: int, num_seeds: int, num_updates: int) -> Sizes:
    """The parts of a search of this size, which may be larger than the one in `directory`; None: a new search.

    Raises:
      ValueError: it is smaller, or it cannot be made longer.
    """
    events = journal.read(directory) if directory is not None and journal.exists(directory) else []
    event = next((each for each in reversed(events) if each["kind"] == "size"), None)
    if event is None:
        return Sizes((num_trials,), (num_seeds,), (num_updates,))
    event = {"updates": [num_updates], "continued": [], **event}  # a journal of an older version has neither
    found = []
    for name, now in (("trials", num_trials), ("seeds", num_seeds), ("updates", num_updates)):
        before = event[name]
        if now < sum(before):
            raise ValueError(f"{directory} holds a search of {sum(before)} {name}, and num_{name} = {now} is less")
        found.append((*before, now - sum(before)) if now > sum(before) else tuple(before))
    larger = Sizes(*found)._replace(continued=tuple(map(tuple, event["continued"])))
    if num_updates > sum(event["updates"]):
        return larger._replace(continued=(*larger.continued, _continuing(directory, events, event, larger)))
    if larger.continued and num_trials > sum(event["trials"]):
        raise ValueError(
            f"{directory} holds a search that was made longer, so no trials can be added; add trials before updates"
        )
    return larger


def _continuing(directory: Any, events: Sequence[Mapping[str, Any]], size: Mapping[str, Any], larger: Sizes) -> Any:
    """The trials that are trained further when updates are added: those whose states were kept at the end."""
    before, after = sum(size["updates"]), sum(larger.updates)
    end = next((event for event in reversed(events) if event["kind"] in ("end", "size")), size)
    if end["kind"] != "end" or "kept" not in end:
        raise ValueError(
            f"{directory} was begun with num_updates = {before}, not {after}, and can be made longer when it has "
            "finished: resume it with the same settings first"
        )
    if sum(larger.trials) > sum(size["trials"]) or sum(larger.seeds) > sum(size["seeds"]):
        raise ValueError("trials or seeds and updates cannot be added at once: add trials and seeds first")
    if not end["kept"]:
        raise ValueError(f"{directory} kept no state of a trial that was trained to the end, so none can be continued")
    return tuple(end["kept"])


def make_plan(schedule: rungs.Schedule, found: Sizes, programs: Sequence[Program], steps: int, num_chunks: int) -> Plan:
    """The plan of a search in parts; arguments as in `plan.make`.

    Raises:
      ValueError: as `plan.make`; or a search by `asha` has grown.
    """
    if isinstance(schedule, rungs.Asha) and found != found.first._replace(seeds=found.seeds):
        raise ValueError("asha drops the states of trials that it has not promoted, so its search cannot grow")
    num_updates = found.updates[0]
    every = [bracket for count in found.trials for bracket in plans.cut(schedule(count, num_updates), count)]
    plan = plans.make(every, programs, steps, sum(found.trials), num_chunks)
    stops = np.cumsum(found.updates).tolist()
    for stop, end, trials in zip(stops, stops[1:], found.continued):
        longer = plan._replace(stops=(*plan.stops, plan.num_updates), continued=(*plan.continued, trials))
        plan = longer._replace(brackets=_lengthened(plan.brackets, trials, end - stop))
    return plan


def _lengthened(brackets: Sequence[Bracket], trials: Sequence[int], num_updates: int) -> tuple[Bracket, ...]:
    """The brackets with a further rung for some of the trials."""
    made, first = [], 0
    for bracket in brackets:
        count = sum(first <= trial < first + bracket[0].num_trials for trial in trials)
        made.append((*bracket, Rung(count, bracket[-1].num_updates + num_updates)) if count else bracket)
        first += bracket[0].num_trials
    return tuple(made)


def record(log: Journal, found: Sizes, trials: Trials, key: jax.Array) -> bool:
    """Write down the size of a search; whether it has grown.

    Raises:
      ValueError: it was extended with other trials.
    """
    ends = np.cumsum(found.trials).tolist()
    digests = [digest(first_trials(trials, end), key) for end in ends]
    before: Any = log.find("size")
    if before is not None and before["digests"] != digests[: len(before["digests"])]:
        raise ValueError(f"{log.directory} holds other trials: extend it with the same space and the same key")
    now: Any = {name: list(part) for name, part in found._asdict().items()}
    if before is not None and all(before.get(name, now[name]) == now[name] for name in found.counts):
        return False
    log.add("size", **now, digests=digests)
    return before is not None


def digest(trials: Trials, key: jax.Array) -> str:
    """SHA-256 of all trials, and of the key."""
    names = repr((trials.groups, sorted(trials.columns)))
    return digest_of({names: (trials.hparams, trials.env_params, trials.group)}, key)


def describe(found: Sizes) -> str:
    """What was added last, in words.

    Examples:
      >>> describe(Sizes((64, 32), (3,), (8,)))
      '64 trials and 32 more'
      >>> describe(Sizes((64,), (3,), (8, 4), ((5, 9),)))
      '8 updates and 4 more of the best 2 trials'
    """
    grown = {name: part for name, part in found.counts.items() if len(part) > 1}
    said = ", ".join(f"{sum(part[:-1]):,} {name} and {part[-1]:,} more" for name, part in grown.items())
    return said + (f" of the best {len(found.continued[-1]):,} trials" if found.continued else "")


def is_finished(log: Journal, found: Sizes) -> bool:
    """Whether a search of this size has ended in the directory."""
    end = log.find("end")
    return end is not None and all(end.get(name, sum(part)) == sum(part) for name, part in found.counts.items())


def parts(whole: Engine, plan: Plan, found: Sizes) -> list[Part]:
    """The engine of each group of seeds; they fill the measurements of the whole."""
    made, first = [], 0
    for number, count in enumerate(found.seeds):
        seeds = slice(first, first + count)
        engine = whole._replace(measured=whole.measured.of_seeds(seeds), seed_keys=whole.seed_keys[seeds])
        if number:
            shifted = tuple(_from_seed(first, callback) for callback in whole.callbacks)
            engine = engine._replace(budget=whole.budget._replace(until=None), callbacks=shifted)
        made.append(Part(engine, plan._replace(prefix=f"seeds{first}-" if number else ""), first))
        first += count
    return made


def _from_seed(first: int, callback: Callback) -> Callback:
    """The callback of a part whose seeds are counted from `first` in the whole search."""
    return lambda chunk: callback(chunk._replace(seeds=chunk.seeds + first))


def of_first_seeds(whole: Engine, num_seeds: int) -> Engine:
    """The engine of the first seeds alone."""
    seeds = slice(0, num_seeds)
    return whole._replace(measured=whole.measured.of_seeds(seeds), seed_keys=whole.seed_keys[seeds])


def may_continue(engine: Engine, plan: Plan, kept: np.ndarray) -> list[int]:
    """The trials that can be trained further: healthy ones at the end of the plan, with the states of all seeds.

    Args:
      engine: of the whole search.
      plan: of the search.
      kept: [A] members whose states are kept.
    """
    trials, seeds = np.unique(engine.member_index.decode(kept)[0], return_counts=True)
    healthy = np.isfinite(engine.measured.returns[trials]).all(axis=(1, 2))
    far = engine.measured.num_updates[trials] == plan.num_updates
    return trials[healthy & far & (seeds == len(engine.seed_keys))].tolist()


def run_added(whole: Engine, every: Sequence[Part], keep: int | None) -> tuple[list[Pool], Enough | None]:
    """Train the added seeds of every trial as far as its first seeds were trained.

    Returns:
      The states of each part that was finished, and why the search stopped early, if it did.
    """
    pools: list[Pool] = []
    for part in every[1:]:
        pool, so_far = Pool(), of_first_seeds(whole, part.first_seed + part.engine.member_index.num_seeds)
        try:
            for b in range(len(part.plan.brackets)):
                pool.merge(_run_bracket(so_far, every[0].engine, part, b, keep))
                pool.retain(part.engine.member_index.of_trials(brackets.best_trials(so_far, keep)))
        except Enough as enough:
            return pools, enough
        pools.append(pool)
    return pools, None


def retain_best(whole: Engine, every: Sequence[Part], pools: Sequence[Pool], keep: int | None, *, delete: bool) -> None:
    """Drop the states of all but the best trials, over all seeds; `delete` as in `Pool.retain`."""
    best = brackets.best_trials(whole, keep)
    for part, pool in zip(every, pools):
        pool.retain(part.engine.member_index.of_trials(best), delete=delete)


def _run_bracket(so_far: Engine, base: Engine, part: Part, b: int, keep: int | None) -> Pool:
    first = sum(bracket[0].num_trials for bracket in part.plan.brackets[:b])
    trials = np.arange(first, first + part.plan.brackets[b][0].num_trials)
    reached = base.measured.rungs[trials].min(axis=1)
    states: Pool | None = None
    for r in range(len(part.plan.brackets[b])):
        left = trials[reached > r]
        if not left.size:
            return Pool()
        last = r == len(part.plan.brackets[b]) - 1
        trim = functools.partial(brackets.trim, part.engine, left, keep, so_far.measured) if last else None
        states = brackets.run_rung(part.engine, part.plan, b, r, left, states, trim)
    return states or Pool()
