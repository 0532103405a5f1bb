"""The search: trials x seeds, trained rung by rung in blocks of one vmapped program, and ranked."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops
from purerl.distributed import is_main, num_parts
from purerl.hparams import check_positive
from purerl.prng import check_key
from purerl.sweep.results import statistics, storage
from purerl.sweep.results.result import Result, load, rank
from purerl.sweep.run import engine, executors, journal, memory, rungs
from purerl.sweep.run import plan as plans
from purerl.sweep.run.engine import Engine
from purerl.sweep.run.monitor import Monitor, Progress
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.population import Program
from purerl.sweep.trials import spaces
from purerl.sweep.trials import trials as trials_module
from purerl.sweep.trials.draws import Method
from purerl.sweep.trials.trials import Trials
from purerl.types import Agent, Env, PyTree

_CPU_BLOCK = 16  # agents on a core: PPO at 4 x 128 ran at 220k steps/s so, at 140k with 64 on a core


def search(
    key: jax.Array,
    agent: Agent | Callable[..., Agent],
    env: Env,
    hparams: Any,
    space: spaces.SearchSpace | None = None,
    *,
    num_trials: int | None = None,
    num_seeds: int = 2,
    num_updates: int,
    num_envs: int,
    rollout_length: int,
    schedule: rungs.Schedule = rungs.full,
    method: Method = "random",
    static: Mapping[str, spaces.Choice] | None = None,
    env_params: PyTree = None,
    rollout: Callable[..., Any] = loops.rollout,
    block_size: int | None = None,
    memory_limit: float | None = None,
    num_chunks: int = 20,
    eval_episodes: int = 16,
    eval_max_steps: int = 1000,
    stop_clearly_worse: bool = False,
    confirm: int = 0,
    confirm_seeds: int = 8,
    keep: int | None = 10,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    executor: executors.Executor = executors.local,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train trials with every seed, stop the worse ones early if the schedule says so, and rank them.

    The agents of a rung, trial by trial and seed by seed, are cut into equal blocks, the last one filled up with
    repeats, so that one compiled program serves all. Seed s is the same key in every trial: trials start from the same
    random numbers and differ by what is searched alone. The same arguments give the same bits at the same width of the
    blocks; another width differs by rounding, which training then amplifies.

    Args:
      key: typed key.
      agent: any agent; or, with static choices of other names than `num_envs` and `rollout_length`, a function that
        takes these as keywords and returns the agent.
      env: the environment.
      hparams: the agent's hyperparameters: the values of what the space leaves out. Without a space, a table of
        trials, leaves [P], as `sample` and `grid` return, or `Trials`.
      space: from names of hyperparameters, and of fields of `env_params` behind `env.`, to spaces or constants.
      num_trials: number of trials P to draw from the space; None takes its grid.
      num_seeds: training runs of each trial, S.
      num_updates, num_envs, rollout_length, rollout: as in `loops.train`, for each agent. Trials with another
        `num_envs` or `rollout_length` among their static choices make as many updates as come nearest to the same
        number of environment steps.
      schedule: how many trials are trained how far: `full` (all to the end), `successive_halving(...)`,
        `hyperband(...)`, or a function from (P, num_updates) to brackets of rungs. After each rung all of its agents
        are evaluated, and the best trials by `rungs.survivors` go on where they stopped.
      method: "random", or "sobol" for a low-discrepancy sequence.
      static: from names of static choices to `choice([...])`; each combination compiles once.
      env_params: parameters of the environment; None takes its own.
      block_size: largest number of agents in one program; None takes 16 on each CPU core, and everything on
        accelerators; or as many as fit into memory.
      memory_limit: bytes that a block may take on each device; None takes most of what is free.
      num_chunks: into about how many parts a run is cut, for progress and as points of the learning curves.
      eval_episodes: greedy episodes of each agent after each rung; their mean is the agent's return.
      eval_max_steps: longest of them, in steps.
      stop_clearly_worse: see `rungs.survivors`.
      confirm: how many of the best trials are trained again to the end on fresh seeds, and played on fresh episodes:
        the return of the best of many is optimistic, that of its repetition is not.
      confirm_seeds: how many fresh seeds.
      keep: of how many of the best trials the trained states are kept; None: of all that were trained to the end.
      directory: where everything is written as it finishes, so that a search that was killed can go on; at the end it
        holds what `Result.save` writes. None keeps all in memory.
      resume: go on with the search in `directory`; the arguments must be the same. What finished is not done again.
      executor: who does the blocks: `work.local`, or `ray_blocks.on_ray(...)`.
      progress: called with a `Progress` before the first chunk, after each chunk, and before each evaluation.

    Returns:
      The `Result`. On the host it holds O(P · S · (num_chunks + eval_episodes)) numbers, and states where they go on.

    Raises:
      TypeError, ValueError: a size is not positive, or a space does not fit; all before anything is compiled. Also
        where `directory` was begun with other arguments.
      FileExistsError, FileNotFoundError: `directory` holds a search and `resume` is not set, or the other way round.
      BlockingIOError: another process works in `directory`.
      MemoryError: not even one agent a device fits into `memory_limit`.
    """
    check_key(key)
    check_positive(num_seeds=num_seeds, num_updates=num_updates, num_envs=num_envs, rollout_length=rollout_length)
    check_positive(num_chunks=num_chunks, eval_episodes=eval_episodes, eval_max_steps=eval_max_steps)
    check_positive(keep=1 if keep is None else keep, block_size=1 if block_size is None else block_size)
    check_positive(confirm_seeds=confirm_seeds)
    sample_key, seed_key, eval_key, bootstrap_key = jax.random.split(key, 4)
    trials = trials_module.make(
        sample_key, hparams, space, num_trials, method=method, static=static, env_params=env_params
    )
    impl = str(jax.random.key_impl(key))
    base = Program(agent, env, num_envs, rollout_length, rollout, eval_episodes, eval_max_steps, impl)  # type: ignore
    programs = tuple(_program(base, group) for group in trials.groups)
    plan = plans.make(schedule(trials.size, num_updates), programs, base.update_steps, trials.size, num_chunks)
    size = block_size or _block_size(trials.size * num_seeds)
    limit = memory.device_limit() if memory_limit is None else memory_limit
    total = plan.total_steps(num_seeds) + min(confirm, trials.size) * confirm_seeds * plan.steps[-1]
    with journal.opened(directory, resume=resume) as log:
        sizes: dict[str, Any] = {"num_seeds": num_seeds, "num_updates": plan.num_updates, "num_envs": num_envs}
        sizes |= {"rollout_length": rollout_length, "eval_max_steps": eval_max_steps, "num_chunks": len(plan.steps)}
        about: dict[str, Any] = {"eval_episodes": eval_episodes, "keep": keep, "confirm": [confirm, confirm_seeds]}
        about |= {"stop_clearly_worse": stop_clearly_worse, "block_size": block_size, "brackets": plan.brackets}
        journal.check_same(log, sizes | about | {"trials": _digest(trials, key)})
        if log.find("end") and directory is not None:
            return load(directory, agent, env, trials.hparams)
        monitor = Monitor(progress, total)
        monitor.report("compile")
        seeds = _seed_keys(seed_key, num_seeds)
        run = Engine(programs, trials, seeds, _data(eval_key), log, executor, monitor, size, limit)
        tables, pool = _run_brackets(run, plan, bootstrap_key, keep, stop_clearly_worse)
        fresh_trials, fresh = _confirm(run, plan, key, tables, confirm, confirm_seeds)
        kept = pool.agents
        width = int((log.find("width", "bracket0-rung0-group0") or {"width": size})["width"])
        clock = {"seconds": monitor.seconds(), "steps_per_second": monitor.steps_per_second()}
        result = Result(
            trials=trials,
            steps=plan.steps,
            curves=tables.curves,
            returns=tables.returns,
            rung_returns=tables.rungs,
            num_updates=tables.num_updates,
            interval=statistics.bootstrap_interval(bootstrap_key, tables.returns.mean(axis=2, dtype=np.float64)),
            fresh_trials=fresh_trials,
            fresh_returns=fresh,
            kept=kept,
            states=engine.agent_states(run, pool, kept),
            settings=sizes
            | {"width": width, "num_devices": num_parts(width), "brackets": plan.brackets}
            | clock
            | storage.made_with(),
        )
        if directory is not None and is_main():
            result.save(directory)
            log.add("end")
            shutil.rmtree(os.path.join(directory, "blocks"), ignore_errors=True)
    return result


class _Tables(NamedTuple):
    """What is known of the trials, filled as rungs end; as in `Result`."""

    curves: np.ndarray
    returns: np.ndarray
    rungs: np.ndarray
    num_updates: np.ndarray


def _run_brackets(
    run: Engine, plan: plans.Plan, key: jax.Array, keep: int | None, stop_clearly_worse: bool
) -> tuple[_Tables, Pool]:
    """Run all brackets; the tables, and the states of the best trials that were trained to the end of theirs."""
    tables, kept, first = _empty_tables(run, plan), Pool(), 0
    for b, bracket in enumerate(plan.brackets):
        alive = np.arange(first, first + bracket[0].num_trials)
        first += bracket[0].num_trials
        states: Pool | None = None
        for r, rung in enumerate(bracket):
            if r:
                chosen_key = jax.random.fold_in(jax.random.fold_in(key, b), r)
                best = rungs.survivors(
                    chosen_key, tables.returns[alive], tables.curves[alive], rung.num_trials,
                    stop_clearly_worse=stop_clearly_worse,
                )  # fmt: skip
                alive = alive[best]
            if not alive.size:
                break
            last = r == len(bracket) - 1
            name, points = f"bracket{b}-rung{r}", plan.points(b, r)
            agents = _agents(alive, run.num_seeds)
            if states is not None:
                states.retain(agents)
            rows, states = engine.run_rung(
                run, name, agents, plan.chunks(b, r), len(points), states,
                trim=_trimmer(tables, alive, points, keep) if last else None,
            )  # fmt: skip
            _note(tables, alive, r, rung.num_updates, points, rows)
            if r:
                engine.forget(run, f"bracket{b}-rung{r - 1}")
            if last:
                kept.merge(states)
                kept.retain(_agents(_best(tables, keep), run.num_seeds))
    return tables, kept


def _confirm(
    run: Engine, plan: plans.Plan, key: jax.Array, tables: _Tables, count: int, num_seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best trials again, from the beginning to the end, on fresh seeds and fresh episodes.

    Returns:
      The trials [K], and their returns [K, S', E].
    """
    best = np.sort(_best(tables, count)) if count else np.empty(0, int)
    if not best.size:
        return best, np.empty((0, num_seeds, run.programs[0].eval_episodes), np.float32)
    seed_key, eval_key = jax.random.split(jax.random.fold_in(key, 1))
    fresh = run._replace(seed_keys=_seed_keys(seed_key, num_seeds), eval_key=_data(eval_key))
    whole = plan._replace(brackets=((rungs.Rung(len(best), plan.num_updates),),))
    agents = _agents(best, num_seeds)
    rows, _ = engine.run_rung(
        fresh,
        "confirm",
        agents,
        whole.chunks(0, 0),
        len(plan.steps),
        None,
        trim=lambda _, __, pool: pool.retain(best[:0]),
    )
    return best, rows.returns.reshape(len(best), num_seeds, -1)


def _program(base: Program, static: Mapping[str, Any]) -> Program:
    """The program of a group of static choices.

    Raises:
      TypeError: there are choices for the agent, but `agent` is no function of them, or one builds no agent.
    """
    sizes = {name: static[name] for name in ("num_envs", "rollout_length") if name in static}
    check_positive(**sizes)
    rest = {name: value for name, value in static.items() if name not in sizes}
    if isinstance(base.agent, Agent):
        if rest:
            raise TypeError(f"static choices {', '.join(rest)} need a function from them to an agent, as `agent`")
        return base._replace(**sizes)
    agent = base.agent(**rest)
    if not isinstance(agent, Agent):
        raise TypeError(f"agent({trials_module.label(rest)}) returned {type(agent).__name__}, not an Agent")
    return base._replace(agent=agent, **sizes)


def _empty_tables(run: Engine, plan: plans.Plan) -> _Tables:
    count, num_seeds, num_episodes = run.trials.size, run.num_seeds, run.programs[0].eval_episodes
    num_rungs = max(len(bracket) for bracket in plan.brackets)
    return _Tables(
        curves=np.full((count, num_seeds, len(plan.steps)), np.nan, np.float32),
        returns=np.full((count, num_seeds, num_episodes), np.nan, np.float32),
        rungs=np.full((num_rungs, count, num_seeds, num_episodes), np.nan, np.float32),
        num_updates=np.zeros(count, int),
    )


def _note(tables: _Tables, trials: np.ndarray, rung: int, num_updates: int, points: np.ndarray, rows: Any) -> None:
    """Put what the agents of a rung gave back into the tables of their trials."""
    returns = rows.returns.reshape(len(trials), -1, rows.returns.shape[-1])
    tables.returns[trials] = tables.rungs[rung, trials] = returns
    tables.curves[trials[:, None], :, points] = np.moveaxis(rows.curves.reshape(len(trials), -1, len(points)), 1, 2)
    tables.num_updates[trials] = num_updates


def _best(tables: _Tables, count: int | None) -> np.ndarray:
    """The best trials among those that were trained furthest."""
    return rank(tables.returns, tables.curves, tables.num_updates)[: (tables.num_updates > 0).sum()][:count]


def _trimmer(
    tables: _Tables, trials: np.ndarray, points: np.ndarray, keep: int | None
) -> Callable[[Any, np.ndarray, Pool], None]:
    """Keeps the states of the best trials of a last rung as its blocks finish, and of those that lack seeds yet."""

    def trim(rows: Any, done: np.ndarray, pool: Pool) -> None:
        num_seeds = tables.returns.shape[1]
        agents = _agents(trials, num_seeds)
        together = np.isin(agents, done).reshape(-1, num_seeds)
        returns = rows.returns.reshape(*together.shape, -1)
        curves = tables.curves[trials]
        curves[:, :, points] = rows.curves.reshape(*together.shape, -1)
        whole = np.flatnonzero(together.all(axis=1))
        best = whole[rank(returns[whole], curves[whole])][:keep]
        wanted = np.union1d(best, np.flatnonzero(together.any(axis=1) & ~together.all(axis=1)))
        pool.retain(_agents(trials[wanted], num_seeds))

    return trim


def _block_size(num_agents: int) -> int:
    """The width that is fastest, where it fits: on CPUs what stays in their caches, on accelerators all."""
    return max(32, _CPU_BLOCK * jax.device_count()) if jax.default_backend() == "cpu" else num_agents


def _agents(trials: np.ndarray, num_seeds: int) -> np.ndarray:
    """The agents of some trials: seed s of trial p is agent p S + s."""
    return (trials[:, None] * num_seeds + np.arange(num_seeds)).reshape(-1)


def _seed_keys(key: jax.Array, num_seeds: int) -> np.ndarray:
    return _data(jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_seeds)))


def _data(key: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(key))


def _digest(trials: Trials, key: jax.Array) -> str:
    """SHA-256 of everything that is tried."""
    digest = hashlib.sha256(repr((trials.groups, sorted(trials.columns))).encode())
    for leaf in [*jax.tree.leaves((trials.hparams, trials.env_params)), trials.group, _data(key)]:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
