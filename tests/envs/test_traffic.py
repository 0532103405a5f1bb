"""The crossing against a simulation with Python's queues, its lights, and the controllers."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs
from purerl.envs.builtin.traffic_control import EAST_WEST, NORTH_SOUTH
from purerl.spaces import Box, Discrete

PARAMS = purerl.hparams.cast(envs.TrafficParams((0.5, 0.4, 0.3, 0.2), 0.7, 3, 2.0, 1000))


@pytest.fixture(scope="module")
def env():
    return envs.make("TrafficLight-v0")


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(env.step)


def simulate(key, action, lanes, lights, amber):
    """One second in plain Python: lanes of waiting times, the lights as (asked, green), seconds of amber left."""
    asked, green = lights
    asked = asked if amber else {i for i in range(4) if action >> i & 1}
    if amber:
        amber -= 1
    elif green - asked:
        amber = int(PARAMS.amber_time)
    green = asked & green if amber else asked
    conflict = bool(green & {0, 2}) and bool(green & {1, 3})
    drawn = np.asarray(jax.random.uniform(key, (2, 4)))
    for i, lane in enumerate(lanes):
        if i in green and not conflict and lane and drawn[0, i] < 0.7:
            lane.popleft()
        for j in range(len(lane)):
            lane[j] += 1
        if drawn[1, i] < np.float32((0.5, 0.4, 0.3, 0.2)[i]):
            lane.append(0)
    return (asked, green), amber, -sum(map(len, lanes)) / 60 - 2.0 * conflict


def test_against_a_simulation_with_queues(env, step):
    rng = np.random.default_rng(0)
    _, state = env.reset(jax.random.key(0), PARAMS)
    lanes, lights, amber, action = [deque() for _ in range(4)], (set(), set()), 0, 0
    conflicts = 0
    for t in range(150):
        action = int(rng.integers(0, 16)) if rng.random() < 0.3 else action
        key = jax.random.key(t)
        lights, amber, reward = simulate(key, action, lanes, lights, amber)
        new = step(key, state, jnp.int32(action), PARAMS)
        state = new.env_state
        np.testing.assert_allclose(new.reward, reward, atol=1e-5)
        np.testing.assert_allclose(new.obs[:4] * 40, [len(lane) for lane in lanes], atol=1e-4)
        np.testing.assert_allclose(new.obs[4:8] * 60, [lane[0] if lane else 0 for lane in lanes], atol=1e-3)
        for shown, expected in ((new.obs[8:12], lights[0]), (new.obs[12:16], lights[1])):
            assert {i for i in range(4) if shown[i]} == expected
        conflicts += int(new.info["conflict"])
    assert 5 < conflicts < 145


def test_amber_delays_the_other_road_and_nothing_is_heard_meanwhile(env, step):
    _, state = env.reset(jax.random.key(0), PARAMS)
    greens, since = [], []
    for action in [NORTH_SOUTH, EAST_WEST, NORTH_SOUTH, NORTH_SOUTH, NORTH_SOUTH, EAST_WEST, 0b0100, 0, 0b0101]:
        new = step(jax.random.key(0), state, jnp.int32(action), PARAMS)
        state = new.env_state
        greens.append("".join("NESW"[i] for i in range(4) if new.obs[12 + i]))
        since.append(round(float(new.obs[16]) * 60))
    assert greens == ["NS", "", "", "", "EW", "EW", "", "", ""]
    assert since == [0, 0, 1, 2, 3, 4, 0, 1, 2]
    new = step(jax.random.key(0), state, jnp.int32(0b0101), PARAMS)
    np.testing.assert_array_equal(new.obs[12:], [0, 0, 1, 0, new.obs[16]])  # what was asked for when amber began


def test_what_stays_green_flows_on_and_no_amber_is_needed_to_add(env, step):
    _, state = env.reset(jax.random.key(0), PARAMS)
    greens = []
    for action in [0b0001, 0b0101, 0b0001, 0b0001, 0b0001, 0b0001]:
        new = step(jax.random.key(0), state, jnp.int32(action), PARAMS)
        state = new.env_state
        greens.append("".join("NESW"[i] for i in range(4) if new.obs[12 + i]))
    assert greens == ["N", "NS", "N", "N", "N", "N"]


def test_two_phases_are_the_controllers_two_actions(env, step):
    phases = envs.two_phases(env)
    assert envs.two_phases(env) is phases
    assert phases.action_space == Discrete(2)
    _, state = env.reset(jax.random.key(0))
    for action, expected in ((0, NORTH_SOUTH), (1, EAST_WEST)):
        new = phases.step(jax.random.key(1), state, jnp.int32(action), PARAMS)
        jax.tree.map(np.testing.assert_array_equal, new, step(jax.random.key(1), state, jnp.int32(expected), PARAMS))


def test_it_is_truncated_and_made_by_name(env, step):
    assert (env.observation_space, env.action_space) == (Box(0.0, float("inf"), (17,)), Discrete(16))
    assert envs.make("TrafficLight-v0") is env
    assert envs.make("TrafficLight-v0", amber_time=2) is not env
    params = envs.env_params("TrafficLight-v0", max_steps_in_episode=2)
    _, state = env.reset(jax.random.key(0))
    ends = []
    for _ in range(2):
        new = step(jax.random.key(0), state, jnp.int32(0), params)
        state = new.env_state
        ends.append((bool(new.terminated), bool(new.truncated)))
    assert ends == [(False, False), (False, True)]
    with pytest.raises(ValueError, match="did you mean 'amber_time'"):
        envs.make("TrafficLight-v0", amber_times=2)
    with pytest.raises(ValueError, match="did you mean 'TrafficLight-v0'"):
        envs.make("TrafficLights-v0")


def seen(queue, asked, since):
    """An observation as far as controllers look at it."""
    lights = [float(asked >> i & 1) for i in range(4)]
    return jnp.array([*(q / 40 for q in queue), 0, 0, 0, 0, *lights, *lights, since / 60], jnp.float32)


def test_the_controllers_switch_when_they_should():
    fixed = envs.fixed_cycle()
    state = fixed.init(None, envs.FixedCycleHparams(10.0, 5.0), None)
    both = jnp.array([1, 1, 1, 1])
    for asked, since, expected in (
        (0, 0, NORTH_SOUTH), (NORTH_SOUTH, 8, NORTH_SOUTH), (NORTH_SOUTH, 9, EAST_WEST), (EAST_WEST, 3, EAST_WEST),
        (EAST_WEST, 4, NORTH_SOUTH),
    ):  # fmt: skip
        assert fixed.act(None, state, seen(both, asked, since))[0] == expected
    agent = envs.actuated()
    state = agent.init(None, envs.ActuatedHparams(6.0, 20.0), None)
    for queue, since, expected in (
        ([0, 1, 0, 0], 4, NORTH_SOUTH),  # too early
        ([0, 1, 0, 0], 5, EAST_WEST),
        ([0, 0, 1, 1], 10, NORTH_SOUTH),  # still someone from the south
        ([9, 1, 0, 0], 19, EAST_WEST),  # the longest time is over
        ([0, 0, 0, 0], 50, NORTH_SOUTH),  # for whom?
    ):
        assert agent.act(None, state, seen(queue, NORTH_SOUTH, since))[0] == expected


def test_better_control_waits_less(env):
    """Two minutes on 64 crossings: actuated control beats a fixed cycle, and that beats lights that never change."""
    total = {}
    for name, agent, hparams in (
        ("fixed", envs.fixed_cycle(), envs.FixedCycleHparams()),
        ("actuated", envs.actuated(), envs.ActuatedHparams()),
        ("never", envs.fixed_cycle(), envs.FixedCycleHparams(1e6, 1e6)),
    ):
        state = agent.init(None, purerl.hparams.cast(hparams), None)
        result = purerl.evaluate(jax.random.key(0), agent, env, state, num_episodes=64, max_steps=120)
        total[name] = float(result.episode_return.mean())
    assert total["actuated"] > total["fixed"] > total["never"], total


@pytest.mark.parametrize("controller", [envs.fixed_cycle, envs.actuated])
def test_the_controllers_act_the_same_in_two_phases(env, controller):
    agent = controller()
    hparams = envs.FixedCycleHparams() if controller is envs.fixed_cycle else envs.ActuatedHparams()
    state = agent.init(None, purerl.hparams.cast(hparams), None)
    returns = [
        purerl.evaluate(jax.random.key(0), agent, each, state, num_episodes=2, max_steps=120).episode_return
        for each in (env, envs.two_phases(env))
    ]
    np.testing.assert_array_equal(*returns)


def test_repeated_actions_are_steps_added_up(env, step):
    """Four seconds a decision, cut where the episode ends in the second of them."""
    slow = envs.action_repeat(env, 4)
    assert envs.action_repeat(env, 4) is slow
    _, state = env.reset(jax.random.key(0))
    params = PARAMS._replace(max_steps_in_episode=jnp.int32(6))
    repeated = jax.jit(slow.step)
    for key, taken in ((jax.random.key(1), 4), (jax.random.key(2), 2)):
        new, total, queue, one = repeated(key, state, jnp.int32(NORTH_SOUTH), params), 0.0, [], None
        for each in jax.random.split(key, 4)[:taken]:
            one = step(each, state, jnp.int32(NORTH_SOUTH), params)
            state, total, queue = one.env_state, total + one.reward, [*queue, one.info["queue"]]
        np.testing.assert_allclose(new.reward, total, rtol=1e-5)
        np.testing.assert_allclose(new.info["queue"], np.mean(queue), rtol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, new.env_state, state)
        assert bool(new.truncated) == (taken == 2)
