"""The two loops, `train` and `fit`, and the resumable layer under them. They know no agent by name.

    train = start, then advance:   state -> rollout -> update -> state -> ...      one `lax.scan` over updates
    fit   =                        state -> update(the same data) -> state -> ...

The key of update i is `fold_in(key, i)`, so a run in chunks is the same run, bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.collect import Actors, init_actors, rollout, rollout_episodes
from purerl.types import Agent, Env, Metrics, cast, check_hparams, check_key, check_positive, set_hparams

__all__ = [
    "Actors",
    "Evaluation",
    "LoopState",
    "advance",
    "evaluate",
    "fit",
    "init_actors",
    "rollout",
    "rollout_episodes",
    "start",
    "train",
]


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


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths (in steps) of evaluation episodes, each [num_episodes]."""

    episode_return: jax.Array
    episode_length: jax.Array


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
        key, agent, env, cast(hparams), cast(env_params), state, num_updates, num_envs, rollout_length, rollout
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
    return _start(key, agent, env, cast(hparams), cast(env_params), state, num_envs)


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
    return run(loop_state, agent, env, num_updates, rollout_length, rollout)


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


def fit(
    key: jax.Array, agent: Agent, data: Any, hparams: Any, *, num_updates: int, state: Any = None
) -> tuple[Any, Metrics]:
    """Train an agent on fixed data: `num_updates` updates on all of it (`with_minibatches` draws parts).

    Args:
      key: typed key.
      agent: the agent.
      data: what its `update` takes: an `MDP`, a `Transition`, a dict of arrays.
      hparams: the agent's hyperparameters.
      num_updates: number of updates.
      state: a trained state to start from, with its hyperparameters replaced; None calls `init` with the data.

    Returns:
      The state, and metrics with leaves [num_updates].

    Raises:
      TypeError: `key` is not a typed key.
      ValueError: `num_updates` is not positive, or a hyperparameter is NaN or out of range.
    """
    check_key(key)
    check_hparams(hparams)
    check_positive(num_updates=num_updates)
    return _fit(key, agent, data, cast(hparams), num_updates, state)


@functools.partial(jax.jit, static_argnums=(1, 4))
def _fit(key, agent, data, hparams, num_updates, state):  # type: ignore[no-untyped-def]
    init_key, loop_key = jax.random.split(key)
    state = agent.init(init_key, hparams, data) if state is None else set_hparams(state, hparams)

    def update(state: Any, i: jax.Array) -> tuple[Any, Metrics]:
        return agent.update(jax.random.fold_in(loop_key, i), state, data)

    return jax.lax.scan(update, state, jnp.arange(num_updates))


def evaluate(
    key: jax.Array,
    agent: Agent,
    env: Env,
    state: Any,
    *,
    num_episodes: int,
    max_steps: int,
    greedy: bool = True,
    env_params: Any = None,
) -> Evaluation:
    """Play whole episodes from fresh resets, without learning.

    An episode that has not finished within `max_steps` is cut there and counted so. Episode i uses `split(key)[i]`,
    so the same key compares agents on the same episodes.

    Args:
      key: typed key.
      agent, env: the agent and the environment.
      state: the agent's state, left unchanged.
      num_episodes: number of episodes, played side by side.
      max_steps: longest episode, in steps.
      greedy: take the greedy action (`act` without a key); otherwise sample.
      env_params: parameters of the environment; None takes its own.

    Returns:
      `Evaluation(episode_return, episode_length)`, each [num_episodes].
    """
    check_key(key)
    check_positive(num_episodes=num_episodes, max_steps=max_steps)
    return _evaluate(key, agent, env, state, num_episodes, max_steps, greedy, cast(env_params))


@functools.partial(jax.jit, static_argnums=(1, 2, 4, 5, 6))
def _evaluate(key, agent, env, state, num_episodes, max_steps, greedy, env_params):  # type: ignore[no-untyped-def]
    def begin(key):  # type: ignore[no-untyped-def]
        reset_key, memory_key, step_key = jax.random.split(key, 3)
        obs, env_state = env.reset(reset_key, env_params)
        memory = agent.memory(None if greedy else memory_key, state) if agent.memory else ()
        return step_key, obs, env_state, memory, jnp.bool_(True), jnp.float32(0), jnp.int32(0)

    def step(carry, t):  # type: ignore[no-untyped-def]
        key, obs, env_state, memory, alive, total, length = carry
        act_key, env_key = jax.random.split(jax.random.fold_in(key, t))
        action, _, *rest = agent.act(None if greedy else act_key, state, obs, *([memory] if agent.memory else []))
        new = env.step(env_key, env_state, action, env_params)
        total += jnp.where(alive, new.reward, 0)
        length += alive
        alive &= ~(new.terminated | new.truncated)
        return key, new.obs, new.env_state, rest[0] if agent.memory else (), alive, total, length

    def body(carry):  # type: ignore[no-untyped-def]
        t, episodes = carry
        return t + 1, jax.vmap(step, (0, None))(episodes, t)

    def unfinished(carry):  # type: ignore[no-untyped-def]
        t, episodes = carry
        return (t < max_steps) & episodes[4].any()

    episodes = jax.vmap(begin)(jax.random.split(key, num_episodes))
    _, (_, _, _, _, _, total, length) = jax.lax.while_loop(unfinished, body, (jnp.int32(0), episodes))
    return Evaluation(total, length)
