"""`train` and `evaluate` for environments on the host: Python steps them, `act` and `update` are the compiled ones.

It is the loop of `purerl.loops` with the environment outside: the same agents, the same `Transition` [T, N], the same
metrics. Where an environment exists in JAX, `purerl.train` on it is many times as fast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.adapters.gymnasium import HostEnv, check_host
from purerl.hparams import cast, check_hparams, check_positive, set_hparams
from purerl.loops import Evaluation
from purerl.prng import check_key
from purerl.spaces import check_action
from purerl.types import Agent, Metrics, PyTree, Transition

Episode: TypeAlias = tuple[int, float, int]  # environment, return, length


class HostActors(NamedTuple):
    """What N environments carry from step to step, beside what they are themselves.

    Attributes:
      obs, memory: last observations and the agent's memories, leaves [N, ...].
      episode_return, episode_length: rewards and steps of the running episodes, [N].
    """

    obs: PyTree
    memory: PyTree
    episode_return: np.ndarray
    episode_length: np.ndarray


def train_on_host(
    key: jax.Array,
    agent: Agent,
    env: HostEnv,
    hparams: Any,
    *,
    num_updates: int,
    rollout_length: int,
    state: Any = None,
    progress: Callable[[int, Metrics], Any] | None = None,
) -> tuple[Any, dict[str, np.ndarray]]:
    """Train an agent on environments on the host: `num_updates` times a rollout of [rollout_length, N] and an update.

    The environments are reset at the beginning, with a seed drawn from `key`: the same key is the same run where they
    depend on their seed alone. Agents that average whole episodes (Monte Carlo) need `purerl.train`.

    Args:
      key: typed key.
      agent: the agent.
      env: from `envs.from_gymnasium`.
      hparams: the agent's hyperparameters.
      num_updates: number of updates.
      rollout_length: steps in each environment between two updates, T.
      state: a trained state to start from, with its hyperparameters replaced; None starts afresh.
      progress: called as `progress(i, metrics)` after update i = 0, 1, ... with the scalars of that update.

    Returns:
      The trained state, and metrics with NumPy leaves [num_updates]: the agent's own, and `episode_return`,
      `episode_length` and `num_episodes` as in `purerl.train`.

    Raises:
      TypeError: `key` is not a typed key, or the agent's action does not fit the environment's action space.
      ValueError: a size is not positive, or a hyperparameter is NaN or out of range.
    """
    check_key(key)
    check_host(env)
    check_hparams(hparams)
    check_positive(num_updates=num_updates, rollout_length=rollout_length)
    init_key, reset_key, loop_key = jax.random.split(key, 3)
    obs, hparams = env.reset(_seed(reset_key)), cast(hparams)
    if state is None:
        state = _init(init_key, agent, hparams, jax.tree.map(lambda x: x[0], obs), env.num_envs)
    else:
        state = set_hparams(state, hparams)
    actors = _begin(reset_key, agent, env, state, obs)
    found: list[Metrics] = []
    for i in range(num_updates):
        memory, steps, ended = actors.memory, [], []
        for t in range(rollout_length):
            actors, transition, episodes = _step((loop_key, i, t), agent, env, state, actors)
            steps.append(transition)
            ended += episodes
        trajectory = jax.tree.map(lambda *x: np.stack(x), *steps)._replace(memory=memory)
        state, metrics = _update(loop_key, i, agent, state, trajectory)
        found.append(metrics | _episode_metrics(ended))
        if progress is not None:
            progress(i, found[-1])
    return state, {name: np.stack([metrics[name] for metrics in found]) for name in found[0]}


def evaluate_on_host(
    key: jax.Array, agent: Agent, env: HostEnv, state: Any, *, num_episodes: int, greedy: bool = True
) -> Evaluation:
    """Play whole episodes from fresh resets, without learning; each environment plays its share of them.

    The environments must have time limits of their own (`from_gymnasium(..., max_episode_steps=...)`).

    Args:
      key: typed key.
      agent, env: the agent and the environments.
      state: the agent's state.
      num_episodes: number of episodes.
      greedy: take the greedy action; otherwise sample.

    Returns:
      `Evaluation(episode_return, episode_length)`, each [num_episodes].
    """
    check_key(key)
    check_host(env)
    check_positive(num_episodes=num_episodes)
    actors = _begin(key, agent, env, state, env.reset(_seed(key)))
    left = np.bincount(np.arange(num_episodes) % env.num_envs, minlength=env.num_envs)
    kept: list[Episode] = []
    t = 0
    while left.any():
        actors, _, ended = _step((None if greedy else key, 0, t), agent, env, state, actors)
        kept += [episode for episode in ended if left[episode[0]] > 0]
        left[[i for i, _, _ in ended]] -= 1
        left, t = np.maximum(left, 0), t + 1
    _, episode_return, episode_length = zip(*kept)
    return Evaluation(jnp.asarray(episode_return, jnp.float32), jnp.asarray(episode_length, jnp.int32))


def _begin(key: jax.Array, agent: Agent, env: HostEnv, state: Any, obs: PyTree) -> HostActors:
    """Actors at the first observations.

    Raises:
      TypeError: the agent's action does not fit the environment's action space.
    """
    memory = _fresh_memory(key, agent, state, env.num_envs) if agent.memory else ()
    action, _, _ = jax.eval_shape(lambda: _act_once(key, agent, state, *_first((obs, memory))))
    check_action(action, env.action_space)
    return HostActors(obs, memory, np.zeros(env.num_envs, np.float32), np.zeros(env.num_envs, np.int32))


def _step(
    draw: tuple[jax.Array | None, int, int], agent: Agent, env: HostEnv, state: Any, actors: HostActors
) -> tuple[HostActors, Transition, list[Episode]]:
    """One step in all environments, and the episodes that ended in it; draw: key, number of the update, time."""
    action, aux, memory = _act(*draw, agent, state, actors.obs, actors.memory)
    new = env.step(action)
    transition = Transition(actors.obs, action, new.reward, new.terminated, new.truncated, new.next_obs, aux)
    total, length = actors.episode_return + new.reward, actors.episode_length + 1
    done = new.terminated | new.truncated
    if not done.any():
        return HostActors(new.obs, memory, total, length), transition, []
    ended = [(int(i), float(total[i]), int(length[i])) for i in np.flatnonzero(done)]
    if agent.memory:
        memory = _restart_memory(*draw, agent, state, memory, done)
    return HostActors(new.obs, memory, np.where(done, 0, total), np.where(done, 0, length)), transition, ended


def _episode_metrics(ended: list[Episode]) -> dict[str, Any]:
    nothing = np.float32(np.nan)
    return {
        "episode_return": np.mean([total for _, total, _ in ended], dtype=np.float32) if ended else nothing,
        "episode_length": np.mean([length for _, _, length in ended], dtype=np.float32) if ended else nothing,
        "num_episodes": np.int32(len(ended)),
    }


# --- What is compiled -------------------------------------------------------------------------------------------------


def _seed(key: jax.Array) -> int:
    return int(jax.random.randint(key, (), 0, 2**31 - 1))


def _first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tree)


def _keys(key: jax.Array, i: Any) -> jax.Array:
    """Keys of update i: for acting, for fresh memories, for learning."""
    return jax.random.split(jax.random.fold_in(key, i), 3)


@functools.partial(jax.jit, static_argnums=(1, 4))
def _init(key, agent, hparams, example, num_envs):  # type: ignore[no-untyped-def]
    return agent.init(key, hparams, example, num_envs)


def _act_once(key: Any, agent: Agent, state: Any, obs: PyTree, memory: PyTree) -> tuple[Any, Any, Any]:
    if agent.memory is None:
        return *agent.act(key, state, obs), ()
    return agent.act(key, state, obs, memory)


@functools.partial(jax.jit, static_argnums=3)
def _act(key, i, t, agent, state, obs, memory):  # type: ignore[no-untyped-def]
    if key is None:
        return jax.vmap(lambda obs, memory: _act_once(None, agent, state, obs, memory))(obs, memory)
    keys = jax.random.split(jax.random.fold_in(_keys(key, i)[0], t), jax.tree.leaves(obs)[0].shape[0])
    return jax.vmap(lambda key, obs, memory: _act_once(key, agent, state, obs, memory))(keys, obs, memory)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _fresh_memory(key, agent, state, num_envs):  # type: ignore[no-untyped-def]
    if key is None:
        return jax.vmap(lambda _: agent.memory(None, state))(jnp.arange(num_envs))
    return jax.vmap(agent.memory, (0, None))(jax.random.split(key, num_envs), state)


@functools.partial(jax.jit, static_argnums=3)
def _restart_memory(key, i, t, agent, state, memory, done):  # type: ignore[no-untyped-def]
    key = None if key is None else jax.random.fold_in(_keys(key, i)[1], t)
    fresh = _fresh_memory(key, agent, state, len(done))
    return jax.tree.map(lambda new, old: jnp.where(done.reshape(-1, *[1] * (new.ndim - 1)), new, old), fresh, memory)


@functools.partial(jax.jit, static_argnums=2)
def _update(key, i, agent, state, trajectory):  # type: ignore[no-untyped-def]
    return agent.update(_keys(key, i)[2], state, trajectory)
