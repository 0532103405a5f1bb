"""A deployed policy: clipped, greedy unless it has a key, and with its memory."""

import jax
import jax.numpy as jnp
import pytest

import purerl
from purerl import datasets, envs
from purerl.types import Agent

KEY = jax.random.key(0)


def act(key, state, obs):
    noise = 0.0 if key is None else jax.random.normal(key, obs.shape)
    return state * obs + noise, ()


FAR = Agent(lambda *_: (), act, lambda key, state, data: (state, {}))
PENDULUM = envs.make("Pendulum-v1")


def remembering(key, state, obs, memory):
    return jnp.int32(memory % 2), (), memory + 1


@pytest.mark.parametrize(("obs", "expected"), [(20.0, 2.0), (-20.0, -2.0), (0.5, 1.5)])
def test_actions_stay_in_their_bounds(obs, expected):
    assert purerl.deploy(FAR, PENDULUM, 3.0)(jnp.array([obs])).tolist() == [expected]


def test_a_key_samples_and_no_key_does_not():
    policy = purerl.deploy(FAR, PENDULUM, 0.0)
    assert policy(jnp.ones(1)).tolist() == [0.0]
    assert policy(jnp.ones(1), key=KEY).tolist() != [0.0]
    assert abs(policy(jnp.ones(1), key=KEY)[0]) <= 2


def test_memory_is_handed_back_and_starts_fresh():
    agent = FAR._replace(act=remembering, memory=lambda key, state: jnp.int32(0 if key is None else 10))
    policy = purerl.deploy(agent, envs.endless(), ())
    action, memory = policy(jnp.zeros(1))
    assert (action.tolist(), memory.tolist()) == (0, 1)
    assert [leaf.tolist() for leaf in policy(jnp.zeros(1), memory)] == [1, 2]
    assert policy(jnp.zeros(1), key=KEY)[1].tolist() == 11


def test_recorded_actions_are_those_that_the_environment_took():
    agent = FAR._replace(act=lambda key, state, obs: (jnp.full(1, 9.0), ()))
    data = datasets.record(KEY, agent, PENDULUM, (), num_steps=4, num_envs=2)
    assert data.action.tolist() == [[2.0]] * 4
    datasets.check_fits(data, PENDULUM)
