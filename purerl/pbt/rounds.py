"""The rounds of population-based training as one jitted program, and the resumable layer `start` / `advance`.

    round r:  the worst members of round r - 1 copy the learner of one of the best, and perturb its hyperparameters
              ->  every member trains  ->  greedy evaluation on common random numbers gives the scores

A learner is everything that `hparams.get_learner` returns: parameters, optimizer state, hyperparameters and statistics.
Replay, environments and keys stay in place, so two copies of one learner see different data from then on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops
from purerl.distributed import connect_population, over_devices
from purerl.hparams import cast, check_positive, get_hparams, set_learner
from purerl.numerics import diverged
from purerl.pbt import backtracking, exploit_explore
from purerl.pbt.backtracking import Elites
from purerl.prng import check_key
from purerl.sweep.trials.draws import sample
from purerl.sweep.trials.spaces import Space
from purerl.types import Agent, Env, Hparams, PyTree


class Lineage(NamedTuple):
    """The decisions and the scores of R rounds of P members, leaves [R, P]. `pbt` can repeat them.

    Attributes:
      parents: int32, the member whose learner each had at the beginning of the round; its own if it was kept. With
        elites m + P k is member m as it was k rounds before the last one.
      hparams: the agent's NamedTuple, the hyperparameters that each trained with in the round; those of its first
        policy if it has several, see `combinators.with_separate_policies`.
      scores: float32, mean greedy return after the round; NaN if the member diverged.
      skipped: int32, updates of the round that were skipped, at least in part, because their gradient was NaN or
        infinite; None: not counted.
      first_skipped: int32, updates of the round before the first of them; 0 if none was skipped.
    """

    parents: Any
    hparams: Hparams
    scores: Any
    skipped: Any = None
    first_skipped: Any = None


class Population(NamedTuple):
    """The whole state of a population, so that a run that is saved and resumed is the same run.

    Attributes:
      key: of the decisions and of the evaluations; round r uses `fold_in(key, r)`.
      members: `LoopState` with leaves [P]; each keeps its own key.
      scores: float32 [P], of the last round; NaN if the member must be replaced.
      num_rounds: int32, rounds made so far.
      elites: the best learners of earlier rounds; None without backtracking.
    """

    key: jax.Array
    members: loops.LoopState
    scores: jax.Array
    num_rounds: jax.Array
    elites: Elites | None = None


class Rounds(NamedTuple):
    """The definition of a round, all of it static. Build one with `rounds`, which checks it.

    Attributes:
      agent, env: the agent, and its environment.
      spaces: the hyperparameters that may change.
      updates, rollout_length, rollout: the training of a round, as in `loops.train`.
      eval_episodes, eval_max_steps: the evaluation that ends it, as in `loops.evaluate`.
      num_replaced: number of the worst members that copy one of as many best.
      resample_probability, factors: see `exploit_explore.explore`.
      num_elites: learners of earlier rounds that can be copied too, see `backtracking`.
    """

    agent: Agent
    env: Env
    spaces: tuple[tuple[str, Space], ...]
    updates: int
    rollout_length: int
    rollout: Callable[..., Any]
    eval_episodes: int
    eval_max_steps: int
    num_replaced: int
    resample_probability: float
    factors: tuple[float, ...]
    num_elites: int = 0


def rounds(
    agent: Agent,
    env: Env,
    spaces: dict[str, Space],
    *,
    population_size: int,
    updates_per_round: int,
    rollout_length: int,
    rollout: Callable[..., Any] = loops.rollout,
    eval_episodes: int = 8,
    eval_max_steps: int = 1000,
    exploit_fraction: float = 0.2,
    resample_probability: float = 0.25,
    perturb_factors: tuple[float, ...] = (0.8, 1.2),
    num_elites: int = 0,
) -> Rounds:
    """The checked definition of a round. Arguments and errors are those of `pbt`; `spaces` has no constants."""
    sizes = {"updates_per_round": updates_per_round, "rollout_length": rollout_length, "eval_episodes": eval_episodes}
    check_positive(population_size=population_size, eval_max_steps=eval_max_steps, **sizes)
    if population_size < 2:
        raise ValueError(f"population_size = {population_size} must be at least 2: members copy each other")
    if not 0 <= exploit_fraction <= 0.5:
        raise ValueError(f"exploit_fraction = {exploit_fraction} must be between 0 and 0.5")
    if not 0 <= resample_probability <= 1:
        raise ValueError(f"resample_probability = {resample_probability} must be between 0 and 1")
    if not perturb_factors or not all(0 < factor < float("inf") for factor in perturb_factors):
        raise ValueError(f"perturb_factors = {perturb_factors} must be positive numbers")
    if num_elites < 0 or num_elites != int(num_elites):
        raise ValueError(f"num_elites = {num_elites} must be a whole number, 0 or more")
    num_replaced = min(max(1, round(exploit_fraction * population_size)), population_size // 2)
    return Rounds(
        agent,
        env,
        tuple(spaces.items()),
        updates_per_round,
        rollout_length,
        rollout,
        eval_episodes,
        eval_max_steps,
        num_replaced if exploit_fraction > 0 else 0,
        float(resample_probability),
        tuple(float(factor) for factor in perturb_factors),
        int(num_elites),
    )


def start(
    key: jax.Array,
    program: Rounds,
    hparams: Hparams,
    *,
    population_size: int,
    num_envs: int,
    env_params: PyTree = None,
    initial: Hparams | None = None,
) -> Population:
    """The population before its first round: each member has hyperparameters, its own key and a fresh learner.

    `initial`, leaves [n], has the hyperparameters of the first members; those of the others are drawn.
    """
    check_key(key)
    check_positive(population_size=population_size, num_envs=num_envs)
    draw_key, members_key, key = jax.random.split(key, 3)
    table = sample(draw_key, hparams, dict(program.spaces), population_size)
    if initial is not None:
        table = jax.tree.map(lambda own, drawn: np.append(own, drawn[len(own) :]).astype(drawn.dtype), initial, table)
    keys = jax.random.split(members_key, population_size)
    return _start(key, keys, cast(table), cast(env_params), program, num_envs)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _start(key, keys, hparams, env_params, program, num_envs):  # type: ignore[no-untyped-def]
    """Scores are placed with the members, so that the first `advance` finds the same layout as every later one."""

    def one(key: jax.Array, hparams: Hparams, env_params: PyTree) -> tuple[loops.LoopState, jax.Array]:
        member = loops.start(key, program.agent, program.env, hparams, num_envs=num_envs, env_params=env_params)
        return member, jnp.float32(0)

    members, scores = _on_all_devices(jax.vmap(one, (0, 0, None)), (keys, hparams), (env_params,))
    elites = backtracking.none_yet(members.agent_state, program.num_elites) if program.num_elites else None
    return Population(key, members, scores, jnp.int32(0), elites)


def advance(
    state: Population, program: Rounds, *, num_rounds: int, lineage: Lineage | None = None, donate: bool = False
) -> tuple[Population, Lineage]:
    """Advance by `num_rounds` rounds; cut into any chunks it is the same run, bit for bit.

    Args:
      state: as `start`, or an earlier `advance`, returned it.
      program: the definition of a round.
      num_rounds: rounds R of this chunk; each distinct number compiles once.
      lineage: [R, P] decisions to repeat; None decides by the scores. Elites have no part in it.
      donate: give the memory of `state` to the result; it must not be used afterwards.

    Returns:
      The next population, and the lineage of these rounds, leaves [R, P].
    """
    check_positive(num_rounds=num_rounds)
    told = _no_decisions(state, program, num_rounds) if lineage is None else (lineage.parents, lineage.hparams)
    connect_population(padded_size(state.scores.size))
    run = _advance_donated if donate else _advance
    return run(state, told, jnp.bool_(lineage is not None), program, num_rounds)


def _advance_impl(state, told, follow, program, num_rounds):  # type: ignore[no-untyped-def]
    def one(state: Population, told: tuple[jax.Array, Any]) -> tuple[Population, Lineage]:
        round_key = jax.random.fold_in(state.key, state.num_rounds)
        decide_key, score_key = jax.random.split(round_key)
        found = _found(state)
        decided = _decide(decide_key, state, program, found)
        parents, hparams = jax.tree.map(lambda told, own: jnp.where(follow, _beside(told, own), own), told, decided)
        learners = exploit_explore.inherit(state.members.agent_state, parents, hparams, found and found.learners)
        members = state.members._replace(agent_state=learners)
        elites = None
        if found is not None:
            elites = backtracking.best_of(found, program.num_elites)
            parents = backtracking.origin(found, parents, state.num_rounds - 1, state.scores.size)
        trained = _on_all_devices(jax.vmap(train, (0, None)), (members,), (score_key,))
        members, *measured = trained  # each [P]
        state = Population(state.key, members, measured[0], state.num_rounds + 1, elites)
        return state, Lineage(parents, first_policy(hparams, program), *measured)

    def train(member: loops.LoopState, key: jax.Array) -> tuple[loops.LoopState, jax.Array, jax.Array, jax.Array]:
        sizes = {"num_updates": program.updates, "rollout_length": program.rollout_length}
        member, metrics = loops.advance(member, program.agent, program.env, rollout=program.rollout, **sizes)
        skipped = metrics.get("loss/skipped", jnp.zeros(program.updates)) > 0  # [U]; NaN: no gradient step was made
        return member, _score(key, member, program), skipped.sum(dtype=jnp.int32), jnp.argmax(skipped).astype(jnp.int32)

    return jax.lax.scan(one, state, told, num_rounds)


_advance = jax.jit(_advance_impl, static_argnums=(3, 4))
_advance_donated = jax.jit(_advance_impl, static_argnums=(3, 4), donate_argnums=0)


def padded_size(population_size: int) -> int:
    """Members that are trained side by side: on several devices a population is filled up to a multiple of them.

    The additional ones repeat the last member, and nothing of them is kept. With several processes, and with fewer
    members than devices, nothing is filled up.
    """
    devices = jax.local_device_count()
    if jax.process_count() > 1 or population_size <= devices:
        return population_size
    return math.ceil(population_size / devices) * devices


def _on_all_devices(function: Callable[..., PyTree], members: tuple[PyTree, ...], shared: tuple[PyTree, ...]) -> PyTree:
    """`over_devices`, of a population that is filled up."""
    size = len(jax.tree.leaves(members)[0])
    more = padded_size(size) - size
    if not more:
        return over_devices(function, members, shared)
    fill = functools.partial(jax.tree.map, lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], more, axis=0)]))
    return jax.tree.map(lambda x: x[:size], over_devices(function, fill(members), shared))  # [P'] -> [P]


def _found(state: Population) -> Elites | None:
    """With backtracking: the learners that can be copied, those of the members and then the elites, leaves [P + E]."""
    if state.elites is None:
        return None
    return backtracking.candidates(state.members.agent_state, state.scores, state.num_rounds - 1, state.elites)


def first_policy(hparams: Hparams, program: Rounds) -> Hparams:
    """The hyperparameters of each member, leaves [P], among those of all its policies, leaves [P] or [P, A]."""
    first = (slice(None), *[0] * _num_policy_axes(hparams, program))
    return jax.tree.map(lambda x: x[first], hparams) if len(first) > 1 else hparams


def _num_policy_axes(hparams: Hparams, program: Rounds) -> int:
    """Axes between that of the members and those of one value; what is searched is a scalar."""
    return max((jnp.ndim(getattr(hparams, name)) - 1 for name, _ in program.spaces), default=0)


def _decide(key: jax.Array, state: Population, program: Rounds, found: Elites | None = None) -> tuple[jax.Array, Any]:
    """Parents [P], numbers of members and then of elites, and hyperparameters, leaves [P] or [P, A] of A policies.

    The first round changes nothing. The policies of a member are perturbed alike, by one key.
    """
    exploit_key, explore_key = jax.random.split(key)
    size = state.scores.shape[0]
    members = jnp.arange(size)
    elite_scores = None if found is None else found.scores[size:]
    parents = exploit_explore.exploit(exploit_key, state.scores, program.num_replaced, elite_scores)
    parents = jnp.where(state.num_rounds > 0, parents, members)
    learners = state.members.agent_state if found is None else set_learner(state.members.agent_state, found.learners)
    inherited = jax.tree.map(lambda x: x[parents], get_hparams(learners))  # [P + E] -> [P]
    explore = functools.partial(
        exploit_explore.explore,
        spaces=dict(program.spaces),
        factors=program.factors,
        resample_probability=program.resample_probability,
    )
    for _ in range(_num_policy_axes(inherited, program)):
        explore = jax.vmap(explore, (None, 0))
    explored = jax.vmap(explore)(jax.random.split(explore_key, members.size), inherited)
    hparams = jax.tree.map(lambda new, old: jnp.where(_beside(parents != members, old), new, old), explored, inherited)
    return parents, hparams


def _beside(x: jax.Array, other: jax.Array) -> jax.Array:
    """The array [P, ...] with further axes after the first, so that it broadcasts against the other, [P, A, ...]."""
    return x.reshape(x.shape[:1] + (1,) * (other.ndim - x.ndim) + x.shape[1:])


def _score(key: jax.Array, member: loops.LoopState, program: Rounds) -> jax.Array:
    """Mean return of one member's greedy episodes; NaN if it is not finite or anything in the learner is NaN."""
    returns = loops.evaluate(
        key,
        program.agent,
        program.env,
        member.agent_state,
        num_episodes=program.eval_episodes,
        max_steps=program.eval_max_steps,
        env_params=member.env_params,
    ).episode_return
    score = returns.mean()
    return jnp.where(jnp.isfinite(score) & ~diverged(member.agent_state), score, jnp.nan)


def _no_decisions(state: Population, program: Rounds, num_rounds: int) -> tuple[jax.Array, Any]:
    hparams = first_policy(get_hparams(state.members.agent_state), program)
    return jax.tree.map(lambda x: jnp.zeros((num_rounds, *x.shape), x.dtype), (jnp.arange(state.scores.size), hparams))
