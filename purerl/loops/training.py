"""`train`, and the resumable layer under it: `LoopState`, `start` and `advance`.

    train = start, then advance:   state -> rollout -> update -> state -> ...      one `lax.scan` over updates

The key of update i is `fold_in(key, i)`, so a run in chunks is the same run, bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.checking import check
from purerl.hparams import cast, check_hparams, check_positive, set_hparams
from purerl.loops.rollouts import Actors, init_actors, rollout
from purerl.prng import check_key
from purerl.types import Agent, Env, Metrics


class LoopState(NamedTuple):
    """Everything a training run is, so that saving it and going on is the same run.

    Attributes:
      key: the run's key; update i uses `fold_in(key, i)`.
      agent_state: the agent's state.
      actors: what the environments carry from one rollout to the next.
      env_params: parameters of the environment, or None for its own.
      num_updates: int32, updates made so far.
    """

    key: jax.Array
    agent_state: Any
    actors: Actors
    env_params: Any
    num_updates: jax.Array


def train(
    key: jax.Array,
    agent: Agent,
    env: Env,
    hparams: Any,
    *,
    num_updates: int,
    num_envs: int,
    rollout_length: int,
    env_params: Any = None,
    state: Any = None,
    rollout: Callable[..., Any] = rollout,
) -> tuple[Any, Metrics]:
    """Train an agent on an environment: `num_updates` times a rollout of [rollout_length, num_envs] and an update.

    It compiles once for each agent, environment and set of sizes; new hyperparameters, keys or environment parameters
    never trace again. A population is `jax.vmap` of this function over `key`, `hparams` and `env_params`.

    Args:
      key: typed key, as `jax.random.key` makes it.
      agent: the agent.
      env: the environment.
      hparams: the agent's hyperparameters, a NamedTuple of scalars (Python, NumPy or JAX).
      num_updates: number of updates.
      num_envs: number of parallel environments, N.
      rollout_length: steps in each environment between two updates, T.
      env_params: parameters of the environment; None takes its own.
      state: a trained state to start from (its hyperparameters are replaced by `hparams`); None starts afresh.
      rollout: how experience is collected: `rollout`, `rollout_episodes`, or a function of the same signature.

    Returns:
      The trained state, and metrics with leaves [num_updates]: the agent's own, `env/<name>` for each scalar of the
      environment's info, and `episode_return`, `episode_length` (means over the episodes that finished in an update,
      NaN where none did) and `num_episodes`.

    Raises:
      TypeError: `key` is not a typed key, or the agent's action does not fit the environment's action space.
      ValueError: a size is not positive, or a hyperparameter is NaN or out of range.
    """
    check_key(key)
    check_hparams(hparams)
    check_positive(num_updates=num_updates, num_envs=num_envs, rollout_length=rollout_length)
    loop_state, metrics = _train(
        key,
        agent,
        check(env, env_params),
        cast(hparams),
        cast(env_params),
        state,
        num_updates,
        num_envs,
        rollout_length,
        rollout,
    )
    return loop_state.agent_state, metrics


@functools.partial(jax.jit, static_argnums=(1, 2, 6, 7, 8, 9))
def _train(key, agent, env, hparams, env_params, state, num_updates, num_envs, rollout_length, rollout):  # type: ignore[no-untyped-def]
    loop_state = _start(key, agent, env, hparams, env_params, state, num_envs)
    return _advance(loop_state, agent, env, num_updates, rollout_length, rollout)


def start(
    key: jax.Array,
    agent: Agent,
    env: Env,
    hparams: Any,
    *,
    num_envs: int,
    env_params: Any = None,
    state: Any = None,
) -> LoopState:
    """The beginning of the run that `train` makes with the same arguments. Arguments and errors as in `train`."""
    check_key(key)
    check_hparams(hparams)
    check_positive(num_envs=num_envs)
    return _start(key, agent, check(env, env_params), cast(hparams), cast(env_params), state, num_envs)


@functools.partial(jax.jit, static_argnums=(1, 2, 6))
def _start(key, agent, env, hparams, env_params, state, num_envs):  # type: ignore[no-untyped-def]
    init_key, actors_key, loop_key = jax.random.split(key, 3)
    if state is None:
        example, _ = env.reset(actors_key, env_params)
        state = agent.init(init_key, hparams, example, num_envs)
    else:
        state = set_hparams(state, hparams)
    actors = init_actors(actors_key, agent, env, state, num_envs=num_envs, env_params=env_params)
    return LoopState(loop_key, state, actors, env_params, jnp.int32(0))


def advance(
    loop_state: LoopState,
    agent: Agent,
    env: Env,
    *,
    num_updates: int,
    rollout_length: int,
    rollout: Callable[..., Any] = rollout,
    donate: bool = False,
) -> tuple[LoopState, Metrics]:
    """Go on with a run for `num_updates` updates; in any number of chunks it equals one `train`, bit for bit.

    Args:
      loop_state: what `start`, or an earlier `advance`, returned.
      agent, env, rollout_length, rollout: as in `train`, the same in every chunk.
      num_updates: number of updates in this chunk; each distinct number compiles once.
      donate: give the memory of `loop_state` to the result, which halves the memory of a large state; the argument
        must not be used afterwards.

    Returns:
      The next `LoopState`, and metrics with leaves [num_updates].
    """
    check_positive(num_updates=num_updates, rollout_length=rollout_length)
    run = _advance_donated if donate else _advance
    return run(loop_state, agent, check(env, loop_state.env_params), num_updates, rollout_length, rollout)


def _advance_impl(loop_state, agent, env, num_updates, rollout_length, rollout):  # type: ignore[no-untyped-def]
    def update(loop_state: LoopState, _: None) -> tuple[LoopState, Metrics]:
        key, state, actors, env_params, count = loop_state
        rollout_key, update_key = jax.random.split(jax.random.fold_in(key, count))
        actors, trajectory = rollout(
            rollout_key, agent, env, state, actors, length=rollout_length, env_params=env_params
        )
        state, metrics = agent.update(update_key, state, trajectory)
        return LoopState(key, state, actors, env_params, count + 1), metrics | _episode_metrics(actors)

    return jax.lax.scan(update, loop_state, None, num_updates)


_advance = jax.jit(_advance_impl, static_argnums=(1, 2, 3, 4, 5))
_advance_donated = jax.jit(_advance_impl, static_argnums=(1, 2, 3, 4, 5), donate_argnums=0)


def _episode_metrics(actors: Actors) -> Metrics:
    finished = actors.finished
    num_episodes = finished.num_episodes.sum()
    return {f"env/{name}": value for name, value in actors.info.items()} | {
        "episode_return": finished.return_sum.sum() / num_episodes,
        "episode_length": finished.length_sum.sum() / num_episodes,
        "num_episodes": num_episodes,
    }
