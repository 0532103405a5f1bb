"""Training on probe environments for the agents' tests: all five of them and all seeds in one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import jit_for_long_runs

import purerl
from purerl import envs
from purerl.agents.common import policy_network

PARAMS = [envs.probe_params(name) for name in envs.PROBES]
SEEDS = [3, pytest.param(10, marks=pytest.mark.slow)]
"""Numbers of seeds for the agents whose learning takes seconds: a few with every change, ten with `-m slow`."""


def learn(agent, env, hparams, *, num_updates, num_envs=16, rollout_length=8, num_seeds=10, **options):
    """The states after training on the five probes with each seed, leaves [5, num_seeds]."""
    sizes = {"num_updates": num_updates, "num_envs": num_envs, "rollout_length": rollout_length}

    def run(key, env_params):
        return purerl.train(key, agent, env, hparams, env_params=env_params, **sizes, **options)[0]

    params = jax.tree.map(lambda *x: jnp.stack(x), *PARAMS)
    keys = jax.random.split(jax.random.key(0), num_seeds)
    return jit_for_long_runs(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))(keys, params)


def observations(probe):
    """Observations of a probe environment, [K, 1]."""
    return jnp.array([[-1.0], [1.0]] if probe.random_obs else [[0.0], [1.0]][: int(probe.length)])


def check_values(judge, states, discount, *, continuous=False, slack=0.1):
    """`judge(state, obs [2, 1], reset [2]) -> values [2]` of every seed is within `slack` of the truth, in every probe.

    `reset` says which observations begin an episode. A sampled real action pays less than the best one, by its
    variance: there 0.15 more is allowed.
    """
    judge = jax.jit(jax.vmap(judge, (0, None, None)))
    for i, (name, probe) in enumerate(zip(envs.PROBES, PARAMS)):
        obs, reset = observations(probe), jnp.array([True, probe.length == 1])
        value = judge(jax.tree.map(lambda x, i=i: x[i], states), jnp.resize(obs, (2, 1)), reset)[:, : len(obs)]
        expected = envs.probe_value(probe, obs, discount, continuous=continuous)
        allowed = slack + 0.15 * (continuous and "action" in name)
        np.testing.assert_allclose(value, np.broadcast_to(expected, value.shape), atol=allowed, err_msg=name)


def values_of(network):
    """A judge for `check_values`: the values of an actor-critic network, with or without memory."""

    def judge(state, obs, reset):
        if policy_network.has_memory(network):
            return network.unroll(state.params, obs, network.memory(), reset)[0][1]
        return jax.vmap(lambda o: network.apply(state.params, o)[1])(obs)

    return judge


def check_actions(agent, states):
    """The greedy action of every seed is the best one wherever actions matter (two actions)."""
    act = jax.jit(jax.vmap(jax.vmap(lambda state, obs: greedy(agent, state, obs), (None, 0)), (0, None)))
    for i, (name, probe) in enumerate(zip(envs.PROBES, PARAMS)):
        if "action" in name:
            obs = observations(probe)
            actions = act(jax.tree.map(lambda x, i=i: x[i], states), jnp.resize(obs, (2, 1)))[:, : len(obs)]
            assert (actions == envs.probe_action(probe, obs)).all(), name


def greedy(agent, state, obs):
    """The greedy action at the start of an episode."""
    memory = (agent.memory(None, state),) if agent.memory else ()
    return agent.act(None, state, obs, *memory)[0]


def check_real_actions(agent, critic, states, discount, slack=0.1):
    """With real actions: every seed's first critic knows the value of the greedy action, which is the best one."""

    def judge(state, obs):
        action = greedy(agent, state, obs)
        return action, critic.apply(state.params.critics[0], obs, action)

    judge = jax.jit(jax.vmap(jax.vmap(judge, (None, 0)), (0, None)))
    for i, (name, probe) in enumerate(zip(envs.PROBES, PARAMS)):
        obs = observations(probe)
        action, value = judge(jax.tree.map(lambda x, i=i: x[i], states), jnp.resize(obs, (2, 1)))
        expected = jnp.broadcast_to(envs.probe_value(probe, obs, discount, continuous=True), value[:, : len(obs)].shape)
        np.testing.assert_allclose(value[:, : len(obs)], expected, atol=slack, err_msg=name)
        if "action" in name:
            best = jnp.broadcast_to(envs.probe_action(probe, obs, continuous=True), action[:, : len(obs)].shape)
            np.testing.assert_allclose(action[:, : len(obs)], best, atol=slack, err_msg=name)


def check_epsilon(agent, state, obs, num_actions=3):
    """ε falls from 1 over 10 updates to 0.1: seen in how often another than the greedy action is taken."""
    keys = jax.random.split(jax.random.key(0), 4000)
    act = jax.jit(lambda count: jax.vmap(lambda key: agent.act(key, state._replace(num_updates=count), obs)[0])(keys))
    best = agent.act(None, state, obs)[0]
    for count, epsilon in ((0, 1.0), (5, 0.55), (10, 0.1), (100, 0.1)):
        others = (act(jnp.int32(count)) != best).mean()
        np.testing.assert_allclose(others, epsilon * (num_actions - 1) / num_actions, atol=0.03)
