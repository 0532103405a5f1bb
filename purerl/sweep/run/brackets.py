"""Run the brackets of a search rung by rung, keep the best trials' states, and train the best ones again."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.sweep.results import skips
from purerl.sweep.results.objectives import over_seeds
from purerl.sweep.results.rules import order_of, scores_of
from purerl.sweep.results.skips import Skips
from purerl.sweep.results.statistics import bootstrap_interval
from purerl.sweep.run import journal, measurements, records, rungs, stages, within
from purerl.sweep.run.budget import Budget, Enough, is_good
from purerl.sweep.run.engine import Engine, group_of
from purerl.sweep.run.journal import Journal
from purerl.sweep.run.measurements import Measurements
from purerl.sweep.run.plan import Plan, Stage
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.rungs import Rung

_ROUND, MOST_TRIALS = 4, 16  # seeds of a round of `num_seeds="auto"`, and the most trials that take part


def run(
    engine: Engine, plan: Plan, key: jax.Array, keep: int | None, stop_clearly_worse: bool
) -> tuple[Pool, Enough | None]:
    """Run all brackets, which fills the engine's measurements.

    Args:
      engine: the parts that all rungs share.
      plan: the brackets.
      key: typed key, of the bootstrap that decides who is clearly worse.
      keep: number of the best trials whose states are kept; None: all that reach the end of their bracket.
      stop_clearly_worse: see `rungs.survivors`.

    Returns:
      The states that are kept, and why the search stopped early, if it did.
    """
    kept, first = Pool(), 0
    for b, bracket in enumerate(plan.brackets):
        trials = np.arange(first, first + bracket[0].num_trials)
        first += bracket[0].num_trials
        enough, final = None, None
        try:
            final = _run_bracket(engine, plan, b, trials, jax.random.fold_in(key, b), keep, stop_clearly_worse)
        except Enough as error:
            enough, final = error, error.pool
        if final is not None:
            kept.merge(final)
            kept.retain(engine.member_index.of_trials(best_trials(engine, keep)), delete=enough is None)
        if enough is not None:
            return kept, enough
    return kept, None


def replay(engine: Engine, plan: Plan, trial: int, log: Journal) -> Pool:
    """Train one trial again as far as it went, through the rungs of its bracket.

    Args:
      engine: with the widths of the search, and no blocks.
      plan: of the search.
      trial: its number.
      log: of the search, with its blocks.

    Raises:
      ValueError: there is no such trial.
    """
    if not 0 <= trial < engine.trials.size:
        raise ValueError(f"replay = {trial} is not between 0 and {engine.trials.size - 1}")
    firsts = np.cumsum([0, *(bracket[0].num_trials for bracket in plan.brackets)])
    b = int(np.searchsorted(firsts, trial, side="right")) - 1
    members, states = engine.member_index.of_trials(np.array([trial])), None
    for r in range(len(plan.brackets[b])):
        stage = _made(engine, plan.stage(b, r), members[0], log)
        if stage is None:
            break
        states = stages.run(engine, stage, members, states)
    return states or Pool()


def _made(engine: Engine, stage: Stage, member: int, log: Journal) -> Stage | None:
    """The stage as far as a member was trained in it; None if it was not."""
    for kind in ("block", within.KIND):
        for name, event in log.all(kind).items():
            if name.startswith(f"{stage.name}-") and member in event["members"]:
                group = int(group_of(engine, np.array([member]))[0])
                return stage if kind == "block" else within.cut(engine, stage, group, event["chunks"])
    return None


class Fresh(NamedTuple):
    """Trials that were trained again on fresh seeds.

    Attributes:
      trials: [K] in ascending order.
      returns: [K, S', E]; NaN for seeds that a trial was not trained with.
      scores: [K, S'] the objective of each.
      counts: [K] seeds that each was trained with, the first ones.
      skips: [K, S'] updates that were skipped.
    """

    trials: np.ndarray
    returns: np.ndarray
    scores: np.ndarray
    counts: np.ndarray
    skips: Skips


def confirm(engine: Engine, plan: Plan, key: jax.Array, count: int, num_seeds: int, name: str = "") -> Fresh:
    """Train the best trials again, from the beginning to the end, on fresh seeds, and play fresh episodes.

    The names of the stages begin with `name`, which changes when the search has grown and others are the best.
    """
    best = np.sort(best_trials(engine, count)) if count else np.empty(0, int)  # [K]
    fresh = _none(engine, best, num_seeds)
    if best.size:
        _train_again(engine, plan, key, fresh, best, slice(0, num_seeds), f"{name}confirm")
    return fresh


def decide(engine: Engine, plan: Plan, key: jax.Array, count: int, num_seeds: int, name: str = "") -> Fresh:
    """Spend fresh seeds on the trials among which the best is undecided, a few at a time, until one is left.

    It begins with the trials whose interval reaches that of the best one, and at least with `count`. After each round
    those whose interval on the fresh seeds lies below that of the best among them leave.
    """
    order = best_trials(engine, None)
    interval = bootstrap_interval(key, scores_of(engine.rules, engine.measured.evidence(order)))
    whole = (engine.measured.num_updates == plan.num_updates) | is_good(engine)
    if not whole[order].any():
        return _none(engine, order[:0], num_seeds)
    rivals = (interval[:, 1] >= interval[0, 0]) | (np.arange(len(order)) < max(count, 1))
    best = np.sort(order[rivals & whole[order]][: max(count, MOST_TRIALS)])
    fresh, left = _none(engine, best, num_seeds), best
    for number, first in enumerate(range(0, num_seeds, _ROUND)):
        if len(left) < 2 and number:
            break
        seeds = slice(first, min(first + _ROUND, num_seeds))
        _train_again(engine, plan, key, fresh, left, seeds, f"{name}decide{number}")
        scores = fresh.scores[np.isin(best, left), : first + _ROUND]
        low, high = bootstrap_interval(key, scores).T
        leader = int(np.argmax(np.nan_to_num(over_seeds(engine.rules.objective, scores), nan=-np.inf)))
        left = left[high >= low[leader]]
    return fresh


def best_trials(engine: Engine, count: int | None) -> np.ndarray:
    """The `count` best trials, those trained furthest or good enough first; None: all that were trained."""
    measured = engine.measured
    far = np.where(is_good(engine), measured.num_updates.max(), measured.num_updates)
    order, _ = order_of(engine.rules, measured.evidence(), far)
    return order[: (measured.num_updates > 0).sum()][:count]


def keys_of_seeds(key: jax.Array, num_seeds: int) -> np.ndarray:
    """[S, ...] data of the keys of the seeds: seed s is `fold_in(key, s)` in every trial."""
    return key_data(jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_seeds)))


def key_data(key: jax.Array) -> np.ndarray:
    """The data of typed keys on the host."""
    return np.asarray(jax.random.key_data(key))


def _none(engine: Engine, trials: np.ndarray, num_seeds: int) -> Fresh:
    shape = (len(trials), num_seeds)
    returns = np.full((*shape, engine.programs[0].eval_episodes), np.nan, np.float32)
    return Fresh(trials, returns, np.full(shape, np.nan), np.zeros(len(trials), int), skips.none(shape))


def _train_again(
    engine: Engine, plan: Plan, key: jax.Array, fresh: Fresh, trials: np.ndarray, seeds: slice, name: str
) -> None:
    """Train some of the fresh trials with some of the fresh seeds; the arrays change in place."""
    seed_key, eval_key = jax.random.split(jax.random.fold_in(key, 1))
    keys = keys_of_seeds(seed_key, seeds.stop)[seeds]
    plan = plan._replace(brackets=((Rung(len(trials), plan.num_updates),),))
    num_episodes = engine.programs[0].eval_episodes
    again = engine._replace(
        measured=measurements.empty(plan, engine.trials.size, len(keys), num_episodes),
        seed_keys=keys,
        eval_key=key_data(eval_key),
        budget=engine.budget._replace(until=None),
        callbacks=(),  # they would not know its seeds
    )
    nobody = np.empty(0, int)
    members = again.member_index.of_trials(trials)
    whole, states = plan.whole(name), None
    for stage in whole:
        last = stage is whole[-1]
        states = stages.run(again, stage, members, states, trim=(lambda _, pool: pool.retain(nobody)) if last else None)
    rows, evidence = np.isin(fresh.trials, trials), again.measured.evidence(trials)
    fresh.returns[rows, seeds] = evidence.returns  # [K, s, E] into [K, S', E]
    fresh.scores[rows, seeds] = scores_of(engine.rules, evidence)
    for table, values in zip(fresh.skips, again.measured.skips.at(trials)):
        table[rows, seeds] = values
    fresh.counts[rows] = seeds.stop


def _run_bracket(
    engine: Engine,
    plan: Plan,
    b: int,
    trials: np.ndarray,
    key: jax.Array,
    keep: int | None,
    stop_clearly_worse: bool,
) -> Pool | None:
    """The rungs of one bracket; the states after the last one, or None if no trial reached it."""
    states: Pool | None = None
    for r, rung in enumerate(plan.brackets[b]):
        chosen = plan.chosen(b, r)
        if chosen is not None:
            trials = np.intersect1d(trials, chosen)
        elif r:
            evidence, rung_key = engine.measured.evidence(trials), jax.random.fold_in(key, r)
            stop: Any = {"stop_clearly_worse": stop_clearly_worse}
            trials = trials[rungs.survivors(rung_key, engine.rules, evidence, rung.num_trials, **stop)]
        if not trials.size:
            return None
        last = r == len(plan.brackets[b]) - 1
        at_the_end = functools.partial(trim, engine, trials, keep, engine.measured) if last else None
        states = run_rung(engine, plan, b, r, trials, states, at_the_end)
    return states


def run_rung(
    engine: Engine, plan: Plan, b: int, r: int, trials: np.ndarray, states: Pool | None, trim: stages.Trim | None
) -> Pool:
    """Train some trials through a rung, from their states after the rung before, which are dropped."""
    members = engine.member_index.of_trials(trials)
    if states is not None:
        states.retain(members)
        _train_lost(engine, plan, b, r, members, states)
    states = stages.run(engine, plan.stage(b, r), members, states, trim)
    if r:
        records.forget(engine, plan.stage(b, r - 1).name)
    return states


def _train_lost(engine: Engine, plan: Plan, b: int, r: int, members: np.ndarray, states: Pool) -> None:
    """Train the members of a rung again that lack their states after the rung before, which adds these to the pool."""
    name = f"{plan.stage(b, r).name}-"
    done = [
        event["members"] for kind in ("block", "failed") for block, event in engine.log.all(kind).items()
        if block.startswith(name)
    ]  # fmt: skip
    lost = np.setdiff1d(np.intersect1d(states.drop_lost(), members), np.concatenate([np.empty(0, int), *done]))
    if not lost.size:
        return
    engine.monitor.report("train", note=f"the states of {len(lost):,} agents are missing: they are trained again")
    again, found = _apart(engine), None
    for rung in range(r):
        found = stages.run(again, plan.stage(b, rung), lost, found)
    states.merge(found or Pool())


def _apart(engine: Engine) -> Engine:
    """An engine that trains members as wide as in the search, and leaves its journal and its measurements alone."""
    return engine._replace(
        log=journal.in_memory(engine.log, "width", "compiled", "limit", "fastest"),
        measured=jax.tree.map(np.array, engine.measured),
        budget=Budget(),
        callbacks=(),
    )


def trim(
    engine: Engine, trials: np.ndarray, keep: int | None, measured: Measurements, done: np.ndarray, pool: Pool
) -> None:
    """Keep the states of the best trials of a last rung as its blocks finish, and of those that still lack seeds.

    The best are those by `measured`, which may have further seeds.
    """
    finished = engine.member_index.by_trial(np.isin(engine.member_index.of_trials(trials), done))  # [K, S]
    complete = trials[finished.all(axis=1)]
    best = complete[order_of(engine.rules, measured.evidence(complete))[0]][:keep]
    partial = trials[finished.any(axis=1) & ~finished.all(axis=1)]
    pool.retain(engine.member_index.of_trials(np.union1d(best, partial)))
