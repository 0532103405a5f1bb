"""Run the brackets of a search rung by rung, keep the best trials' states, and train the best ones again."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from purerl.sweep.results.ranking import rank
from purerl.sweep.run import measurements, records, rungs, stages
from purerl.sweep.run.engine import Engine
from purerl.sweep.run.measurements import Measurements
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.rungs import Rung


def run(engine: Engine, plan: Plan, key: jax.Array, keep: int | None, stop_clearly_worse: bool) -> Pool:
    """Run all brackets, which fills the engine's measurements.

    Args:
      engine: the parts that all rungs share.
      plan: the brackets.
      key: typed key, of the bootstrap that decides who is clearly worse.
      keep: number of the best trials whose states are kept; None: all that reach the end of their bracket.
      stop_clearly_worse: see `rungs.survivors`.

    Returns:
      The states that are kept.
    """
    kept, first = Pool(), 0
    for b, bracket in enumerate(plan.brackets):
        trials = np.arange(first, first + bracket[0].num_trials)
        first += bracket[0].num_trials
        final = _run_bracket(engine, plan, b, trials, jax.random.fold_in(key, b), keep, stop_clearly_worse)
        if final is not None:
            kept.merge(final)
            kept.retain(engine.member_index.of_trials(best_trials(engine.measured, keep)))
    return kept


def confirm(engine: Engine, plan: Plan, key: jax.Array, count: int, num_seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Train the best trials again, from the beginning to the end, on fresh seeds, and play fresh episodes.

    Returns:
      The trials [K] in ascending order, and their returns [K, S', E].
    """
    best = np.sort(best_trials(engine.measured, count)) if count else np.empty(0, int)  # [K]
    num_episodes = engine.programs[0].eval_episodes
    if not best.size:
        return best, np.empty((0, num_seeds, num_episodes), np.float32)
    seed_key, eval_key = jax.random.split(jax.random.fold_in(key, 1))
    plan = plan._replace(brackets=((Rung(len(best), plan.num_updates),),))
    fresh = engine._replace(
        measured=measurements.empty(plan, engine.trials.size, num_seeds, num_episodes),
        seed_keys=keys_of_seeds(seed_key, num_seeds),
        eval_key=key_data(eval_key),
    )
    nobody = np.empty(0, int)
    members = fresh.member_index.of_trials(best)
    stages.run(fresh, plan.whole("confirm"), members, None, trim=lambda _, pool: pool.retain(nobody))
    return best, fresh.measured.returns[best]  # [P, S', E] -> [K, S', E]


def best_trials(measured: Measurements, count: int | None) -> np.ndarray:
    """The `count` best trials, those trained furthest first; None: all that were trained."""
    order = rank(measured.returns, measured.curves, measured.num_updates)
    return order[: (measured.num_updates > 0).sum()][:count]


def keys_of_seeds(key: jax.Array, num_seeds: int) -> np.ndarray:
    """[S, ...] data of the keys of the seeds: seed s is `fold_in(key, s)` in every trial."""
    return key_data(jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_seeds)))


def key_data(key: jax.Array) -> np.ndarray:
    """The data of typed keys on the host."""
    return np.asarray(jax.random.key_data(key))


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
        if r:
            returns, curves = engine.measured.returns[trials], engine.measured.curves[trials]
            choice = {"stop_clearly_worse": stop_clearly_worse}
            trials = trials[rungs.survivors(jax.random.fold_in(key, r), returns, curves, rung.num_trials, **choice)]
        if not trials.size:
            return None
        stage, last = plan.stage(b, r), r == len(plan.brackets[b]) - 1
        members = engine.member_index.of_trials(trials)
        if states is not None:
            states.retain(members)
        trim = functools.partial(_trim, engine, trials, keep) if last else None
        states = stages.run(engine, stage, members, states, trim)
        if r:
            records.forget(engine, plan.stage(b, r - 1).name)
    return states


def _trim(engine: Engine, trials: np.ndarray, keep: int | None, done: np.ndarray, pool: Pool) -> None:
    """Keep the states of the best trials of a last rung as its blocks finish, and of those that still lack seeds."""
    finished = engine.member_index.by_trial(np.isin(engine.member_index.of_trials(trials), done))  # [K, S]
    complete = trials[finished.all(axis=1)]
    best = complete[rank(engine.measured.returns[complete], engine.measured.curves[complete])][:keep]
    partial = trials[finished.any(axis=1) & ~finished.all(axis=1)]
    pool.retain(engine.member_index.of_trials(np.union1d(best, partial)))
