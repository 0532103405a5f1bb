"""`train`, and the resumable layer under it: `LoopState`, `start` and `advance`.

    train = start, then advance:   state -> rollout -> update -> state -> ...      one `lax.scan` over updates

The key of update i is `fold_in(key, i)`, so a run in chunks is the same run, bit for bit.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import ahead, branches, prng
from purerl.distributed import mesh
from purerl.envs.checking import check
from purerl.hparams import (
    cast,
    check_env_params,
    check_positive,
    naming_what_is_missing,
    set_hparams,
    warn_if_annealed,
)
from purerl.loops import agents, checking, packed
from purerl.loops.actors import Actors, init_actors
from purerl.loops.rollouts import Rollout, rollout
from purerl.numerics import missing
from purerl.prng import check_key
from purerl.types import Agent, Env, Hparams, Key, Metrics, PyTree, State, Transition


class LoopState(NamedTuple):
    """The whole state of a training run: a run that is saved and resumed from it is the same run.

    Attributes:
      key: the run's key; update i uses `fold_in(key, i)`.
      agent_state: the agent's state.
      actors: the state of the environments between two rollouts.
      env_params: parameters of the environment, or None for its own.
      num_updates: int32, updates made so far.
    """

    key: Key
    agent_state: State
    actors: Actors
    env_params: PyTree
    num_updates: jax.Array


def train(
    key: Key,
    agent: Agent,
    env: Env,
    hparams: Hparams,
    *,
    num_updates: int,
    num_envs: int,
    rollout_length: int,
    env_params: PyTree = None,
    state: State | None = None,
    rollout: Rollout = rollout,
) -> tuple[State, Metrics]:
    """Train an agent on an environment: `num_updates` times a rollout of [rollout_length, num_envs] and an update.

    It compiles once per agent, environment and set of sizes; new hyperparameters, keys or environment parameters never
    trace again. A population is `jax.vmap` of this function over `key`, `hparams` and `env_params`.

    Args:
      key: typed key, as `jax.random.key` makes it.
      agent: the agent.
      env: the environment.
      hparams: the agent's hyperparameters, a NamedTuple of scalars (Python, NumPy or JAX).
      num_updates: number of updates.
      num_envs: number of parallel environments, N.
      rollout_length: steps in each environment between two updates, T.
      env_params: parameters of the environment; None takes its own.
      state: a trained state to start from, with its hyperparameters replaced; None starts afresh. All environments
        start a new episode: replay, traces and running returns in the state are cut there (`Agent.cut`).
      rollout: how experience is collected: `rollout`, `rollout_episodes`, or another `loops.Rollout`.

    Returns:
      The trained state, and metrics with leaves [num_updates]: the agent's own; for each scalar of the environment's
      info `env/<name>`, its mean over steps, and `episode_end/<name>`, its mean over the last steps of episodes;
      `episode_return`, `episode_length` (means over the episodes that finished in an update, NaN where none did) and
      `num_episodes`. A rollout that masks steps adds `num_env_steps`, the number of those that count; otherwise there
      are rollout_length · num_envs.

    Raises:
      TypeError: `key` is not a typed key, `hparams` lacks a field that the agent reads, a function of the agent takes
        or returns something else than it should, or the agent's action does not fit the environment's action space.
      TypeError, ValueError: the environment returns something that the loops cannot use; see `envs.check`.
      ValueError: a size is not positive, a hyperparameter or a parameter of the environment is NaN or out of range,
        or the agent is one for `fit`.

    Warns:
      UserWarning: the learning rate of `state` has been annealed to 0.
    """
    check_key(key)
    checking.check_agent(agent)
    checking.check_hparams(agent, hparams)
    check_env_params(env_params)
    warn_if_annealed(state, hparams)
    check_positive(num_updates=num_updates, num_envs=num_envs, rollout_length=rollout_length)
    hparams, env_params = cast(hparams), cast(env_params)
    env = check(env, env_params)
    updates = (agent, env, num_updates, rollout_length, rollout)
    with naming_what_is_missing(hparams), branches.for_this_process():
        if ahead.is_free((key, hparams, env_params, state)):
            _compile(ahead.shapes_of((key, hparams, env_params, state)), num_envs, updates)
        loop_state = _start(key, agent, env, hparams, env_params, state, num_envs)
        loop_state, metrics = _advance_donated(loop_state, *updates)
    return loop_state.agent_state, metrics


@functools.lru_cache(maxsize=1024)
def _compile(arguments: ahead.Shapes, num_envs: int, updates: tuple[Any, ...]) -> None:
    """Compile the programs of `train` side by side."""
    key, hparams, env_params, state = arguments.tree()
    first = (key, *updates[:2], hparams, env_params, state, num_envs)
    with ahead.beside(_start.lower(*first)):
        _advance_donated.lower(_start.eval_shape(*first), *updates).compile()


def start(
    key: Key,
    agent: Agent,
    env: Env,
    hparams: Hparams,
    *,
    num_envs: int,
    env_params: PyTree = None,
    state: State | None = None,
) -> LoopState:
    """The state before the first update of the run that `train` makes. Arguments and errors are those of `train`."""
    check_key(key)
    checking.check_agent(agent)
    checking.check_hparams(agent, hparams)
    check_env_params(env_params)
    warn_if_annealed(state, hparams)
    check_positive(num_envs=num_envs)
    env_params = cast(env_params)
    with naming_what_is_missing(hparams), branches.for_this_process():
        return _start(key, agent, check(env, env_params), cast(hparams), env_params, state, num_envs)


@functools.partial(jax.jit, static_argnums=(1, 2, 6))
def _start(
    key: Key, agent: Agent, env: Env, hparams: Hparams, env_params: PyTree, state: State | None, num_envs: int
) -> LoopState:
    checking.check_learns_from_rollouts(agent)
    init_key, actors_key, loop_key = prng.split(key, 3)
    if state is None:
        example, _ = env.reset(jax.random.clone(actors_key), env_params)  # only an example: its key may come again
        state = agents.initial_state(lambda key: checking.init(agent, key, hparams, example, num_envs), init_key)
    else:
        state = set_hparams(agent.cut(state) if agent.cut else state, hparams)
    actors = init_actors(actors_key, agent, env, state, num_envs=num_envs, env_params=env_params)
    return LoopState(loop_key, state, actors, env_params, jnp.int32(0))


def advance(
    loop_state: LoopState,
    agent: Agent,
    env: Env,
    *,
    num_updates: int,
    rollout_length: int,
    rollout: Rollout = rollout,
    donate: bool = False,
) -> tuple[LoopState, Metrics]:
    """Resume a run for `num_updates` updates; in any number of chunks it equals one `train`, bit for bit.

    Args:
      loop_state: from `start` or an earlier `advance`.
      agent, env, rollout_length, rollout: as in `train`, the same in every chunk.
      num_updates: number of updates in this chunk; each distinct number compiles once.
      donate: give the memory of `loop_state` to the result, which halves the memory of a large state; the argument
        must not be used afterwards.

    Returns:
      The next `LoopState`, and metrics with leaves [num_updates].
    """
    check_positive(num_updates=num_updates, rollout_length=rollout_length)
    run = _advance_donated if donate else _advance
    env = check(env, loop_state.env_params)
    with branches.for_this_process():
        return run(loop_state, agent, env, num_updates, rollout_length, rollout)


def _advance_impl(
    loop_state: LoopState, agent: Agent, env: Env, num_updates: int, rollout_length: int, rollout: Rollout
) -> tuple[LoopState, Metrics]:
    def update(loop_state: LoopState) -> tuple[LoopState, Metrics]:
        return _update(loop_state, agent, env, rollout_length, rollout)

    return packed.scan(update, loop_state, num_updates)


def _update(
    loop_state: LoopState, agent: Agent, env: Env, rollout_length: int, rollout: Rollout
) -> tuple[LoopState, Metrics]:
    """One rollout and one update."""
    key, state, actors, env_params, count = loop_state
    rollout_key, update_key = prng.split(prng.fold_in(key, count))
    actors, trajectory = rollout(rollout_key, agent, env, state, actors, length=rollout_length, env_params=env_params)
    state, metrics = agents.update(agent, update_key, state, trajectory)
    return LoopState(key, state, actors, env_params, count + 1), metrics | _loop_metrics(actors, trajectory)


_advance = jax.jit(_advance_impl, static_argnums=(1, 2, 3, 4, 5))
_advance_donated = jax.jit(_advance_impl, static_argnums=(1, 2, 3, 4, 5), donate_argnums=0)


def advance_up_to(
    loop_state: LoopState,
    count: jax.Array,
    agent: Agent,
    env: Env,
    *,
    capacity: int,
    rollout_length: int,
    rollout: Rollout = rollout,
) -> tuple[LoopState, Metrics]:
    """As `advance`, for use within `jax.jit`, with the number of updates as data: one program for chunks of any length.

    Args:
      loop_state, agent, env, rollout_length, rollout: as in `advance`.
      count: int32, number of updates, at most `capacity`.
      capacity: length of the metrics.

    Returns:
      The next `LoopState`, and metrics with leaves [capacity], zeros from `count` on.
    """
    env = check(env, loop_state.env_params)

    def update(loop_state: LoopState) -> tuple[LoopState, Metrics]:
        return _update(loop_state, agent, env, rollout_length, rollout)

    with branches.for_this_process():
        return packed.up_to(update, loop_state, count, capacity)


def _loop_metrics(actors: Actors, trajectory: Transition) -> Metrics:
    """Metrics of one update that do not depend on the agent."""
    finished, mask = mesh.whole_rows(actors.finished), trajectory.mask
    steps = {} if isinstance(mask, tuple) else {"num_env_steps": (mask != 0).sum()}
    num_episodes = finished.num_episodes.sum()
    ended = jnp.maximum(num_episodes, 1)
    return (
        {f"env/{name}": value for name, value in actors.info.items()}
        | {f"episode_end/{name}": value for name, value in actors.info_at_end.items()}
        | steps
        | {
            "episode_return": jnp.where(num_episodes > 0, finished.return_sum.sum() / ended, missing()),
            "episode_length": jnp.where(num_episodes > 0, finished.length_sum.sum() / ended, missing()),
            "num_episodes": num_episodes,
        }
    )
