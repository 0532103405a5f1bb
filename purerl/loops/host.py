"""`train` and `evaluate` for environments on the host: Python steps them, `act` and `update` are the compiled ones.

It is the loop of `purerl.loops` with the environment outside: the same agents, the same `Transition` [T, N], the same
metrics. If an environment exists in JAX, `purerl.train` on it is many times as fast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl import prng
from purerl.envs.adapters.gymnasium import HostEnv, check_host
from purerl.hparams import cast, check_positive, set_hparams, warn_if_annealed
from purerl.loops import Evaluation, agents, checking
from purerl.loops.actors import first
from purerl.loops.chunked import Callback, Chunk, call_all, stacked
from purerl.prng import check_key
from purerl.spaces import check_action
from purerl.types import Agent, Hparams, Key, Metrics, PyTree, State, Transition

Episode: TypeAlias = tuple[int, float, int]
"""Environment, return and length of an episode that ended."""
Draw: TypeAlias = tuple[Key | None, int, int]
"""Key of the run (None: greedy), number of the update, time: together they fix the randomness of a step."""


class HostActors(NamedTuple):
    """The state of N environments between two steps, as far as the loop keeps it.

    Attributes:
      obs, memory: last observations and the agent's memories, leaves [N, ...].
      episode_return, episode_length: rewards and steps of the running episodes, [N].
    """

    obs: PyTree
    memory: PyTree
    episode_return: np.ndarray
    episode_length: np.ndarray


def train_on_host(
    key: Key,
    agent: Agent,
    env: HostEnv,
    hparams: Hparams,
    *,
    num_updates: int,
    rollout_length: int,
    state: State | None = None,
    progress: Callable[[int, Metrics], object] | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[State, dict[str, np.ndarray]]:
    """Train an agent on environments on the host: `num_updates` times a rollout of [rollout_length, N] and an update.

    The environments are reset at the beginning, with a seed drawn from `key`: the same key is the same run if they
    depend on their seed alone. Agents that need whole episodes (Monte Carlo) need `purerl.train`.

    Args:
      key: typed key.
      agent: the agent.
      env: from `envs.from_gymnasium`.
      hparams: the agent's hyperparameters.
      num_updates: number of updates.
      rollout_length: steps in each environment between two updates, T.
      state: a trained state to start from, with its hyperparameters replaced; None starts afresh. Replay, traces and
        running returns in it are cut, because the environments start new episodes (`Agent.cut`).
      progress: called as `progress(i, metrics)` after update i = 0, 1, ... with the scalars of that update.
      callbacks: as in `train_in_chunks`, where every update is a chunk.

    Returns:
      The trained state, and metrics with NumPy leaves [num_updates], fewer if a callback ends the run: the agent's own,
      and `episode_return`, `episode_length` and `num_episodes` as in `purerl.train`.

    Raises:
      TypeError: `key` is not a typed key, or the agent's action does not fit the environment's action space.
      ValueError: a size is not positive, a hyperparameter is NaN or out of range, or the agent is one for `fit`.
    """
    check_key(key)
    checking.check_agent(agent)
    checking.check_learns_from_rollouts(agent)
    check_host(env)
    checking.check_hparams(agent, hparams)
    warn_if_annealed(state, hparams)
    check_positive(num_updates=num_updates, rollout_length=rollout_length)
    init_key, reset_key, loop_key = jax.random.split(key, 3)
    obs, hparams = _copied(env.reset(_seed(reset_key))), cast(hparams)
    if state is None:
        state = _init(init_key, agent, hparams, jax.tree.map(lambda x: x[0], obs), env.num_envs)
    else:
        state = set_hparams(agent.cut(state) if agent.cut else state, hparams)
    actors = _begin(jax.random.clone(reset_key), agent, env, state, obs)
    found: list[dict[str, Any]] = []
    for i in range(num_updates):
        state, actors, metrics = update_on_host(loop_key, i, agent, env, state, actors, rollout_length)
        found.append(metrics)
        if progress is not None:
            progress(i, found[-1])
        if callbacks:
            numbers = {name: np.asarray(value).item() for name, value in found[-1].items()}
            found[-1] = numbers
            if call_all(callbacks, Chunk(i + 1, (i + 1) * rollout_length * env.num_envs, numbers, state)):
                break
    return state, stacked(found)


def begin_on_host(key: Key, agent: Agent, env: HostEnv, state: State) -> HostActors:
    """Actors at the first observations of episodes, which the environments begin with a seed drawn from `key`."""
    return _begin(jax.random.clone(key), agent, env, state, _copied(env.reset(_seed(key))))


def update_on_host(
    key: Key, i: int, agent: Agent, env: HostEnv, state: State, actors: HostActors, rollout_length: int
) -> tuple[State, HostActors, dict[str, Any]]:
    """Update i of the run of a key: a rollout and the agent's update, with the metrics of `train_on_host` for it."""
    memory, steps, ended = actors.memory, [], []
    for t in range(rollout_length):
        actors, transition, episodes = _step((key, i, t), agent, env, state, actors)
        steps.append(transition)
        ended += episodes
    trajectory = jax.tree.map(lambda *x: np.stack(x), *steps)._replace(memory=memory)  # T times [N] -> [T, N]
    state, metrics = _update(key, i, agent, state, trajectory)
    return state, actors, metrics | _episode_metrics(ended)


def evaluate_on_host(
    key: Key, agent: Agent, env: HostEnv, state: State, *, num_episodes: int, greedy: bool = True
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
    obs = _copied(env.reset(_seed(jax.random.clone(key))))
    actors = _begin(None if greedy else jax.random.clone(key), agent, env, state, obs)
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


def play_on_host(
    key: Key,
    agent: Agent,
    env: HostEnv,
    state: State,
    look: Callable[[], object],
    *,
    max_steps: int,
    greedy: bool = True,
) -> Transition:
    """Play one episode of the first environment, and look at it on the way.

    Args:
      key: typed key.
      agent, env, state: as in `evaluate_on_host`.
      look: called before every step.
      max_steps: longest episode, in steps.
      greedy: take the greedy action; otherwise sample.

    Returns:
      The episode, leaves [L, ...].
    """
    check_key(key)
    check_host(env)
    check_positive(max_steps=max_steps)
    obs = _copied(env.reset(_seed(jax.random.clone(key))))
    actors = _begin(None if greedy else jax.random.clone(key), agent, env, state, obs)
    steps: list[Transition] = []
    for t in range(max_steps):
        look()
        actors, transition, ended = _step((None if greedy else key, 0, t), agent, env, state, actors)
        steps.append(jax.tree.map(lambda x: np.asarray(x[0]), transition))  # [N, ...] -> [...]
        if any(i == 0 for i, _, _ in ended):
            break
    return jax.tree.map(lambda *x: np.stack(x), *steps)


def _begin(key: Key | None, agent: Agent, env: HostEnv, state: State, obs: PyTree) -> HostActors:
    """Actors at the first observations; without a key, with the memories of greedy play.

    Raises:
      TypeError: the agent's action does not fit the environment's action space.
    """
    memory = _fresh_memory(key, agent, state, env.num_envs) if agent.memory else ()
    action, _, _ = jax.eval_shape(lambda: checking.act(agent, None, state, *first((obs, memory))))
    check_action(action, env.action_space)
    return HostActors(obs, memory, np.zeros(env.num_envs, np.float32), np.zeros(env.num_envs, np.int32))


def _step(
    draw: Draw, agent: Agent, env: HostEnv, state: State, actors: HostActors
) -> tuple[HostActors, Transition, list[Episode]]:
    """One step in all environments, and the episodes that ended in it."""
    action, aux, memory = _act(*draw, agent, state, actors.obs, actors.memory)
    new = _copied(env.step(action))
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


# --- Compiled functions -----------------------------------------------------------------------------------------------


def _copied(tree: PyTree) -> PyTree:
    """Arrays of our own: an environment may write its next observations into the ones that it returned."""
    return jax.tree.map(np.array, tree)


def _seed(key: Key) -> int:
    return int(jax.random.randint(key, (), 0, 2**31 - 1))


def _keys(key: Key, i: int | jax.Array) -> Key:
    """Keys of update i: for acting, for fresh memories, for learning."""
    return prng.split(prng.fold_in(key, i), 3)


@functools.partial(jax.jit, static_argnums=(1, 4))
def _init(key: Key, agent: Agent, hparams: Hparams, example: PyTree, num_envs: int) -> State:
    return agents.initial_state(lambda key: checking.init(agent, key, hparams, example, num_envs), key)


@functools.partial(jax.jit, static_argnums=3)
def _act(
    key: Key | None, i: int, t: int, agent: Agent, state: State, obs: PyTree, memory: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
    if key is None:
        return jax.vmap(lambda obs, memory: checking.act(agent, None, state, obs, memory))(obs, memory)
    keys = prng.split(prng.fold_in(_keys(key, i)[0], t), jax.tree.leaves(obs)[0].shape[0])
    return jax.vmap(lambda key, obs, memory: checking.act(agent, key, state, obs, memory))(
        prng.unrolled(keys), obs, memory
    )


@functools.partial(jax.jit, static_argnums=(1, 3))
def _fresh_memory(key: Key | None, agent: Agent, state: State, num_envs: int) -> PyTree:
    assert agent.memory is not None
    if key is None:
        one = agent.memory(None, state)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_envs, *jnp.shape(x))), one)  # [...] -> [N, ...]
    return jax.vmap(agent.memory, (0, None))(jax.random.split(key, num_envs), state)


@functools.partial(jax.jit, static_argnums=3)
def _restart_memory(
    key: Key | None, i: int, t: int, agent: Agent, state: State, memory: PyTree, done: jax.Array
) -> PyTree:
    key = None if key is None else jax.random.fold_in(_keys(key, i)[1], t)
    fresh = _fresh_memory(key, agent, state, len(done))
    return jax.tree.map(lambda new, old: jnp.where(done.reshape(-1, *[1] * (new.ndim - 1)), new, old), fresh, memory)


@functools.partial(jax.jit, static_argnums=2)
def _update(key: Key, i: int, agent: Agent, state: State, trajectory: Transition) -> tuple[State, Metrics]:
    return agents.update(agent, _keys(key, i)[2], state, trajectory)
