"""Controllers used at crossings today, as agents that learn nothing: by the clock, or by the queues at the lights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from purerl.envs.builtin.traffic import LANE, MINUTE
from purerl.hparams import NonNegative
from purerl.once import build_once
from purerl.spaces import Discrete
from purerl.types import Agent, Env, EnvStep, Hparams, Key, Metrics, PyTree

NORTH_SOUTH, EAST_WEST = 0b0101, 0b1010  # the actions of `traffic_light` that give one road green
Switches: TypeAlias = Callable[[Hparams, jax.Array, jax.Array, jax.Array], jax.Array]
"""`(hparams, on_north_south, since, queue) -> bool`, whether to give the other road green."""


@build_once
def two_phases(env: Env) -> Env:
    """The crossing with the controllers' two actions: 0, north and south green; 1, east and west. They never conflict.

    The numbers that the controllers act by, those of the same lights in `traffic_light`, mean the same here.

    Args:
      env: a `traffic_light`.

    Returns:
      The same `Env` object for the same `env`.

    Examples:
      >>> from purerl import envs
      >>> two_phases(envs.traffic_light()).action_space.n
      2
    """

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        north_south = (action == 0) | (action == NORTH_SOUTH)
        return env.step(key, env_state, jnp.where(north_south, NORTH_SOUTH, EAST_WEST), env_params)

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
    """The state of a controller: only its hyperparameters."""

    hparams: Hparams


@build_once
def fixed_cycle() -> Agent:
    """Switch to the other road when the time of this one is up: pretimed control, with `FixedCycleHparams`.

    Examples:
      >>> controller = fixed_cycle()
      >>> state = controller.init(jax.random.key(0), FixedCycleHparams(), jnp.zeros(17))
      >>> controller.act(None, state, jnp.zeros(17))[0] == NORTH_SOUTH
      Array(True, dtype=bool)
    """

    def switches(
        hparams: FixedCycleHparams, on_north_south: jax.Array, since: jax.Array, queue: jax.Array
    ) -> jax.Array:
        return since + 1 >= jnp.where(on_north_south, hparams.north_south, hparams.east_west)

    return _controller(switches)


@build_once
def actuated() -> Agent:
    """Switch when this road is empty or its longest time is up, and the other one has a queue; `ActuatedHparams`.

    Examples:
      >>> controller = actuated()
      >>> state = controller.init(jax.random.key(0), ActuatedHparams(), jnp.zeros(17))
      >>> controller.act(None, state, jnp.zeros(17))[0] == NORTH_SOUTH
      Array(True, dtype=bool)

    Source: fully actuated control with detectors at the stop lines (FHWA Traffic Signal Timing Manual, chapter 5).
    """

    def switches(hparams: ActuatedHparams, on_north_south: jax.Array, since: jax.Array, queue: jax.Array) -> jax.Array:
        roads = queue.reshape(2, 2).sum(axis=0)  # [4] -> [2]: north and south, east and west
        mine, other = jnp.where(on_north_south, roads, roads[::-1])
        enough = (mine == 0) & (since + 1 >= hparams.shortest) | (since + 1 >= hparams.longest)
        return enough & (other > 0)

    return _controller(switches)


def _controller(switches: Switches) -> Agent:
    """The agent that gives the other road green when `switches(hparams, on_north_south, since, queue)`."""

    def init(key: Key, hparams: Hparams, example: jax.Array, num_envs: int = 1) -> ControllerState:
        return ControllerState(hparams)

    def act(key: Key | None, state: ControllerState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        queue, since = jnp.round(obs[:4] * LANE), jnp.round(obs[16] * MINUTE)
        on_north_south, on_any = obs[8] > 0, obs[8:12].any()
        keep = on_north_south ^ (switches(state.hparams, on_north_south, since, queue) & on_any) | ~on_any
        return jnp.where(keep, NORTH_SOUTH, EAST_WEST).astype(jnp.int32), ()

    def update(key: Key, state: ControllerState, data: PyTree) -> tuple[ControllerState, Metrics]:
        return state, {}

    return Agent(init, act, update)
