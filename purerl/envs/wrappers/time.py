"""Wrappers that change time: a limit of steps, repeated actions.

The same environment wrapped the same way is the same object again, so it compiles once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.checking import standard
from purerl.envs.wrappers.inner import check_inner, check_order
from purerl.envs.wrappers.rendering import inner_render
from purerl.hparams import check_positive
from purerl.once import build_once
from purerl.spaces import Dict, Space
from purerl.types import Env, EnvStep, Key, PyTree


class TimeLimitState(NamedTuple):
    """State of the inner environment and number of steps since its reset."""

    env_state: PyTree
    time: jax.Array


@build_once
def time_limit(env: Env, num_steps: int) -> Env:
    """Cut every episode after `num_steps` steps:  truncated' = truncated ∨ (time ≥ num_steps ∧ ¬terminated).

    Steps are counted from the last reset. A limit of the environment's own stays in force.

    Args:
      env: any environment in JAX, except one of `with_state`, which must be the outermost wrapper.
      num_steps: the limit, at least 1.

    Raises:
      TypeError: the environment runs on the host.
      ValueError: the limit is not an integer of at least 1.

    Examples:
      >>> from purerl import envs
      >>> env = time_limit(envs.endless(), 2)
      >>> obs, env_state = env.reset(jax.random.key(0))
      >>> for _ in range(2):
      ...     step = env.step(jax.random.key(1), env_state, 0)
      ...     env_state = step.env_state
      >>> step.truncated.tolist(), step.terminated.tolist()
      (True, False)
    """
    check_inner(env, "time_limit")
    check_positive(num_steps=num_steps)

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, TimeLimitState]:
        obs, env_state = env.reset(key, env_params)
        check_order(obs, env.observation_space, "time_limit")
        return obs, TimeLimitState(env_state, jnp.int32(0))

    def step(key: Key, env_state: TimeLimitState, action: PyTree, env_params: PyTree = None) -> EnvStep:
        result = standard(env.step(key, env_state.env_state, action, env_params))
        time = env_state.time + 1
        truncated = result.truncated | ((time >= num_steps) & ~result.terminated)
        return result._replace(env_state=TimeLimitState(result.env_state, time), truncated=truncated)

    limit = num_steps if env.max_steps is None else min(num_steps, env.max_steps)
    return env._replace(reset=reset, step=step, render=inner_render(env), max_steps=limit)


@build_once
def action_repeat(env: Env, num_steps: int) -> Env:
    """Take every action `num_steps` times, or until the episode ends: reward = Σ r[t], info = its mean.

    The "rewards" of several agents, which an observation has beyond what its space names, are summed too.

    Args:
      env: any environment in JAX; its time limits count its own steps.
      num_steps: how often, at least 1.

    Raises:
      TypeError: the environment runs on the host.
      ValueError: `num_steps` is not an integer of at least 1.

    Examples:
      >>> from purerl import envs
      >>> env = action_repeat(envs.endless(), 4)
      >>> obs, env_state = env.reset(jax.random.key(0))
      >>> env.step(jax.random.key(1), env_state, 0).reward.tolist()
      4.0
    """
    check_inner(env, "action_repeat")
    check_positive(num_steps=num_steps)

    def step(key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None) -> EnvStep:
        keys = jax.random.split(key, num_steps)

        def again(result: EnvStep, key: Key) -> tuple[EnvStep, tuple[PyTree, jax.Array]]:
            new = standard(env.step(key, result.env_state, action, env_params))
            over = result.terminated | result.truncated
            obs = _with_total_rewards(env.observation_space, result.obs, new.obs)
            total = new._replace(obs=obs, reward=result.reward + new.reward, info=())
            return jax.tree.map(lambda old, new: jnp.where(over, old, new), result, total), (new.info, ~over)

        first = standard(env.step(keys[0], env_state, action, env_params))
        last, (info, taken) = jax.lax.scan(again, first._replace(info=()), keys[1:])  # info: [num_steps - 1]
        count = 1 + taken.sum()
        mean = jax.tree.map(lambda one, more: (one + jnp.where(taken, more, 0).sum()) / count, first.info, info)
        return last._replace(info=mean)

    limit = None if env.max_steps is None else math.ceil(env.max_steps / num_steps)
    return env._replace(step=step, max_steps=limit)


def _with_total_rewards(space: Space, before: PyTree, obs: PyTree) -> PyTree:
    """The observation with what its agents were paid so far; `space` names none of it."""
    named = isinstance(space, Dict) and "rewards" in space
    if named or not isinstance(obs, dict) or "rewards" not in obs:
        return obs
    return obs | {"rewards": before["rewards"] + obs["rewards"]}
