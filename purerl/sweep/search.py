"""The search: trials and seeds, trained rung by rung in blocks of one vmapped program, and ranked."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from purerl import loops
from purerl.distributed import is_main, num_parts, wait_for_all
from purerl.hparams import cast, check_env_params, check_instance, check_positive
from purerl.loops.checking import check_agent
from purerl.loops.evaluation import cut_episodes_at
from purerl.prng import check_key
from purerl.sweep.results import pareto as fronts
from purerl.sweep.results import rules as rules_module
from purerl.sweep.results import statistics, storage
from purerl.sweep.results.loading import load
from purerl.sweep.results.objectives import Objective
from purerl.sweep.results.ranking import Criterion
from purerl.sweep.results.result import Result
from purerl.sweep.results.rules import DEFAULT_TIES, scores_of
from purerl.sweep.run import (
    asynchronous,
    blocks,
    brackets,
    executors,
    extension,
    fastest,
    identity,
    journal,
    measurements,
    memory,
    records,
    rungs,
    unfinished,
)  # fmt: skip
from purerl.sweep.run.brackets import Fresh
from purerl.sweep.run.budget import Budget, Enough
from purerl.sweep.run.engine import Engine, agent_states, check_programs, num_parameters
from purerl.sweep.run.extension import Part
from purerl.sweep.run.fingerprint import digest_of
from purerl.sweep.run.monitor import Monitor, Progress
from purerl.sweep.run.plan import Plan
from purerl.sweep.run.pool import Pool
from purerl.sweep.run.programs import Program, with_choices
from purerl.sweep.run.work import Callback
from purerl.sweep.trials import spaces
from purerl.sweep.trials.algorithms import AgentSource
from purerl.sweep.trials.draws import Method
from purerl.sweep.trials.grids import EnvGrid
from purerl.sweep.trials.trials import Constraint, Trials, first_trials
from purerl.sweep.trials.trials import make as make_trials
from purerl.types import Agent, Env, Hparams, PyTree


def search(
    key: jax.Array,
    agent: AgentSource,
    env: Env,
    hparams: Hparams,
    space: spaces.SearchSpace | None = None,
    *,
    num_trials: int | None = None,
    num_seeds: int | Literal["auto"] = 3,
    num_updates: int,
    num_envs: int,
    rollout_length: int,
    schedule: rungs.Schedule = rungs.full,
    method: Method = "random",
    static: Mapping[str, spaces.Choice] | None = None,
    env_params: PyTree = None,
    constraint: Constraint | None = None,
    rollout: Callable[..., Any] = loops.rollout,
    block_size: int | Literal["measured"] | None = None,
    memory_limit: float | None = None,
    num_chunks: int = 20,
    eval_episodes: int = 16,
    eval_max_steps: int | None = None,
    evaluate_in: Literal["reference", "own"] | EnvGrid = "reference",
    objective: Objective | str = "return",
    pareto: Sequence[Objective | str] = (),
    ties: tuple[Criterion, ...] = DEFAULT_TIES,
    threshold: float | None = None,
    curve: str = "episode_return",
    stop_clearly_worse: bool = False,
    until: float | None = None,
    max_steps: float | None = None,
    max_seconds: float | None = None,
    confirm: int = 0,
    confirm_seeds: int = 8,
    keep: int | None = 10,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    save_seconds: float = 300.0,
    replay: int | None = None,
    executor: executors.Executor = executors.local,
    progress: Callable[[Progress], None] | None = None,
    callbacks: Sequence[Callback] = (),
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
      num_seeds: training runs of each trial, S. "auto": 3, and then up to `confirm_seeds` fresh ones, four at a time,
        for the trials among which the best is still undecided; see `brackets.decide`.
      num_updates, num_envs, rollout_length, rollout: as in `loops.train`, for each agent. Trials with another
        `num_envs` or `rollout_length` among their static choices make the number of updates that comes nearest to the
        same number of environment steps.
      schedule: `full` (all trials to the end), `successive_halving(...)`, `hyperband(...)`, `asha(...)`, or a function
        from (P, num_updates) to brackets of rungs. After each rung all of its agents are evaluated, and the best trials
        by `rungs.survivors` continue where they stopped.
      method: "random", or "sobol" for a low-discrepancy sequence.
      static: a mapping from names of static choices to `choice([...])`; each combination compiles once.
      env_params: parameters of the environment; None takes its own.
      constraint: a function from a trial's settings, by name, to whether they are allowed.
      block_size: largest number of agents in one program; None takes 16 per CPU core, and all agents on accelerators,
        or as many as fit into memory. "measured" tries which number trains fastest on this machine, which compiles
        three or four programs, and remembers it beside the compile cache, if there is one.
      memory_limit: bytes that a block may take on each device; None takes most of the free memory.
      num_chunks: approximate number of parts that a run is cut into, for progress and as points of learning curves.
      eval_episodes: greedy episodes of each agent after each rung; their mean is the agent's return.
      eval_max_steps: length at which such an episode is cut, in steps; None: the environment's own limit, or 1,000.
      evaluate_in: if `env.` parameters are searched, "reference" evaluates every trial in the environment of
        `env_params`, so that the easiest environment does not win; "own" in the one that it was trained in; an
        `EnvGrid` in its environments, with as many episodes in each.
      objective: what is optimised: a `sweep.Objective`, or a text such as "area" or "steps:475", see
        `objectives.parse`.
      pareto: further objectives, or the costs "steps", "seconds" and "parameters". Trials are ranked by `objective`
        alone; those that no other one beats in all of them are the Pareto front, see `sweep.front`.
      ties: criteria that order trials with equal objectives; see `ranking.criteria`.
      threshold: of the criterion "threshold".
      curve: the metric of the learning curves, such as "episode_end/success"; see `loops.train`. "eval_return": at the
        end of every chunk all agents play the greedy episodes of the evaluation, so that objectives such as "steps:475"
        are those of greedy policies. One evaluation costs `eval_episodes` episodes of each agent.
      stop_clearly_worse: see `rungs.survivors`.
      until: stop when a trial's objective is this good after a rung or, with `curve="eval_return"`, after a chunk of a
        block that holds all of its seeds. Then, and when a budget is spent, what was measured so far is the result, and
        the search can be resumed with other limits.
      max_steps: stop when all agents together have made so many environment steps.
      max_seconds: stop after this time, earlier processes included.
      confirm: number of the best trials that are trained again to the end on fresh seeds, and evaluated on fresh
        episodes: the return of the best of many is optimistic, that of its repetition is not. They then rank by it.
      confirm_seeds: number of fresh seeds.
      keep: number of the best trials whose trained states are kept; None: all that were trained to the end.
      directory: everything is written there as it finishes, so that an interrupted search can be resumed; at the end
        it holds what `Result.save` writes. None keeps everything in memory.
      resume: resume the search in `directory`, which must have been begun with the same arguments, apart from limits
        and the machine. Finished blocks are not run again. On a machine with less memory or another number of devices
        the remaining ones round differently, which `progress` is told. With a larger `num_trials`, `num_seeds` or
        `num_updates` the search grows, see `extension`: added trials follow the schedule among themselves, added seeds
        take each trial as far as its first ones, and added updates train the trials further whose states were kept.
      save_seconds: with a directory, the running block is saved as often, so that a crash loses no more training.
      replay: number of a trial of the search in `directory`, which must be resumed: it alone is trained again, with all
        its seeds, in blocks as wide as then, so that it is the same, bit for bit. Nothing is written.
      executor: runs the blocks: `executors.local`, or `ray_executor.on_ray(...)`.
      progress: called with a `Progress` before the first chunk, after each chunk, and before each evaluation.
      callbacks: called in order, as `callback(chunk)` with a `sweep.Chunk`, after every chunk of a block; one that
        returns True ends the search as a spent budget does. Chunks of earlier processes are not repeated. See
        `save_best` and `when_best`.

    Returns:
      The `Result`. It holds O(P · S · (num_chunks + eval_episodes)) numbers on the host, and the states that are kept.

    Raises:
      TypeError, ValueError: a size is not positive, the schedule leaves trials out, or a space, an objective or a grid
        of environments does not fit; all before anything is compiled. Also if
        `directory` was begun with other arguments, or with another agent, environment or rollout.
      FileExistsError, FileNotFoundError: `directory` holds a search and `resume` is not set, or the reverse.
      BlockingIOError: another process works in `directory`.
      TypeError: `agent` is an environment, or `hparams` the class of the hyperparameters.
      MemoryError: not even one agent per device fits into `memory_limit`.

    Warns:
      UserWarning: the environment has no time limit and `eval_max_steps` is None, so that episodes are cut at 1,000.

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
      ...     max_steps=1,
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
      ['#', 'return', 'range', 'seeds', 'action']
    """
    check_key(key)
    if isinstance(agent, Agent | Env):
        check_agent(agent)
    check_instance(hparams)
    check_env_params(env_params)
    eval_max_steps = cut_episodes_at(env, env_params) if eval_max_steps is None else eval_max_steps
    auto, num_seeds = num_seeds == "auto", 3 if num_seeds == "auto" else num_seeds
    size = fastest.given(block_size)
    sizes: dict[str, Any] = {"num_seeds": num_seeds, "num_updates": num_updates, "num_envs": num_envs}
    sizes |= {"rollout_length": rollout_length, "eval_max_steps": eval_max_steps, "num_chunks": num_chunks}
    check_positive(**sizes, eval_episodes=eval_episodes, confirm_seeds=confirm_seeds)
    check_positive(keep=1 if keep is None else keep, block_size=1 if size is None else size)
    if block_size == fastest.MEASURED and (jax.process_count() > 1 or executors.num_parallel(executor) > 1):
        raise ValueError("block_size = 'measured' is for a search in one process on one machine: give a number")
    if isinstance(confirm, bool) or confirm != int(confirm) or confirm < 0:
        raise ValueError(f"confirm = {confirm} must be a whole number of trials, 0 for none")
    rules, goals = rules_module.make(objective, ties, threshold), (objective, *pareto) if pareto else ()
    fronts.check(goals)
    sample_key, seed_key, eval_key, bootstrap_key = jax.random.split(key, 4)
    drawing: Any = {"method": method, "static": static, "env_params": env_params, "constraint": constraint}
    trials = make_trials(sample_key, hparams, space, num_trials, **drawing)
    impl = str(jax.random.key_impl(key))
    base = Program(agent, env, num_envs, rollout_length, rollout, eval_episodes, eval_max_steps, impl, curve)  # type: ignore
    programs = tuple(with_choices(base, group) for group in trials.groups)
    found = extension.sizes(directory if resume else None, trials.size, num_seeds, num_updates)
    first, plan = (
        extension.make_plan(schedule, each, programs, base.update_steps, num_chunks) for each in (found.first, found)
    )
    sizes |= {"num_updates": plan.num_updates, "num_chunks": len(plan.steps), "curve": curve}
    eval_params, where = _environments(trials, evaluate_in, eval_episodes)
    goal = {name: value for name, value in rules.objective._asdict().items() if name != "measure"}
    judged: dict[str, Any] = {"objective": goal, "ties": ties, "threshold": threshold}
    judged |= {"pareto": fronts.about(goals)} if goals else {}
    about: dict[str, Any] = {"eval_episodes": eval_episodes, "eval_max_steps": eval_max_steps, "keep": keep}
    about |= {"confirm": [confirm, confirm_seeds], "auto": auto, "evaluate_in": where} | judged
    about |= {"stop_clearly_worse": stop_clearly_worse, "block_size": block_size, "brackets": first.brackets}
    about |= {"function of the objective": identity.of_function(rules.objective.measure)}
    about |= identity.parts_of("parameter of the environment of the evaluation", eval_params)
    fresh_agents = 0 if auto else min(confirm, trials.size) * confirm_seeds  # of auto nobody knows before
    with journal.opened(directory, resume=resume) as log:
        began: dict[str, Any] = {"num_seeds": found.seeds[0], "num_chunks": len(first.steps)}
        began |= {"num_updates": first.num_updates}
        first_ones = first_trials(trials, found.trials[0])
        began["trials"] = extension.digest(first_ones, key)  # in one, as in journals of earlier versions
        identity.check(log, {**_origin(key, first_ones, schedule), **sizes, **about, **began})
        grown = extension.record(log, found, trials, key)
        so_far = {**sizes, **judged, "eval_episodes": eval_episodes, "parts_of_seeds": found.seeds}
        unfinished.record(log, trials, plan, so_far, anew=grown)
        run = Engine(
            programs, trials, measurements.empty(plan, trials.size, num_seeds, eval_episodes),
            brackets.keys_of_seeds(seed_key, num_seeds), brackets.key_data(eval_key), log, executor,
            Monitor(progress, plan.total_steps(num_seeds, fresh_agents)),
            size or blocks.default_size(trials.size * num_seeds, executors.num_parallel(executor)),
            block_size == fastest.MEASURED, memory.device_limit(memory_limit),
            rules, eval_params, save_seconds, Budget(until, max_steps, max_seconds), tuple(callbacks),
        )  # fmt: skip
        check_programs(run)
        if replay is not None:
            alone = journal.in_memory(log, "width", "compiled", "limit", "fastest")
            run, keep = run._replace(log=alone, budget=Budget()), None
            parts = extension.parts(run, plan, found)
            pools = [brackets.replay(part.engine, part.plan, replay, log) for part in parts]
            again = brackets.confirm(run, plan, key, 0, 1)
            return _finish(run, plan, bootstrap_key, again, parts, pools, goals, {**sizes, **judged})
        if directory is not None and extension.is_finished(log, found):
            return load(directory, agent, env, trials.hparams)
        note = extension.describe(found) if grown else rungs.describe(plan.brackets, plan.update_steps)
        run.monitor.report("compile", note=note)
        keep = keep if keep is None else max(keep, confirm, brackets.MOST_TRIALS * auto)
        parts = extension.parts(run, plan, found)
        pools, enough = _train(run, plan, parts, schedule, bootstrap_key, keep, stop_clearly_worse)
        parts = parts[: len(pools)]
        run = extension.of_first_seeds(run, sum(part.engine.member_index.num_seeds for part in parts))
        extension.retain_best(run, parts, pools, keep, delete=enough is None)
        train_again = brackets.decide if auto else brackets.confirm
        spent = enough is not None and not enough.reached
        name = "" if found == found.first else "x".join(str(sum(part)) for part in found.counts.values()) + "-"
        try:
            fresh = train_again(run, plan, key, 0 if spent else confirm, confirm_seeds, name)
        except Enough as error:
            enough, fresh = error, brackets.confirm(run, plan, key, 0, confirm_seeds)
        stopped = {} if enough is None else {"stopped": str(enough), "until": until}
        return _finish(run, plan, bootstrap_key, fresh, parts, pools, goals, {**sizes, **judged, **stopped})


def _origin(key: jax.Array, trials: Trials, schedule: rungs.Schedule) -> dict[str, Any]:
    """The part of the definition of a search that is about its trials: key, hyperparameters, environment, schedule."""
    found = identity.surroundings() | identity.parts_of("key", key)
    found |= identity.parts_of("hyperparameter", trials.hparams)
    found |= identity.parts_of("parameter of the environment", trials.env_params)
    found |= identity.parts_of("static choice", trials.group) | {"static choices": trials.groups}
    return found | {"asha": schedule.eta if isinstance(schedule, rungs.Asha) else None}


def _train(
    run: Engine,
    plan: Plan,
    parts: Sequence[Part],
    schedule: rungs.Schedule,
    key: jax.Array,
    keep: int | None,
    stop_clearly_worse: bool,
) -> tuple[list[Pool], Enough | None]:
    """Train all trials, then the seeds that were added: states by part, and why the search stopped early, if it did."""
    first = parts[0].engine
    if isinstance(schedule, rungs.Asha):
        pool, enough = asynchronous.run(first, plan, schedule.eta)
        pool.retain(first.member_index.of_trials(brackets.best_trials(first, keep)), delete=enough is None)
    else:
        pool, enough = brackets.run(first, plan, key, keep, stop_clearly_worse)
    if enough is not None:
        return [pool], enough
    added, enough = extension.run_added(run, parts, keep)
    return [pool, *added], enough


def _finish(
    run: Engine,
    plan: Plan,
    key: jax.Array,
    fresh: Fresh,
    parts: Sequence[Part],
    pools: Sequence[Pool],
    goals: Sequence[Objective | str],
    settings: Mapping[str, Any],
) -> Result:
    """The result of a search, with the states that are left in the pool; saved beside the journal."""
    width = int((run.log.find("width", "bracket0-rung0-group0") or {"width": run.block_size})["width"])
    clock = {"seconds": run.monitor.seconds(), "steps_per_second": run.monitor.steps_per_second()}
    clock |= {"environment_steps": run.monitor.steps}
    failed = {name: event["message"] for name, event in run.log.all("failed").items()}
    measured, ran = run.measured.fields(), {"width": width, "num_devices": num_parts(width), "brackets": plan.brackets}
    ran |= {"num_seeds": len(run.seed_keys), "parameters": num_parameters(run)}
    kept = np.concatenate([part.members_of(run, pool.members) for part, pool in zip(parts, pools)])
    states = [state for part, pool in zip(parts, pools) for state in agent_states(part.engine, pool, pool.members)]
    order = np.argsort(kept)
    result = Result(
        trials=run.trials,
        steps=plan.steps,
        **measured,
        interval=statistics.bootstrap_interval(key, measured["returns"].mean(axis=2, dtype=np.float64)),
        fresh_trials=fresh.trials,
        fresh_returns=fresh.returns,
        kept=kept[order],
        states=tuple(states[place] for place in order),
        settings={**settings, **ran, **clock, **({"failed": failed} if failed else {}), **storage.made_with()},
        scores=scores_of(run.rules, run.measured.evidence()._replace(returns=measured["returns"])),
        fresh_scores=fresh.scores,
        fresh_counts=fresh.counts,
        fresh_skipped=fresh.skips.number,
        fresh_skipped_after=fresh.skips.after,
    )
    result = dataclasses.replace(result, pareto=fronts.values_of(result, goals)) if goals else result
    if run.log.directory is not None:
        wait_for_all()  # all have read the states that the main process deletes now
    if run.log.directory is not None and is_main():
        result.save(run.log.directory)
        if "stopped" not in settings:
            further = extension.may_continue(run, plan, kept)
            for part, pool in zip(parts, pools):
                records.keep(part.engine, pool)
            size: Any = run.log.find("size")
            run.log.add("end", **{name: sum(size[name]) for name in ("trials", "seeds", "updates")}, kept=further)
            shutil.rmtree(run.log.directory / "blocks", ignore_errors=True)
    return result


def _environments(trials: Trials, evaluate_in: str | EnvGrid, num_episodes: int) -> tuple[PyTree, str]:
    """The parameters of the environments of evaluations, leaves [Q, ...], and a record of them; None: each its own.

    Raises:
      ValueError: it is unknown, or the episodes cannot be shared out evenly.
    """
    if isinstance(evaluate_in, EnvGrid):
        rows = len(jax.tree.leaves(evaluate_in.env_params)[0])
        if num_episodes % rows:
            raise ValueError(
                f"eval_episodes = {num_episodes} must be a multiple of the {rows} environments of the grid"
            )
        params = jax.tree.map(np.asarray, cast(evaluate_in.env_params))
        return params, digest_of(params)
    if evaluate_in not in ("reference", "own"):
        raise ValueError(f"evaluate_in = {evaluate_in!r} must be 'reference', 'own' or an EnvGrid")
    if evaluate_in == "own" or trials.reference is None:
        return None, evaluate_in
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], trials.reference), evaluate_in
