"""How experience is collected: `rollout` and `rollout_episodes`, and the `Actors` that they carry on.

Environments never reset by themselves; the rollout does. A reset of all environments is computed only in the steps in
which an episode ended somewhere (`lax.cond`): measured as 1.4 to 1.6 times the speed of a reset in every step.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import prng
from purerl.distributed import mesh
from purerl.hparams import cast, check_positive
from purerl.prng import check_key
from purerl.spaces import check_action
from purerl.types import Agent, Env, EnvStep, Transition


class Finished(NamedTuple):
    """What the episodes that ended in one rollout add up to, an environment each: [N]."""

    return_sum: jax.Array
    length_sum: jax.Array
    num_episodes: jax.Array


class Actors(NamedTuple):
    """What N environments carry from one rollout to the next; every leaf leads with [N], but for `info`.

    Attributes:
      env_state: states of the environments.
      obs: their last observations.
      memory: the agent's memory in each; `()` for agents without.
      episode_return: float32, rewards of the running episode so far.
      episode_length: int32, its steps so far.
      finished: the episodes that ended within the last rollout.
      info: means over the last rollout of the scalars in the environment's info, a dict.
    """

    env_state: Any
    obs: Any
    memory: Any
    episode_return: jax.Array
    episode_length: jax.Array
    finished: Finished
    info: Any


def init_actors(key: jax.Array, agent: Agent, env: Env, state: Any, *, num_envs: int, env_params: Any = None) -> Actors:
    """N environments at the start of an episode.

    Args:
      key: typed key.
      agent, env: the agent and the environment.
      state: the agent's state, from which its memory starts.
      num_envs: number of environments, N.
      env_params: parameters of the environment; None takes its own.

    Raises:
      TypeError: the agent's action does not fit the environment's action space.
    """
    check_key(key)
    check_positive(num_envs=num_envs)
    obs, env_state, memory = _begin(key, agent, env, state, num_envs, env_params)
    step = jax.eval_shape(
        functools.partial(_one_step, agent, env, env_params),
        jax.random.split(key),
        state,
        _first((obs, env_state, memory)),
    )
    check_action(step[0], env.action_space)
    info = {name: jnp.float32(0) for name in (step[3].info or {})}
    return _split(Actors(env_state, obs, memory, *_no_episodes(num_envs), info))


def rollout(
    key: jax.Array, agent: Agent, env: Env, state: Any, actors: Actors, *, length: int, env_params: Any = None
) -> tuple[Actors, Transition]:
    """Let the agent act for `length` steps in each of the actors' environments, starting new episodes where one ends.

    Args:
      key: typed key.
      agent, env: the agent and the environment.
      state: the agent's state, the same in every step.
      actors: where the environments stand, from `init_actors` or an earlier rollout.
      length: number of steps, T.
      env_params: parameters of the environment; None takes its own.

    Returns:
      The actors after the last step, and the trajectory: a `Transition` whose leaves lead with [T, N] (its `memory`,
      with [N], is that before the first step).
    """
    check_key(key)
    check_positive(length=length)
    return _rollout(key, agent, env, state, actors, length, cast(env_params))


@functools.partial(jax.jit, static_argnums=(1, 2, 5))
def _rollout(key, agent, env, state, actors, length, env_params):  # type: ignore[no-untyped-def]
    num_envs = actors.episode_return.shape[0]
    memory = actors.memory
    step_key, reset_key = jax.random.split(key)
    keys = jax.random.split(step_key, (length, num_envs, 2)), jax.random.split(reset_key, length)

    def step(actors: Actors, keys: Any) -> tuple[Actors, tuple[Transition, Any]]:
        transition, new, actors = _step_all(keys[0], agent, env, state, actors, env_params)
        return _restart(keys[1], agent, env, state, actors, transition, env_params), (transition, new.info)

    actors = _split(actors._replace(finished=jax.tree.map(jnp.zeros_like, actors.finished)))
    actors, (trajectory, info) = jax.lax.scan(step, actors, keys)
    actors = actors._replace(info={name: jnp.mean(x.astype(jnp.float32)) for name, x in (info or {}).items()})
    return _split(actors), mesh.split(trajectory, axis=1)._replace(memory=memory)


def rollout_episodes(
    key: jax.Array, agent: Agent, env: Env, state: Any, actors: Actors, *, length: int, env_params: Any = None
) -> tuple[Actors, Transition]:
    """One whole episode an environment, from fresh resets: what Monte Carlo methods need, which a cut rollout biases.

    Arguments and results are those of `rollout`, with `mask` [T, N] float32: 1 up to the step that ends the episode, 0
    after it. An episode that does not end within `length` steps is truncated at the last one, and counted as finished.
    """
    check_key(key)
    check_positive(length=length)
    return _rollout_episodes(key, agent, env, state, actors, length, cast(env_params))


@functools.partial(jax.jit, static_argnums=(1, 2, 5))
def _rollout_episodes(key, agent, env, state, actors, length, env_params):  # type: ignore[no-untyped-def]
    num_envs = actors.episode_return.shape[0]
    step_key, reset_key = jax.random.split(key)
    obs, env_state, memory = _begin(reset_key, agent, env, state, num_envs, env_params)
    actors = _split(Actors(env_state, obs, memory, *_no_episodes(num_envs), actors.info))

    def step(carry: tuple[Actors, jax.Array], xs: Any) -> Any:
        actors, alive = carry
        keys, is_last = xs
        transition, new, stepped = _step_all(keys, agent, env, state, actors, env_params)
        truncated = transition.truncated | (is_last & ~transition.terminated)
        ended = alive & (transition.terminated | truncated)
        mask = alive.astype(jnp.float32)
        stepped = stepped._replace(
            episode_return=actors.episode_return + mask * transition.reward,
            episode_length=actors.episode_length + alive,
        )
        transition = transition._replace(truncated=truncated, mask=mask)
        finished = _count(actors.finished, ended, stepped.episode_return, stepped.episode_length)
        return (stepped._replace(finished=finished), alive & ~ended), (transition, new.info)

    xs = jax.random.split(step_key, (length, num_envs, 2)), jnp.arange(length) == length - 1
    (actors, _), (trajectory, info) = jax.lax.scan(step, (actors, jnp.ones(num_envs, bool)), xs)
    count = trajectory.mask.sum()
    info = {name: (x * trajectory.mask).sum() / count for name, x in (info or {}).items()}
    return _split(actors._replace(info=info)), mesh.split(trajectory, axis=1)._replace(memory=memory)


# --- The parts --------------------------------------------------------------------------------------------------------


def _begin(key: jax.Array, agent: Agent, env: Env, state: Any, num_envs: int, env_params: Any) -> tuple[Any, Any, Any]:
    """Observations, environment states and memories of N fresh episodes."""
    reset_key, memory_key = jax.random.split(key)
    obs, env_state = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, num_envs), env_params)
    if agent.memory is None:
        return obs, env_state, ()
    return obs, env_state, jax.vmap(agent.memory, (0, None))(jax.random.split(memory_key, num_envs), state)


def _split(actors: Actors) -> Actors:
    """The actors split over devices by environment, where a mesh is set."""
    return mesh.split(actors._replace(info=()))._replace(info=actors.info)


def _one_step(agent: Agent, env: Env, env_params: Any, keys: jax.Array, state: Any, actor: Any) -> Any:
    """One environment, one step, keys [2] for the agent and the environment: (action, aux, memory, EnvStep)."""
    obs, env_state, memory = actor
    act_key, env_key = prng.unrolled(keys[0]), keys[1]
    if agent.memory is None:
        action, aux = agent.act(act_key, state, obs)
    else:
        action, aux, memory = agent.act(act_key, state, obs, memory)
    return action, aux, memory, env.step(env_key, env_state, action, env_params)


def _step_all(
    keys: jax.Array, agent: Agent, env: Env, state: Any, actors: Actors, env_params: Any
) -> tuple[Transition, EnvStep, Actors]:
    """One step in every environment, without resets. The actors still stand in the episode that may have ended."""
    step = functools.partial(_one_step, agent, env, env_params)
    action, aux, memory, new = jax.vmap(step, (0, None, 0))(keys, state, (actors.obs, actors.env_state, actors.memory))
    transition = Transition(actors.obs, action, new.reward, new.terminated, new.truncated, new.obs, aux)
    actors = actors._replace(
        env_state=new.env_state,
        obs=new.obs,
        memory=memory,
        episode_return=actors.episode_return + new.reward,
        episode_length=actors.episode_length + 1,
    )
    return transition, new, actors


def _restart(
    key: jax.Array, agent: Agent, env: Env, state: Any, actors: Actors, transition: Transition, env_params: Any
) -> Actors:
    """Count the episodes that ended in this step and begin new ones in their place."""
    done = transition.terminated | transition.truncated
    finished = _count(actors.finished, done, actors.episode_return, actors.episode_length)

    def begin(running: Any) -> Any:
        fresh = _begin(key, agent, env, state, done.shape[0], env_params)
        return jax.tree.map(lambda new, old: _select(done, new, old), fresh, running)

    running = (actors.obs, actors.env_state, actors.memory)
    obs, env_state, memory = jax.lax.cond(done.any(), begin, lambda running: running, running)
    return Actors(
        env_state,
        obs,
        memory,
        jnp.where(done, 0, actors.episode_return),
        jnp.where(done, 0, actors.episode_length),
        finished,
        actors.info,
    )


def _no_episodes(num_envs: int) -> tuple[jax.Array, jax.Array, Finished]:
    """Running return, running length and finished episodes at the very start."""
    zeros, counts = jnp.zeros(num_envs, jnp.float32), jnp.zeros(num_envs, jnp.int32)
    return zeros, counts, Finished(zeros, counts, counts)


def _count(finished: Finished, ended: jax.Array, episode_return: jax.Array, episode_length: jax.Array) -> Finished:
    return Finished(
        finished.return_sum + jnp.where(ended, episode_return, 0),
        finished.length_sum + jnp.where(ended, episode_length, 0),
        finished.num_episodes + ended,
    )


def _select(done: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """`new` where done [N], `old` elsewhere; typed keys too."""
    return jnp.where(done.reshape(done.shape + (1,) * (new.ndim - 1)), new, old)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)
