"""Population-based training: hyperparameters that change while the agents learn, found in one compiled program."""

from __future__ import annotations

import functools
import operator
import os
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from purerl import loops
from purerl.distributed import is_main, num_parts, to_host
from purerl.hparams import cast, check_env_params, check_positive, get_hparams
from purerl.loops.evaluation import cut_episodes_at
from purerl.pbt import pb2, snapshots
from purerl.pbt.initial import first_members
from purerl.pbt.result import PBTResult, load_pbt
from purerl.pbt.rounds import Lineage, Population, Rounds, advance, padded_size, rounds, start
from purerl.pbt.snapshots import Standing
from purerl.sweep.results import storage
from purerl.sweep.results.result import Result
from purerl.sweep.run import fingerprint, identity, journal
from purerl.sweep.run.fingerprint import digest_of
from purerl.sweep.run.journal import Journal
from purerl.sweep.run.programs import MemberData, Program
from purerl.sweep.trials import spaces
from purerl.sweep.trials.spaces import SearchSpace, check_space
from purerl.types import Agent, Env, Hparams, PyTree

# The fields of `Rounds` that are plain data, which the journal records.
_RECORDED = (
    "updates", "rollout_length", "eval_episodes", "eval_max_steps", "num_replaced", "resample_probability", "factors"
)  # fmt: skip


class PBTProgress(NamedTuple):
    """The progress of population-based training, as its `progress` callback sees it after every chunk of rounds.

    Attributes:
      round, num_rounds: rounds so far, and in total.
      seconds: since the beginning, including compiling and earlier processes of a resumed run.
      best_score, median_score: over the members that have not diverged in the last round; NaN if all have.
      population: the whole population; its memory is given to the next chunk when the callback returns.
    """

    round: int
    num_rounds: int
    seconds: float
    best_score: float
    median_score: float
    population: Population


def pbt(
    key: jax.Array,
    agent: Agent,
    env: Env,
    hparams: Hparams,
    space: SearchSpace,
    *,
    population_size: int,
    num_rounds: int,
    updates_per_round: int,
    num_envs: int,
    rollout_length: int,
    env_params: PyTree = None,
    rollout: Callable[..., Any] = loops.rollout,
    exploit_fraction: float = 0.2,
    resample_probability: float = 0.25,
    perturb_factors: tuple[float, ...] = (0.8, 1.2),
    explore: Literal["perturb", "pb2"] = "perturb",
    num_elites: int = 0,
    initial: Result | Hparams | None = None,
    eval_episodes: int = 8,
    eval_max_steps: int | None = None,
    lineage: Lineage | None = None,
    rounds_per_chunk: int | None = None,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[PBTProgress], None] | None = None,
) -> PBTResult:
    """Train a population whose hyperparameters change while it learns.

    The score of a round is the mean return of greedy episodes after its training: the same episodes for all members,
    others in every round. Training returns would be free, but they belong to policies that have since changed, include
    exploration, which is itself searched, and are missing if no episode ended in a short round.

    It compiles once for an agent, environment, space and set of sizes. The same arguments give the same bits, whatever
    the chunks.

    Args:
      key: typed key.
      agent, env, env_params, num_envs, rollout_length, rollout: as in `loops.train`.
      hparams: the agent's hyperparameters: the values of those that the space leaves out, which never change.
      space: a mapping from names of hyperparameters to spaces or constants; the first values are drawn from it.
      population_size: members P, at least 2.
      num_rounds: rounds R.
      updates_per_round: updates of each member between two decisions.
      exploit_fraction: share of the population that is replaced in a round, rounded, at least one member; at most 1/2.
        With 0 every member keeps its learner and its hyperparameters.
      resample_probability, perturb_factors: how copied hyperparameters change, see `exploit_explore.explore`.
      explore: "perturb", or "pb2": a Gaussian process chooses the hyperparameters of a copy, see `pb2`. It decides on
        the host, one round at a time.
      num_elites: backtracking: as many of the best learners of earlier rounds are kept, and members copy these too, see
        `backtracking`. Only with explore="perturb", and without `lineage`.
      initial: hyperparameters of the first members: of the best trials of a search, or a table with leaves [n], n <= P.
        The space draws those of the others, and of all with None.
      eval_episodes: number of greedy episodes of a score.
      eval_max_steps: the length at which they are cut; None: the environment's own limit, or 1,000.
      lineage: of an earlier run of R rounds and P members, whose decisions are repeated. With the same key and sizes
        that run is reproduced bit for bit, since the same program is given the decisions it would make.
      rounds_per_chunk: rounds in one call of the program; None: all, or 1 with `progress` or a directory.
      directory: everything is written there after each chunk, so that an interrupted run can be resumed; at the end it
        holds what `PBTResult.save` writes. None keeps everything in memory.
      resume: resume the run in `directory`, which must have been begun with the same arguments. Finished rounds are not
        run again.
      progress: called after every chunk.

    Returns:
      A `PBTResult`.

    Raises:
      TypeError: `key` is not a typed key, a space has the wrong type, or `initial` or the lineage has other fields than
        the hyperparameters.
      ValueError: a size, fraction or probability is out of range, a space does not fit the hyperparameters, `initial`
        is out of range, the lineage has other sizes, or `directory` was begun with other arguments, or with another
        agent, environment or rollout.
      FileExistsError, FileNotFoundError: `directory` holds a run and `resume` is not set, or the reverse.
      BlockingIOError: another process works in `directory`.

    Source: Jaderberg et al. 2017, arXiv:1711.09846, algorithm 1; synchronous, since all members are one program.
    """
    check_positive(num_rounds=num_rounds, rounds_per_chunk=rounds_per_chunk or 1)
    check_env_params(env_params)
    hparams, searched = check_space(hparams, space)
    eval_max_steps = cut_episodes_at(env, env_params) if eval_max_steps is None else eval_max_steps
    program = rounds(
        agent, env, searched, population_size=population_size, updates_per_round=updates_per_round,
        rollout_length=rollout_length, rollout=rollout, eval_episodes=eval_episodes, eval_max_steps=eval_max_steps,
        exploit_fraction=exploit_fraction, resample_probability=resample_probability, perturb_factors=perturb_factors,
        num_elites=num_elites,
    )  # fmt: skip
    if explore not in ("perturb", "pb2"):
        raise ValueError(f"explore = {explore!r} must be 'perturb' or 'pb2'")
    if num_elites and (explore == "pb2" or lineage is not None):
        given = "a lineage" if lineage is not None else "explore = 'pb2'"
        raise ValueError(f"num_elites = {num_elites} cannot be combined with {given}: leave out one of them")
    table = first_members(initial, hparams, population_size)
    told = None if lineage is None else _check_lineage(lineage, hparams, num_rounds, population_size)
    sizes = {"population_size": population_size, "num_rounds": num_rounds, "num_envs": num_envs}
    settings = sizes | {name: getattr(program, name) for name in _RECORDED}
    settings |= {"num_elites": num_elites or None}  # as in the journals of runs that do not name it
    origin = identity.surroundings() | {"explore": explore, "space": spaces.to_json(searched)}
    for name, part in (
        ("key", key), ("hyperparameter", hparams), ("parameter of the environment", env_params),
        ("part of the lineage", lineage), ("initial hyperparameter", table),
    ):  # fmt: skip
        origin |= identity.parts_of(name, part)
    with journal.opened(directory, resume=resume) as log:
        start_from = {"start": digest_of(key, hparams, env_params, lineage, table)}  # as in earlier versions
        identity.check(log, settings | origin | start_from)
        fingerprint.check(log, *_member(program, key, hparams, env_params, num_envs))
        if log.find("end") and directory is not None:
            return load_pbt(directory, agent, env, hparams)
        begun = start(
            key, program, hparams, population_size=population_size, num_envs=num_envs, env_params=env_params,
            initial=table,
        )  # fmt: skip
        chunk = rounds_per_chunk or (num_rounds if progress is None and directory is None else 1)
        decide = functools.partial(_pb2, key, program, num_rounds) if explore == "pb2" and told is None else None
        chunk = 1 if decide else chunk
        end = _run(snapshots.recall(log, begun, program), program, num_rounds, chunk, told, log, progress, decide)
        steps = np.arange(1, num_rounds + 1) * updates_per_round * rollout_length * num_envs
        settings |= {"num_devices": num_parts(padded_size(population_size))} | storage.made_with()
        result = PBTResult(searched, end.lineage, steps, end.population.members.agent_state, end.seconds, settings)
        if directory is not None:
            result.save(directory)
            if is_main():
                log.add("end")
                snapshots.forget(log)
    return result


def _run(
    now: Standing,
    program: Rounds,
    num_rounds: int,
    chunk: int,
    told: Lineage | None,
    log: Journal,
    progress: Callable[[PBTProgress], None] | None,
    decide: Callable[[Standing], Lineage | None] | None = None,
) -> Standing:
    """Run the remaining rounds in chunks, each of which is recorded before the next one begins."""
    begin = time.perf_counter() - now.seconds
    for first in range(len(now.lineage.parents), num_rounds, chunk):
        count = min(chunk, num_rounds - first)
        part = jax.tree.map(operator.itemgetter(slice(first, first + count)), told)
        part = decide(now) if decide else part
        state, made = advance(now.population, program, num_rounds=count, lineage=part, donate=True)
        lineage = jax.tree.map(lambda *x: np.concatenate(x), now.lineage, to_host(made))
        now = Standing(state, lineage, time.perf_counter() - begin)
        snapshots.record(log, now)
        if progress is not None:
            progress(_progress(now, num_rounds))
    return now


def _pb2(key: jax.Array, program: Rounds, num_rounds: int, now: Standing) -> Lineage | None:
    """The decisions of the next round; the first round changes nothing, which the program decides itself."""
    done = len(now.lineage.parents)
    if not done:
        return None
    hparams = to_host(get_hparams(now.population.members.agent_state))
    sizes = (num_rounds, program.num_replaced)
    return pb2.decide(jax.random.fold_in(key, done), now.lineage, hparams, dict(program.spaces), *sizes)


def _member(
    rounds: Rounds, key: jax.Array, hparams: Hparams, env_params: PyTree, num_envs: int
) -> tuple[Program, MemberData]:
    """One member as the program of a search, whose fingerprint is that of the population."""
    sizes = (num_envs, rounds.rollout_length, rounds.rollout, rounds.eval_episodes, rounds.eval_max_steps)
    program = Program(rounds.agent, rounds.env, *sizes, key_impl=str(jax.random.key_impl(key)))
    data = MemberData(jax.random.key_data(key), cast(hparams), cast(env_params))
    return program, jax.tree.map(lambda leaf: leaf[None], data)


def _check_lineage(lineage: Lineage, hparams: Hparams, num_rounds: int, population_size: int) -> Lineage:
    """The lineage, with its hyperparameters in the class of `hparams`, which that of a loaded result lacks."""
    if getattr(lineage.hparams, "_fields", None) != hparams._fields:
        raise TypeError(f"the lineage must hold {type(hparams).__name__}, not {type(lineage.hparams).__name__}")
    if lineage.parents.shape != (num_rounds, population_size):
        raise ValueError(
            f"the lineage has rounds x members = {lineage.parents.shape}, but num_rounds = {num_rounds} and "
            f"population_size = {population_size}"
        )
    for name, leaf in lineage.hparams._asdict().items():
        if any(np.shape(each)[:2] != (num_rounds, population_size) for each in jax.tree.leaves(leaf)):
            raise ValueError(
                f"the lineage's {name} has shape {np.shape(leaf)}, not rounds x members = {lineage.parents.shape}"
            )
    if np.min(lineage.parents) < 0:
        raise ValueError(f"the lineage has the parent {np.min(lineage.parents)}, which is not the number of a member")
    if (np.asarray(lineage.parents) >= population_size).any():
        raise ValueError("the lineage goes back to elites, which cannot be repeated: run it again with its key")
    return lineage._replace(hparams=type(hparams)(*lineage.hparams))


def _progress(now: Standing, num_rounds: int) -> PBTProgress:
    scores = now.lineage.scores[-1]
    scores = scores[~np.isnan(scores)] if not np.isnan(scores).all() else scores
    best, median = float(scores.max()), float(np.median(scores))
    return PBTProgress(len(now.lineage.parents), num_rounds, now.seconds, best, median, now.population)
