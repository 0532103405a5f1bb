"""Population-based training: hyperparameters that change while the agents learn, found in one compiled program."""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import loops
from purerl.distributed import to_host
from purerl.sweep.pbt_result import PBTResult
from purerl.sweep.pbt_rounds import Lineage, Population, advance, rounds, start
from purerl.sweep.spaces import SearchSpace, check_space
from purerl.types import Agent, Env, Metrics, cast, check_hparams, check_positive, set_hparams


class PBTProgress(NamedTuple):
    """Where population-based training stands, as its `progress` callback sees it after every chunk of rounds.

    Attributes:
      round, num_rounds: rounds done, and of how many.
      seconds: since the beginning, compiling included.
      best_score, median_score: over the healthy members in the last round; NaN where none is.
      population: everything, to be saved; its memory is given to the next chunk when the callback returns.
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
    hparams: Any,
    space: SearchSpace,
    *,
    population_size: int,
    num_rounds: int,
    updates_per_round: int,
    num_envs: int,
    rollout_length: int,
    env_params: Any = None,
    rollout: Callable[..., Any] = loops.rollout,
    exploit_fraction: float = 0.2,
    resample_probability: float = 0.25,
    perturb_factors: tuple[float, ...] = (0.8, 1.2),
    eval_episodes: int = 8,
    eval_max_steps: int = 1000,
    lineage: Lineage | None = None,
    rounds_per_chunk: int | None = None,
    progress: Callable[[PBTProgress], None] | None = None,
) -> PBTResult:
    """Train a population whose hyperparameters change while it learns.

    The score of a round is the mean return of greedy episodes after its training, the same episodes for all members and
    others in every round. Training returns would be free, but they are those of policies that have since changed,
    include exploration, which is itself searched, and are missing where no episode ended in a short round.

    It compiles once for an agent, environment, space and set of sizes. The same arguments give the same bits, in any
    chunks.

    Args:
      key: typed key.
      agent, env, env_params, num_envs, rollout_length, rollout: as in `loops.train`.
      hparams: the agent's hyperparameters: the values of what the space leaves out, which never change.
      space: from names of hyperparameters to spaces or constants; the first values are drawn from it.
      population_size: members P, at least 2.
      num_rounds: rounds R.
      updates_per_round: updates of each member between two decisions.
      exploit_fraction: share of the population that is replaced in a round, rounded, at least one member; at most 1/2.
        0: every member keeps its learner and its hyperparameters.
      resample_probability, perturb_factors: how copied hyperparameters move, see `evolution.explore`.
      eval_episodes, eval_max_steps: greedy episodes that a score is the mean of, and the longest of them.
      lineage: of an earlier run of R rounds and P members; its decisions are repeated. With the same key and sizes that
        run is reproduced bit for bit, since the same program is told what it else decides.
      rounds_per_chunk: rounds in one call of the program; None: all, or 1 where there is `progress`.
      progress: called after every chunk.

    Returns:
      A `PBTResult`.

    Raises:
      TypeError: `key` is no typed key, or a space is none.
      ValueError: a size, fraction or probability is out of range, a space does not fit the hyperparameters, or the
        lineage has other sizes.

    Source: Jaderberg et al. 2017, arXiv:1711.09846, algorithm 1; synchronous, since all members are one program.
    """
    check_positive(num_rounds=num_rounds, rounds_per_chunk=rounds_per_chunk or 1)
    hparams, spaces = check_space(hparams, space)
    program = rounds(
        agent,
        env,
        spaces,
        population_size=population_size,
        updates_per_round=updates_per_round,
        rollout_length=rollout_length,
        rollout=rollout,
        eval_episodes=eval_episodes,
        eval_max_steps=eval_max_steps,
        exploit_fraction=exploit_fraction,
        resample_probability=resample_probability,
        perturb_factors=perturb_factors,
    )
    told = None if lineage is None else _check_lineage(lineage, num_rounds, population_size)
    begin = time.perf_counter()
    state = start(key, program, hparams, population_size=population_size, num_envs=num_envs, env_params=env_params)
    chunk = rounds_per_chunk or (num_rounds if progress is None else 1)
    parts = []
    for first in range(0, num_rounds, chunk):
        count = min(chunk, num_rounds - first)
        part = jax.tree.map(operator.itemgetter(slice(first, first + count)), told)
        state, made = advance(state, program, num_rounds=count, lineage=part, donate=True)
        parts.append(to_host(made))
        if progress is not None:
            progress(_progress(state, parts[-1].scores[-1], first + count, num_rounds, begin))
    whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    steps = np.arange(1, num_rounds + 1) * updates_per_round * rollout_length * num_envs
    return PBTResult(spaces, whole, steps, state.members.agent_state, time.perf_counter() - begin)


def train_schedule(
    key: jax.Array,
    agent: Agent,
    env: Env,
    schedule: Any,
    *,
    updates_per_round: int,
    num_envs: int,
    rollout_length: int,
    env_params: Any = None,
    rollout: Callable[..., Any] = loops.rollout,
) -> tuple[Any, Metrics]:
    """Train one agent afresh with hyperparameters that change from round to round, such as `PBTResult.schedule()`.

    A schedule that population-based training found was found together with luck: trained on fresh seeds
    (`jax.vmap` over `key`) it shows what it is worth by itself.

    Args:
      key: typed key.
      agent, env, num_envs, rollout_length, env_params, rollout: as in `loops.train`.
      schedule: the agent's hyperparameters with leaves [R].
      updates_per_round: updates with each of them.

    Returns:
      The trained state, and the metrics of `loops.train` with leaves [R · updates_per_round].

    Raises:
      TypeError, ValueError: as in `loops.train`.
    """
    check_positive(updates_per_round=updates_per_round)
    check_hparams(schedule)
    schedule = cast(schedule)
    first = jax.tree.map(lambda x: x[0], schedule)
    state = loops.start(key, agent, env, first, num_envs=num_envs, env_params=env_params)
    state, metrics = _follow(state, schedule, agent, env, updates_per_round, rollout_length, rollout)
    return state.agent_state, metrics


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _follow(state, schedule, agent, env, updates, rollout_length, rollout):  # type: ignore[no-untyped-def]
    def one(state: loops.LoopState, hparams: Any) -> tuple[loops.LoopState, Metrics]:
        state = state._replace(agent_state=set_hparams(state.agent_state, hparams))
        return loops.advance(state, agent, env, num_updates=updates, rollout_length=rollout_length, rollout=rollout)

    state, metrics = jax.lax.scan(one, state, schedule)
    return state, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), metrics)


def _check_lineage(lineage: Lineage, num_rounds: int, population_size: int) -> Lineage:
    if lineage.parents.shape != (num_rounds, population_size):
        raise ValueError(
            f"the lineage has rounds x members = {lineage.parents.shape}, but num_rounds = {num_rounds} and "
            f"population_size = {population_size}"
        )
    return lineage


def _progress(state: Population, scores: np.ndarray, done: int, num_rounds: int, begin: float) -> PBTProgress:
    scores = scores[~np.isnan(scores)] if not np.isnan(scores).all() else scores
    best, median = float(scores.max()), float(np.median(scores))
    return PBTProgress(done, num_rounds, time.perf_counter() - begin, best, median, state)
