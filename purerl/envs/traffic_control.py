"""How crossings are switched today, as agents that learn nothing: by the clock, and by the queues at the lights."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.traffic import LANE, MINUTE
from purerl.hparams import NonNegative
from purerl.spaces import Discrete
from purerl.types import Agent, Env, EnvStep, Metrics

NORTH_SOUTH, EAST_WEST = 0b0101, 0b1010  # the actions of `traffic_light` that give one road green


@functools.cache
def two_phases(env: Env) -> Env:
    """The crossing with the controllers' two actions: 0, north and south green; 1, east and west. They never conflict.

    Args:
      env: a `traffic_light`.

    Returns:
      The same `Env` object for the same `env`.
    """

    def step(key: jax.Array, env_state: Any, action: jax.Array, env_params: Any = None) -> EnvStep:
        return env.step(key, env_state, jnp.where(action == 0, NORTH_SOUTH, EAST_WEST), env_params)

    return env._replace(step=step, action_space=Discrete(2))


class FixedCycleHparams(NamedTuple):
    """Attributes: north_south, east_west: seconds from one switch to the next, the amber before the green included."""

    north_south: NonNegative = 30.0
    east_west: NonNegative = 20.0


class ActuatedHparams(NamedTuple):
    """Attributes: shortest, longest: seconds from one switch to the next, the amber before the green included."""

    shortest: NonNegative = 8.0
    longest: NonNegative = 60.0


class ControllerState(NamedTuple):
    """A controller has its hyperparameters alone."""

    hparams: Any


def fixed_cycle() -> Agent:
    """Switch to the other road when the time of this one is up: pretimed control, with `FixedCycleHparams`."""

    def switches(hparams: Any, on_north_south: jax.Array, since: jax.Array, queue: jax.Array) -> jax.Array:
        return since + 1 >= jnp.where(on_north_south, hparams.north_south, hparams.east_west)

    return _controller(switches)


def actuated() -> Agent:
    """Switch when this road is empty or its longest time is up, and the other one has a queue; `ActuatedHparams`.

    Source: fully actuated control with detectors at the stop lines (FHWA Traffic Signal Timing Manual, chapter 5).
    """

    def switches(hparams: Any, on_north_south: jax.Array, since: jax.Array, queue: jax.Array) -> jax.Array:
        roads = queue.reshape(2, 2).sum(axis=0)
        mine, other = jnp.where(on_north_south, roads, roads[::-1])
        enough = (mine == 0) & (since + 1 >= hparams.shortest) | (since + 1 >= hparams.longest)
        return enough & (other > 0)

    return _controller(switches)


def _controller(switches: Any) -> Agent:
    """The agent that gives the other road green where `switches(hparams, on_north_south, since, queue)`."""

    def init(key: jax.Array, hparams: Any, example: jax.Array, num_envs: int = 1) -> ControllerState:
        return ControllerState(hparams)

    def act(key: jax.Array | None, state: ControllerState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        queue, since = jnp.round(obs[:4] * LANE), jnp.round(obs[16] * MINUTE)
        on_north_south, on_any = obs[8] > 0, obs[8:12].any()
        keep = on_north_south ^ (switches(state.hparams, on_north_south, since, queue) & on_any) | ~on_any
        return jnp.where(keep, NORTH_SOUTH, EAST_WEST).astype(jnp.int32), ()

    def update(key: jax.Array, state: ControllerState, data: Any) -> tuple[ControllerState, Metrics]:
        return state, {}

    return Agent(init, act, update)
