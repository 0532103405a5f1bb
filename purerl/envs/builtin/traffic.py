"""A crossing with four traffic lights: queues, waiting, amber times, and penalties for bad settings of the lights.

Approaches are numbered clockwise, north, east, south, west; north and south may be green together, and east and west.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.pictures import crossing
from purerl.spaces import Box, Discrete
from purerl.types import Env, EnvStep, Key, Scalar

LANE = 40  # places on an approach whose waiting times are known, and the unit of queues in the observation
MINUTE = 60.0  # seconds; the unit of times in the observation and of the reward


class TrafficParams(NamedTuple):
    """Parameters of the crossing, as data; one step is a second.

    Attributes:
      arrival_rate: [4], vehicles per second on each approach, at most 1.
      discharge_rate: vehicles per second that a green approach lets pass while it has a queue, at most 1.
      amber_time: whole seconds between the end of a green and the next one.
      conflict_penalty: charged for every second of conflicting greens, in vehicle minutes.
      max_steps_in_episode: seconds after which the episode is truncated.
      all_red_penalty: charged for every second in which all lights are red, in vehicle minutes.
    """

    arrival_rate: jax.Array | tuple[float, ...] = (0.2, 0.2, 0.2, 0.2)
    discharge_rate: Scalar = 0.5
    amber_time: Scalar = 4
    conflict_penalty: Scalar = 1.0
    max_steps_in_episode: Scalar = 600
    all_red_penalty: Scalar = 0.0


class TrafficState(NamedTuple):
    """State of the crossing.

    Attributes:
      queue: [4] int32, vehicles waiting on each approach.
      wait: [4, LANE] float32, seconds that each has waited in the lane, the first in front; 0 at empty places.
      asked: [4] bool, the lights that were asked to be green.
      green: [4] bool, the lights that are green.
      amber: int32, seconds of amber left.
      since: int32, seconds since `asked` changed.
      time: int32, seconds since the reset.
    """

    queue: jax.Array
    wait: jax.Array
    asked: jax.Array
    green: jax.Array
    amber: jax.Array
    since: jax.Array
    time: jax.Array


_DEFAULTS = TrafficParams()


def traffic_light(defaults: TrafficParams = _DEFAULTS) -> Env:
    """Four lights that are switched every second to keep vehicles from waiting.

    Action a in 0, ..., 15 asks for green on approach i if bit i of a is set. Lights that lose their green show amber
    first. Until it is over nothing else is switched, further actions are ignored, and only approaches that stay green
    flow. Then, with q the queues in vehicles,

        departures[i] ~ Bernoulli(discharge_rate) where i is green, q[i] > 0 and no greens conflict, else 0
        arrivals[i] ~ Bernoulli(arrival_rate[i]),     q ← q − departures + arrivals
        reward = −Σ q / 60 − conflict_penalty · [greens conflict] − all_red_penalty · [all lights red]

    so the reward is minus the vehicle minutes waited in this second. Greens conflict if north or south is green
    together with east or west; then nobody drives. All lights are red if none is green and none shows amber.

    Observation, float32 [17]: q / 40; seconds the first vehicle of each queue has waited, / 60; which lights are
    asked for; which are green; seconds since `asked` changed, / 60. Info: `queue` = Σ q, `conflict`, `all_red`,
    `departed`.

    Args:
      defaults: the parameters if a call passes no `env_params`; plain numbers and tuples.

    Returns:
      The same `Env` object for the same defaults.

    Examples:
      >>> env = traffic_light(TrafficParams(all_red_penalty=2.0))
      >>> obs, env_state = env.reset(jax.random.key(0))
      >>> step = env.step(jax.random.key(1), env_state, 0b0000)  # no light is asked to be green
      >>> step.info["all_red"].tolist()
      1.0
    """

    return _traffic_light(defaults)


@functools.cache
def _traffic_light(defaults: TrafficParams) -> Env:
    def reset(key: Key, env_params: TrafficParams | None = None) -> tuple[jax.Array, TrafficState]:
        off, zero = jnp.zeros(4, bool), jnp.int32(0)
        state = TrafficState(jnp.zeros(4, jnp.int32), jnp.zeros((4, LANE), jnp.float32), off, off, zero, zero, zero)
        return _observe(state), state

    def step(key: Key, env_state: TrafficState, action: jax.Array, env_params: TrafficParams | None = None) -> EnvStep:
        params = defaults if env_params is None else env_params
        state = _switch(env_state, (action >> jnp.arange(4)) & 1 == 1, params.amber_time)
        conflict = (state.green[0] | state.green[2]) & (state.green[1] | state.green[3])
        all_red = ~state.green.any() & (state.amber == 0)
        drawn = jax.random.uniform(key, (2, 4), jnp.float32)
        departed = state.green & ~conflict & (state.queue > 0) & (drawn[0] < params.discharge_rate)
        arrived = drawn[1] < jnp.asarray(params.arrival_rate)
        state = _move(state, departed, arrived)
        waiting = state.queue.sum().astype(jnp.float32)
        reward = -waiting / MINUTE - jnp.where(conflict, params.conflict_penalty, 0.0)
        reward -= jnp.where(all_red, params.all_red_penalty, 0.0)
        info = {"queue": waiting, "conflict": conflict, "all_red": all_red, "departed": departed.sum()}
        info = {name: value.astype(jnp.float32) for name, value in info.items()}
        truncated = state.time >= params.max_steps_in_episode
        return EnvStep(_observe(state), state, reward.astype(jnp.float32), jnp.bool_(False), truncated, info)

    space, limit = Box(0.0, float("inf"), (17,)), int(defaults.max_steps_in_episode)
    return Env(reset, step, space, Discrete(16), render=crossing, max_steps=limit, id="TrafficLight-v0")


def _switch(state: TrafficState, wanted: jax.Array, amber_time: Scalar) -> TrafficState:
    """The lights of the next second."""
    changing = state.amber > 0
    asked = jnp.where(changing, state.asked, wanted)
    lost = jnp.any(state.green & ~asked)
    amber = jnp.where(changing, state.amber - 1, jnp.where(lost, amber_time, 0)).astype(jnp.int32)
    green = asked & (state.green | (amber == 0))
    since = jnp.where(jnp.all(asked == state.asked), state.since + 1, 0)
    return state._replace(asked=asked, green=green, amber=amber, since=since)


def _move(state: TrafficState, departed: jax.Array, arrived: jax.Array) -> TrafficState:
    """Queues after departures and arrivals; vehicles that stayed have waited one more second."""
    wait = jnp.where(departed[:, None], jnp.roll(state.wait, -1, axis=1).at[:, -1].set(0), state.wait)
    stayed = state.queue - departed
    wait = jnp.where(jnp.arange(LANE)[None] < stayed[:, None], wait + 1, 0)  # [4, LANE]
    return state._replace(queue=stayed + arrived, wait=wait, time=state.time + 1)


def _observe(state: TrafficState) -> jax.Array:
    lights = jnp.concatenate([state.asked, state.green]).astype(jnp.float32)
    times = jnp.append(state.wait[:, 0], state.since) / MINUTE
    return jnp.concatenate([state.queue / LANE, times[:4], lights, times[4:]]).astype(jnp.float32)  # [17]
