"""How experience is collected: `rollout` and `rollout_episodes`, and the `Actors` that they carry.

Environments never reset by themselves; the rollout does. On a CPU a reset of all environments is computed only in the
steps in which an episode ended somewhere (`lax.cond`), measured as 1.4 to 1.6 times the speed of a reset in every step.
On an accelerator, whose host would have to wait for that condition, all resets of a rollout are drawn before it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol, TypeAlias

import chex
import jax
import jax.numpy as jnp

from purerl import branches, prng
from purerl.distributed import mesh, platform
from purerl.envs.checking import check
from purerl.hparams import cast, check_positive
from purerl.loops.actors import Actor, Actors, begin_episodes, count_episodes, no_episodes, split_actors, step_all
from purerl.numerics import missing
from purerl.packing import pack, scan_packed
from purerl.prng import check_key
from purerl.types import Agent, Env, Key, PyTree, State, Transition

Rows: TypeAlias = list[jax.Array]
"""A tree as few arrays [N, D], by `packing.pack`."""

Running: TypeAlias = tuple[Actor, PyTree]
"""The carry of a rollout: observations, states and memories of the environments, and the counts of episodes."""

_Step: TypeAlias = Callable[[Running, Key], tuple[Running, jax.Array, PyTree]]
_Begin: TypeAlias = Callable[[Key], Actor]
_Collected: TypeAlias = tuple[Running, PyTree]

_AHEAD_BYTES = 64e6  # of the fresh episodes of one rollout
_WIDE_ON_CPU = 8  # elements of a row from which on it is written faster by itself


class Rollout(Protocol):
    """Collect the data of one update.

    It is an argument of the loops because learners differ in which steps they may see, and neither agents nor loops
    depend on how the steps were made: temporal-difference methods take episodes that are cut (`rollout`), Monte Carlo
    methods need whole ones (`rollout_episodes`), offline agents see recorded rows (`datasets.rows`), and language
    models decode with a cache (`rlhf.token_rollout`). All return a `Transition`, and the actors for the next call.
    """

    def __call__(
        self,
        key: Key,
        agent: Agent,
        env: Env,
        state: State,
        actors: Actors,
        /,
        *,
        length: int,
        env_params: PyTree = None,
    ) -> tuple[Actors, Transition]:
        """The actors after `length` steps in each of their environments, and the data."""


def rollout(
    key: Key, agent: Agent, env: Env, state: State, actors: Actors, *, length: int, env_params: PyTree = None
) -> tuple[Actors, Transition]:
    """Let the agent act for `length` steps in each environment. Where an episode ends, a new one starts.

    Args:
      key: typed key.
      agent, env: the agent and the environment.
      state: the agent's state, the same in every step.
      actors: the state of the environments, from `init_actors` or an earlier rollout.
      length: number of steps, T.
      env_params: parameters of the environment; None takes its own.

    Returns:
      The actors after the last step, and the trajectory, a `Transition` whose leaves lead with [T, N]. Its `memory`,
      [N], is the one before the first step.
    """
    check_key(key)
    check_positive(length=length)
    env_params = cast(env_params)
    env = check(env, env_params)
    with branches.for_this_process():
        return _rollout(key, agent, env, state, actors, length, env_params)


@functools.partial(jax.jit, static_argnums=(1, 2, 5))
def _rollout(
    key: Key, agent: Agent, env: Env, state: State, actors: Actors, length: int, env_params: PyTree
) -> tuple[Actors, Transition]:
    num_envs, memory = actors.episode_return.shape[0], actors.memory
    step_key, reset_key = prng.split(key)
    keys, reset_keys = prng.split(step_key, (length, num_envs, 2)), prng.split(reset_key, length)
    begin = functools.partial(
        begin_episodes, agent=agent, env=env, state=state, num_envs=num_envs, env_params=env_params
    )
    actors = split_actors(actors._replace(finished=jax.tree.map(jnp.zeros_like, actors.finished)))

    @jax.jit  # so that it is traced once for all platforms
    def step(running: Running, keys: Key) -> tuple[Running, jax.Array, PyTree]:
        """The next carry, which episodes ended, [N], and the step's transition and info."""
        before = _with_running(actors, running)
        transition, new, stepped = step_all(keys, agent, env, state, before, env_params)
        done = transition.terminated | transition.truncated
        chex.assert_trees_all_equal_shapes_and_dtypes(_where(before), _where(stepped))
        return _running(_count_ended(before, done, stepped)), done, (transition, new.info)

    on_cpu, elsewhere = (functools.partial(way, step, begin) for way in (_reset_if_any_ended, _reset_from_drawn))
    running, (trajectory, info) = branches.dependent(_running(actors), keys, reset_keys, cpu=on_cpu, default=elsewhere)
    actors = _with_running(actors, running)
    info, done = dict(info or {}), trajectory.terminated | trajectory.truncated
    actors = actors._replace(
        info={name: jnp.mean(x.astype(jnp.float32)) for name, x in info.items()},
        info_at_end={name: _mean_where(done, x) for name, x in info.items()},
    )
    return split_actors(actors), mesh.split(trajectory, axis=1)._replace(memory=memory)


def _where(actors: Actors) -> Actor:
    return actors.obs, actors.env_state, actors.memory


def _running(actors: Actors) -> Running:
    """The part of the actors that changes from step to step."""
    return _where(actors), (actors.episode_return, actors.episode_length, actors.finished)


def _with_running(actors: Actors, running: Running) -> Actors:
    (obs, env_state, memory), (episode_return, episode_length, finished) = running
    return Actors(env_state, obs, memory, episode_return, episode_length, finished, actors.info, actors.info_at_end)


def _reset_if_any_ended(step: _Step, begin: _Begin, running: Running, keys: Key, reset_keys: Key) -> _Collected:
    """All steps on a CPU: fresh episodes are drawn in the steps in which one ended."""

    def one(running: Running, keys: tuple[Key, Key]) -> tuple[Running, PyTree]:
        (where, counts), done, row = step(running, keys[0])

        def replace(where: Actor) -> Actor:
            return jax.tree.map(functools.partial(_overwrite, done), begin(keys[1]), where)

        return (jax.lax.cond(done.any(), replace, lambda where: where, where), counts), row

    return scan_packed(jax.lax.scan, one, running, (keys, reset_keys), wide=_WIDE_ON_CPU)


def _reset_from_drawn(step: _Step, begin: _Begin, running: Running, keys: Key, reset_keys: Key) -> _Collected:
    """All steps on an accelerator: the same episodes, drawn before the first step unless they take too much memory."""
    # Each step carries a few arrays [N, D], however many fields there are: on a GPU each is a kernel.
    carried, unpack = pack(running)

    def draw(key: Key) -> Rows:
        return pack(begin(key))[0]

    def one(carried: Rows, xs: tuple[tuple[Key, Key], Rows | None]) -> tuple[Rows, PyTree]:
        (keys, reset_key), fresh = xs
        after, done, row = step(unpack(carried), keys)
        carried, _ = pack(after)
        changed = [_overwrite(done, *pair) for pair in zip(draw(reset_key) if fresh is None else fresh, carried)]
        return changed + carried[len(changed) :], row

    size = reset_keys.shape[0] * sum(each.size * each.dtype.itemsize for each in pack(running[0])[0])
    fresh = jax.vmap(draw)(jax.random.clone(reset_keys)) if size <= _AHEAD_BYTES else None
    carried, trajectory = scan_packed(platform.scan_unrolled, one, carried, ((keys, reset_keys), fresh))
    return unpack(carried), trajectory


def _count_ended(actors: Actors, done: jax.Array, stepped: Actors) -> Actors:
    """The counts of episodes after a step; those that ended start again at 0."""
    return stepped._replace(
        episode_return=jnp.where(done, 0, stepped.episode_return),
        episode_length=jnp.where(done, 0, stepped.episode_length),
        finished=count_episodes(actors.finished, done, stepped.episode_return, stepped.episode_length),
    )


def rollout_episodes(
    key: Key, agent: Agent, env: Env, state: State, actors: Actors, *, length: int, env_params: PyTree = None
) -> tuple[Actors, Transition]:
    """Play one whole episode per environment, from fresh resets, as Monte Carlo methods need it.

    Arguments and results are those of `rollout`, with `mask` [T, N] float32: 1 up to the step that ends the episode, 0
    after it. An episode that does not end within `length` steps is truncated at the last one and counts as finished.
    """
    check_key(key)
    check_positive(length=length)
    env_params = cast(env_params)
    env = check(env, env_params)
    with branches.for_this_process():
        return _rollout_episodes(key, agent, env, state, actors, length, env_params)


@functools.partial(jax.jit, static_argnums=(1, 2, 5))
def _rollout_episodes(
    key: Key, agent: Agent, env: Env, state: State, actors: Actors, length: int, env_params: PyTree
) -> tuple[Actors, Transition]:
    num_envs = actors.episode_return.shape[0]
    step_key, reset_key = prng.split(key)
    obs, env_state, memory = begin_episodes(reset_key, agent, env, state, num_envs, env_params)
    actors = split_actors(Actors(env_state, obs, memory, *no_episodes(num_envs), actors.info, actors.info_at_end))

    def step(
        carry: tuple[Actors, jax.Array], xs: tuple[Key, jax.Array]
    ) -> tuple[tuple[Actors, jax.Array], tuple[Transition, PyTree]]:
        actors, alive = carry
        keys, is_last = xs
        transition, new, stepped = step_all(keys, agent, env, state, actors, env_params)
        truncated = transition.truncated | (is_last & ~transition.terminated)
        ended = alive & (transition.terminated | truncated)
        stepped = stepped._replace(
            episode_return=actors.episode_return + jnp.where(alive, transition.reward, 0),
            episode_length=actors.episode_length + alive,
        )
        transition = transition._replace(truncated=truncated, mask=alive.astype(jnp.float32))
        finished = count_episodes(actors.finished, ended, stepped.episode_return, stepped.episode_length)
        return (stepped._replace(finished=finished), alive & ~ended), (transition, new.info)

    xs = prng.split(step_key, (length, num_envs, 2)), jnp.arange(length) == length - 1  # [T, N, 2], [T]
    (actors, _), (trajectory, info) = jax.lax.scan(step, (actors, jnp.ones(num_envs, bool)), xs)
    played = trajectory.mask > 0
    info, done = dict(info or {}), played & (trajectory.terminated | trajectory.truncated)
    actors = actors._replace(
        info={name: _mean_where(played, x) for name, x in info.items()},
        info_at_end={name: _mean_where(done, x) for name, x in info.items()},
    )
    return split_actors(actors), mesh.split(trajectory, axis=1)._replace(memory=memory)


# --- The parts --------------------------------------------------------------------------------------------------------


def _overwrite(done: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """`new` over the first columns of `old` where done [N]; rows [N, D] and [N, D + ...], or both of one shape."""
    if new.shape == old.shape:
        return jnp.where(done.reshape(done.shape + (1,) * (new.ndim - 1)), new, old)  # [N] -> [N, 1, ..., 1]
    width = new.shape[1]
    return jnp.concatenate([jnp.where(done[:, None], new, old[:, :width]), old[:, width:]], axis=1)


def _mean_where(where: jax.Array, x: jax.Array) -> jax.Array:
    """Mean of x [T, N] over some of the steps, float32; what stands for a missing metric if there are none."""
    count = where.sum(dtype=jnp.float32)
    return jnp.where(count > 0, jnp.where(where, x.astype(jnp.float32), 0).sum() / jnp.maximum(count, 1), missing())
