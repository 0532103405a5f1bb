"""The search: trials and seeds, trained rung by rung in blocks of one vmapped program, and ranked."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from purerl import loops
from purerl.distributed import is_main, num_parts
from purerl.hparams import check_positive
from purerl.prng import check_key
from purerl.sweep.results import statistics, storage
from purerl.sweep.results.loading import load
from purerl.sweep.results.result import Result
from purerl.sweep.run import brackets, engine, executors, journal, memory, rungs, tables
from purerl.sweep.run import plan as plans
from purerl.sweep.run.engine import Engine
from purerl.sweep.run.monitor import Monitor, Progress
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.programs import Program
from purerl.sweep.trials import spaces
from purerl.sweep.trials import trials as trials_module
from purerl.sweep.trials.draws import Method
from purerl.sweep.trials.trials import Trials
from purerl.types import Agent, Env, Hparams, PyTree

_CPU_BLOCK = 16  # agents on a core: PPO at 4 x 128 ran at 220k steps/s so, at 140k with 64 on a core


def search(
    key: jax.Array,
    agent: Agent | Callable[..., Agent],
    env: Env,
    hparams: Hparams,
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
    sizes: dict[str, Any] = {"num_seeds": num_seeds, "num_updates": plan.num_updates, "num_envs": num_envs}
    sizes |= {"rollout_length": rollout_length, "eval_max_steps": eval_max_steps, "num_chunks": len(plan.steps)}
    about: dict[str, Any] = {"eval_episodes": eval_episodes, "keep": keep, "confirm": [confirm, confirm_seeds]}
    about |= {"stop_clearly_worse": stop_clearly_worse, "block_size": block_size, "brackets": plan.brackets}
    with journal.opened(directory, resume=resume) as log:
        journal.check_same(log, sizes | about | {"trials": _digest(trials, key)})
        if log.find("end") and directory is not None:
            return load(directory, agent, env, trials.hparams)
        total = plan.total_steps(num_seeds) + min(confirm, trials.size) * confirm_seeds * plan.steps[-1]
        run = Engine(
            programs,
            trials,
            tables.empty(plan, trials.size, num_seeds, eval_episodes),
            brackets.keys_of_seeds(seed_key, num_seeds),
            brackets.key_data(eval_key),
            log,
            executor,
            Monitor(progress, total),
            block_size or _block_size(trials.size * num_seeds),
            memory.device_limit() if memory_limit is None else memory_limit,
        )
        run.monitor.report("compile")
        pool = brackets.run(run, plan, bootstrap_key, keep, stop_clearly_worse)
        fresh = brackets.confirm(run, plan, key, confirm, confirm_seeds)
        states = engine.agent_states(run, pool, pool.members)
        result = _result(run, plan, bootstrap_key, fresh, pool.members, states, sizes)
        if directory is not None and is_main():
            result.save(directory)
            log.add("end")
            shutil.rmtree(os.path.join(directory, "blocks"), ignore_errors=True)
    return result


def _result(
    run: Engine,
    plan: Plan,
    key: jax.Array,
    fresh: tuple[np.ndarray, np.ndarray],
    kept: np.ndarray,
    states: tuple[PyTree, ...],
    sizes: Mapping[str, Any],
) -> Result:
    """The result of a search that has ended; `sizes` are the settings that it was called with."""
    width = int((run.log.find("width", "bracket0-rung0-group0") or {"width": run.block_size})["width"])
    clock = {"seconds": run.monitor.seconds(), "steps_per_second": run.monitor.steps_per_second()}
    ran = {"width": width, "num_devices": num_parts(width), "brackets": plan.brackets}
    return Result(
        trials=run.trials,
        steps=plan.steps,
        **run.tables._asdict(),
        interval=statistics.bootstrap_interval(key, run.tables.returns.mean(axis=2, dtype=np.float64)),
        fresh_trials=fresh[0],
        fresh_returns=fresh[1],
        kept=kept,
        states=states,
        settings={**sizes, **ran, **clock, **storage.made_with()},
    )


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


def _block_size(num_agents: int) -> int:
    """The width that is fastest, where it fits: on CPUs what stays in their caches, on accelerators all."""
    return max(32, _CPU_BLOCK * jax.device_count()) if jax.default_backend() == "cpu" else num_agents


def _digest(trials: Trials, key: jax.Array) -> str:
    """SHA-256 of everything that is tried."""
    digest = hashlib.sha256(repr((trials.groups, sorted(trials.columns))).encode())
    for leaf in [*jax.tree.leaves((trials.hparams, trials.env_params)), trials.group, brackets.key_data(key)]:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
