"""Recorded steps: how they are recorded, what fits an environment, and learning from them in `train`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import datasets, networks
from purerl.types import Agent, Box, Dict, Discrete, Env, EnvStep, Requirements, Transition

KEY = jax.random.key(0)
KIND_AND_POSITION = Dict((("pos", Box(-9.0, 9.0, (2,))), ("kind", Discrete(3))))

ACTIONS = Discrete(2)


def bandit(observe, observation_space, action_space=ACTIONS):
    """Episodes of one step."""

    def step(key, env_state, action, env_params=None):
        return EnvStep(observe(key), env_state, jnp.float32(1), jnp.bool_(True), jnp.bool_(False))

    return Env(lambda key, env_params=None: (observe(key), jnp.int32(0)), step, observation_space, action_space)


def steps(obs, action):
    """Recorded rows [B]."""
    zeros = jnp.zeros(len(action))
    return Transition(obs, action, zeros, zeros == 0, zeros == 1, obs)


def test_greedy_recording_starts_episodes_with_greedy_memory():
    agent = Agent(
        lambda key, hparams, example, num_envs=1: (),
        lambda key, state, obs, memory: (memory, (), memory),
        lambda key, state, data: (state, {}),
        lambda key, state: jnp.int32(0 if key is None else 1),
    )
    env = bandit(lambda key: jnp.ones(2), Box(-9.0, 9.0, (2,)))
    recorded = datasets.record(KEY, agent, env, (), num_steps=4, num_envs=2, greedy=True)
    assert recorded.action.tolist() == [0] * 4


@pytest.mark.parametrize("action", [2, -1])
def test_actions_outside_the_action_space_do_not_fit(action):
    env = bandit(lambda key: jnp.ones(2), Box(-9.0, 9.0, (2,)))
    data = steps(jnp.ones((4, 2)), jnp.array([0, 1, action, 0]))
    with pytest.raises(ValueError, match="are not all in the action space"):
        datasets.check_fits(data, env)


def test_actions_of_the_action_space_fit():
    env = bandit(lambda key: jnp.ones(2), Box(-9.0, 9.0, (2,)))
    datasets.check_fits(steps(jnp.ones((4, 2)), jnp.array([0, 1, 1, 0])), env)


def observe_dict(key):
    return {"pos": jax.random.normal(key, (2,)), "kind": jnp.int32(1)}


def test_offline_agents_learn_from_rows_of_dict_observations():
    env = bandit(observe_dict, KIND_AND_POSITION)
    obs = {"pos": jax.random.normal(KEY, (32, 2)), "kind": jnp.ones(32, jnp.int32)}
    agent = purerl.behavior_cloning(networks.actor_critic(env, hidden=(4,)))
    data = steps(obs, jnp.zeros(32, jnp.int32))
    sizes = {"num_updates": 2, "num_envs": 2, "rollout_length": 4, "rollout": datasets.rows(data)}
    _, metrics = purerl.train(KEY, agent, env, purerl.CloningHparams(), **sizes)
    _, fitted = purerl.fit(KEY, agent, data, purerl.CloningHparams(), num_updates=2)
    assert np.isfinite(metrics["loss/entropy"]).all()
    assert np.isfinite(fitted["loss/entropy"]).all()


def test_rows_are_refused_by_agents_that_need_an_order():
    rollout = datasets.rows(steps(jnp.ones((4, 2)), jnp.zeros(4, jnp.int32)))
    agent = Agent(None, None, None, requires=Requirements("trajectory"))
    with pytest.raises(ValueError, match="recorded rows have no order"):
        rollout(KEY, agent, None, None, None, length=2)
