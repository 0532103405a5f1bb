"""Environments whose values are known exactly. Each can be learned only if one more part of an agent works."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.hparams import cast, suggestion
from purerl.once import build_once
from purerl.spaces import Box, Discrete
from purerl.types import Env, EnvStep, Key, Scalar

_INTERVAL = Box(-1.0, 1.0, (1,))


class ProbeParams(NamedTuple):
    """Selects what the probe environment tests. It is data, so an agent compiles once for all tests.

    With o the observation and m = action + action_observation · o, the last step of an episode pays

        two actions a ∈ {0, 1}:   constant + observation · o + (2a − 1) m
        a real action a:          constant + observation · o − m² (a − m/2)²

    and every earlier step pays nothing.

    Attributes:
      length: int, steps of an episode, 1 or 2.
      random_obs: bool, the first observation is −1 or 1 with equal probability; otherwise 0. The second one is 1.
      constant, observation, action, action_observation: float, the coefficients above; |m| is at most 1.
    """

    length: Scalar = 1
    random_obs: Scalar = False
    constant: Scalar = 0.0
    observation: Scalar = 0.0
    action: Scalar = 0.0
    action_observation: Scalar = 0.0


PROBES = {
    "value_constant": ProbeParams(constant=1.0),
    "value_of_observation": ProbeParams(random_obs=True, observation=1.0),
    "discounting": ProbeParams(length=2, constant=1.0),
    "action": ProbeParams(action=1.0),
    "action_and_observation": ProbeParams(random_obs=True, action_observation=1.0),
}
"""The tests by name, in the order in which they should pass: the first that fails shows what is broken."""


class ProbeState(NamedTuple):
    """Observation `[1]` and number of steps taken of a running episode."""

    obs: jax.Array
    time: jax.Array


def probe_params(name: str) -> ProbeParams:
    """The parameters of one of the `PROBES`, as arrays.

    Raises:
      ValueError: unknown name; the message has the nearest known one.

    Examples:
      >>> probe_params("discounting").length.tolist()
      2
    """
    if name not in PROBES:
        raise ValueError(f"unknown probe {name!r}{suggestion(name, PROBES)}")
    return cast(PROBES[name])


def probe(*, continuous: bool = False) -> Env:
    """The probe environment; `env_params=probe_params(name)` selects what it tests (default: "value_constant").

    Observation: `[1]` float32. After the last step the successor repeats the last observation, so an agent that
    bootstraps across the end of an episode learns r / (1 − γ) instead of r.

    Args:
      continuous: False for two actions, True for one real action in [−1, 1].

    Returns:
      The same `Env` object for the same argument.

    Examples:
      >>> obs, env_state = probe().reset(jax.random.key(0))
      >>> probe().step(jax.random.key(1), env_state, 1).reward.tolist()
      1.0
    """

    return _probe(continuous)


@build_once
def _probe(continuous: bool) -> Env:
    def reset(key: Key, env_params: ProbeParams | None = None) -> tuple[jax.Array, ProbeState]:
        params = PROBES["value_constant"] if env_params is None else env_params
        sign = jax.random.rademacher(key, (1,), jnp.float32)
        obs = jnp.where(params.random_obs, sign, 0.0).astype(jnp.float32)
        return obs, ProbeState(obs, jnp.int32(0))

    def step(key: Key, env_state: ProbeState, action: jax.Array, env_params: ProbeParams | None = None) -> EnvStep:
        del key
        params = PROBES["value_constant"] if env_params is None else env_params
        time = env_state.time + 1
        last = time >= params.length
        reward = jnp.where(last, _last_reward(params, env_state.obs[0], action, continuous), 0.0)
        obs = jnp.where(last, env_state.obs, 1.0)
        return EnvStep(obs, ProbeState(obs, time), reward.astype(jnp.float32), last, jnp.bool_(False))

    return Env(reset, step, _INTERVAL, _INTERVAL if continuous else Discrete(2))


def probe_value(params: ProbeParams, obs: jax.Array, discount: Scalar, *, continuous: bool = False) -> jax.Array:
    """The value of an observation of the probe environment under the best policy.

        V(o) = γ^k (constant + observation · o' + best),   best = |m| with two actions, 0 with a real action

    with k the number of steps before the last one and o' the observation at the last one.

    Args:
      params: `ProbeParams`.
      obs: `[..., 1]`, observations that occur under these parameters.
      discount: γ.
      continuous: as for `probe`.

    Returns:
      `[...]` float32.

    Examples:
      >>> probe_value(probe_params("discounting"), jnp.array([0.0]), 0.5).tolist()
      0.5
    """
    obs = jnp.asarray(obs, jnp.float32)[..., 0]
    steps_before = jnp.where(params.random_obs, 0.0, params.length - 1 - obs)
    last_obs = jnp.where(params.random_obs, obs, params.length - 1)
    best_action = probe_action(params, last_obs[..., None], continuous=continuous)
    reward = _last_reward(params, last_obs, best_action, continuous)
    return (discount**steps_before * reward).astype(jnp.float32)


def probe_action(params: ProbeParams, obs: jax.Array, *, continuous: bool = False) -> jax.Array:
    """The best action at the last step: 1 where m > 0 and 0 elsewhere `[...]`, or the real action m/2 `[..., 1]`.

    Where m = 0 all actions are equally good. `obs` is `[..., 1]`.

    Examples:
      >>> probe_action(probe_params("action_and_observation"), jnp.array([[1.0], [-1.0]])).tolist()
      [1, 0]
    """
    wanted = params.action + params.action_observation * jnp.asarray(obs, jnp.float32)
    return wanted / 2 if continuous else (wanted[..., 0] > 0).astype(jnp.int32)


def _last_reward(params: ProbeParams, obs: jax.Array, action: jax.Array, continuous: bool) -> jax.Array:
    wanted = params.action + params.action_observation * obs
    if continuous:
        action = jnp.clip(jnp.asarray(action, jnp.float32)[..., 0], -1.0, 1.0)
        effect = -(wanted**2) * (action - wanted / 2) ** 2
    else:
        effect = (2 * action - 1) * wanted
    return params.constant + params.observation * obs + effect


class EndlessParams(NamedTuple):
    """Parameters of the endless environment, all float but the last.

    Attributes:
      reward: reward of every step after the first.
      first_reward: reward of the first step after a reset.
      mark_first: bool, the first observation is 1 instead of 0.
    """

    reward: Scalar = 1.0
    first_reward: Scalar = 1.0
    mark_first: Scalar = False


def endless(*, continuous: bool = False) -> Env:
    """An environment that never ends and pays 1 per step, whatever the action: V = 1 / (1 − γ).

    Cut by `time_limit` it shows whether an agent bootstraps a truncated step from the true successor. With
    `env_params=EndlessParams(first_reward=c, mark_first=True)` the first observation of an episode, [1], has the value
    c + γ / (1 − γ), and every other one, [0], still 1 / (1 − γ): unless values leak from the next episode.

    Args:
      continuous: False for two actions, True for one real action in [−1, 1].

    Returns:
      The same `Env` object for the same argument.

    Examples:
      >>> obs, env_state = endless().reset(jax.random.key(0), EndlessParams(first_reward=5.0))
      >>> endless().step(jax.random.key(1), env_state, 0, EndlessParams(first_reward=5.0)).reward.tolist()
      5.0
    """

    return _endless(continuous)


@build_once
def _endless(continuous: bool) -> Env:
    def reset(key: Key, env_params: EndlessParams | None = None) -> tuple[jax.Array, jax.Array]:
        del key
        params = EndlessParams() if env_params is None else env_params
        return jnp.asarray(params.mark_first, jnp.float32)[None], jnp.bool_(True)

    def step(key: Key, env_state: jax.Array, action: jax.Array, env_params: EndlessParams | None = None) -> EnvStep:
        del key, action
        params = EndlessParams() if env_params is None else env_params
        reward = jnp.where(env_state, params.first_reward, params.reward).astype(jnp.float32)
        never = jnp.bool_(False)
        return EnvStep(jnp.zeros(1, jnp.float32), jnp.bool_(False), reward, never, never)

    return Env(reset, step, _INTERVAL, _INTERVAL if continuous else Discrete(2))
