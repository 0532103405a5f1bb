"""The search: trials and seeds, trained rung by rung in blocks of one vmapped program, and ranked."""

from __future__ import annotations

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
from purerl.sweep.run import brackets, engine, executors, journal, measurements, memory, rungs
from purerl.sweep.run import plan as plans
from purerl.sweep.run.engine import Engine
from purerl.sweep.run.fingerprint import digest_of
from purerl.sweep.run.monitor import Monitor, Progress
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.programs import Program
from purerl.sweep.trials import spaces
from purerl.sweep.trials.draws import Method
from purerl.sweep.trials.trials import Trials, label
from purerl.sweep.trials.trials import make as make_trials
from purerl.types import Agent, Env, Hparams, PyTree

_CPU_BLOCK = 16  # members per core: PPO at 4 x 128 ran at 220k steps/s, and at 140k with 64 per core


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
    """Train every trial with every seed, stop the worse ones early if the schedule says so, and rank them.

    The agents of a rung, trial by trial and seed by seed, are cut into equal blocks, the last one filled up with
    repeats, so that one compiled program serves all. Seed s is the same key in every trial: trials share their random
    numbers and differ only in what is searched. The same arguments give the same bits at the same width of the blocks;
    another width rounds differently, which training then amplifies.

    Args:
      key: typed key.
      agent: any agent; or, with static choices of other names than `num_envs` and `rollout_length`, a function that
        takes these as keywords and returns the agent.
      env: the environment.
      hparams: the agent's hyperparameters: the values of those that the space leaves out. Without a space, a table of
        trials, leaves [P], as `sample` and `grid` return, or `Trials`.
      space: a mapping from names of hyperparameters, and `env.` with fields of `env_params`, to spaces or constants.
      num_trials: number of trials P to draw from the space; None takes its grid.
      num_seeds: training runs of each trial, S.
      num_updates, num_envs, rollout_length, rollout: as in `loops.train`, for each agent. Trials with another
        `num_envs` or `rollout_length` among their static choices make the number of updates that comes nearest to the
        same number of environment steps.
      schedule: `full` (all trials to the end), `successive_halving(...)`, `hyperband(...)`, or a function from
        (P, num_updates) to brackets of rungs. After each rung all of its agents are evaluated, and the best trials by
        `rungs.survivors` continue where they stopped.
      method: "random", or "sobol" for a low-discrepancy sequence.
      static: a mapping from names of static choices to `choice([...])`; each combination compiles once.
      env_params: parameters of the environment; None takes its own.
      block_size: largest number of agents in one program; None takes 16 per CPU core, and all agents on accelerators,
        or as many as fit into memory.
      memory_limit: bytes that a block may take on each device; None takes most of the free memory.
      num_chunks: approximate number of parts that a run is cut into, for progress and as points of learning curves.
      eval_episodes: greedy episodes of each agent after each rung; their mean is the agent's return.
      eval_max_steps: length at which such an episode is cut, in steps.
      stop_clearly_worse: see `rungs.survivors`.
      confirm: number of the best trials that are trained again to the end on fresh seeds, and evaluated on fresh
        episodes: the return of the best of many is optimistic, that of its repetition is not.
      confirm_seeds: number of fresh seeds.
      keep: number of the best trials whose trained states are kept; None: all that were trained to the end.
      directory: everything is written there as it finishes, so that an interrupted search can be resumed; at the end
        it holds what `Result.save` writes. None keeps everything in memory.
      resume: resume the search in `directory`, which must have been begun with the same arguments. Finished blocks are
        not run again.
      executor: runs the blocks: `executors.local`, or `ray_executor.on_ray(...)`.
      progress: called with a `Progress` before the first chunk, after each chunk, and before each evaluation.

    Returns:
      The `Result`. It holds O(P · S · (num_chunks + eval_episodes)) numbers on the host, and the states that are kept.

    Raises:
      TypeError, ValueError: a size is not positive, or a space does not fit; all before anything is compiled. Also if
        `directory` was begun with other arguments, or with another agent, environment or rollout.
      FileExistsError, FileNotFoundError: `directory` holds a search and `resume` is not set, or the reverse.
      BlockingIOError: another process works in `directory`.
      MemoryError: not even one agent per device fits into `memory_limit`.

    Examples:
      >>> from typing import NamedTuple
      >>> import jax.numpy as jnp
      >>> from purerl import sweep, types
      >>> class Hparams(NamedTuple):
      ...     action: float = 0.0
      >>> class State(NamedTuple):
      ...     hparams: Hparams
      >>> env = types.Env(  # one step, whose reward is the action
      ...     reset=lambda key, env_params=None: (jnp.zeros(1), jnp.int32(0)),
      ...     step=lambda key, state, action, env_params=None: types.EnvStep(
      ...         jnp.zeros(1), state, action, jnp.bool_(True), jnp.bool_(False)
      ...     ),
      ...     observation_space=types.Box(0, 0, (1,)),
      ...     action_space=types.Box(-1, 1),
      ... )
      >>> agent = types.Agent(
      ...     init=lambda key, hparams, example, num_envs=1: State(hparams),
      ...     act=lambda key, state, obs: (state.hparams.action, ()),
      ...     update=lambda key, state, data: (state, {}),
      ... )
      >>> space = {"action": sweep.choice([0.25, 0.75, 0.5])}
      >>> result = search(jax.random.key(0), agent, env, Hparams(), space, num_updates=1, num_envs=1, rollout_length=1)
      >>> result.iqm.tolist(), result.best.hparams, result.best.settings
      ([0.25, 0.75, 0.5], Hparams(action=0.75), {'action': 0.75})
      >>> [str(column.header) for column in sweep.table(result, width=80).columns]
      ['#', 'return', '95% interval', 'seeds', 'action']
    """
    check_key(key)
    sizes = {"num_seeds": num_seeds, "num_updates": num_updates, "num_envs": num_envs, "rollout_length": rollout_length}
    sizes |= {"eval_max_steps": eval_max_steps, "num_chunks": num_chunks}
    check_positive(**sizes, eval_episodes=eval_episodes, confirm_seeds=confirm_seeds)
    check_positive(keep=1 if keep is None else keep, block_size=1 if block_size is None else block_size)
    sample_key, seed_key, eval_key, bootstrap_key = jax.random.split(key, 4)
    trials = make_trials(sample_key, hparams, space, num_trials, method=method, static=static, env_params=env_params)
    impl = str(jax.random.key_impl(key))
    base = Program(agent, env, num_envs, rollout_length, rollout, eval_episodes, eval_max_steps, impl)  # type: ignore
    programs = tuple(_program(base, group) for group in trials.groups)
    plan = plans.make(schedule(trials.size, num_updates), programs, base.update_steps, trials.size, num_chunks)
    sizes |= {"num_updates": plan.num_updates, "num_chunks": len(plan.steps)}
    about: dict[str, Any] = {"eval_episodes": eval_episodes, "keep": keep, "confirm": [confirm, confirm_seeds]}
    about |= {"stop_clearly_worse": stop_clearly_worse, "block_size": block_size, "brackets": plan.brackets}
    with journal.opened(directory, resume=resume) as log:
        journal.check_same(log, {**sizes, **about, "trials": _digest(trials, key)})
        run = Engine(
            programs, trials, measurements.empty(plan, trials.size, num_seeds, eval_episodes),
            brackets.keys_of_seeds(seed_key, num_seeds), brackets.key_data(eval_key), log, executor,
            Monitor(progress, plan.total_steps(num_seeds, min(confirm, trials.size) * confirm_seeds)),
            block_size or _block_size(trials.size * num_seeds), memory.device_limit(memory_limit),
        )  # fmt: skip
        engine.check_programs(run)
        if log.find("end") and directory is not None:
            return load(directory, agent, env, trials.hparams)
        run.monitor.report("compile", note=rungs.describe(plan.brackets, plan.update_steps))
        pool = brackets.run(run, plan, bootstrap_key, keep, stop_clearly_worse)
        fresh = brackets.confirm(run, plan, key, confirm, confirm_seeds)
        return _finish(run, plan, bootstrap_key, fresh, pool, sizes)


def _finish(
    run: Engine,
    plan: Plan,
    key: jax.Array,
    fresh: tuple[np.ndarray, np.ndarray],
    pool: Pool,
    sizes: Mapping[str, int],
) -> Result:
    """The result of a search, with the states that are left in the pool; saved beside the journal."""
    width = int((run.log.find("width", "bracket0-rung0-group0") or {"width": run.block_size})["width"])
    clock = {"seconds": run.monitor.seconds(), "steps_per_second": run.monitor.steps_per_second()}
    ran = {"width": width, "num_devices": num_parts(width), "brackets": plan.brackets}
    result = Result(
        trials=run.trials,
        steps=plan.steps,
        **run.measured._asdict(),
        interval=statistics.bootstrap_interval(key, run.measured.returns.mean(axis=2, dtype=np.float64)),
        fresh_trials=fresh[0],
        fresh_returns=fresh[1],
        kept=pool.members,
        states=engine.agent_states(run, pool, pool.members),
        settings={**sizes, **ran, **clock, **storage.made_with()},
    )
    if run.log.directory is not None and is_main():
        result.save(run.log.directory)
        run.log.add("end")
        shutil.rmtree(run.log.directory / "blocks", ignore_errors=True)
    return result


def _program(base: Program, static: Mapping[str, Any]) -> Program:
    """The program of a group of static choices.

    Raises:
      TypeError: there are choices for the agent, but `agent` is not a function of them, or it does not return an agent.
    """
    sizes = {name: static[name] for name in ("num_envs", "rollout_length") if name in static}
    check_positive(**sizes)
    rest = {name: value for name, value in static.items() if name not in sizes}
    if isinstance(base.agent, Agent):
        if rest:
            raise TypeError(f"static choices {', '.join(rest)} need `agent` to be a function from them to an agent")
        return base._replace(**sizes)
    agent = base.agent(**rest)
    if not isinstance(agent, Agent):
        raise TypeError(f"agent({label(rest)}) returned {type(agent).__name__}, not an Agent")
    return base._replace(agent=agent, **sizes)


def _block_size(num_agents: int) -> int:
    """The fastest width if it fits into memory: on CPUs what stays in their caches, on accelerators all members."""
    return max(32, _CPU_BLOCK * jax.device_count()) if jax.default_backend() == "cpu" else num_agents


def _digest(trials: Trials, key: jax.Array) -> str:
    """SHA-256 of all trials, and of the key."""
    names = repr((trials.groups, sorted(trials.columns)))
    return digest_of({names: (trials.hparams, trials.env_params, trials.group)}, key)
