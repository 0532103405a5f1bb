"""Modules of flax nnx as networks of pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import purerl
from purerl import distributions, envs, networks


class Small(nnx.Module):
    def __init__(self, rngs):
        self.policy, self.value = nnx.Linear(1, 2, rngs=rngs), nnx.Linear(1, 1, rngs=rngs)

    def __call__(self, obs):
        return distributions.categorical(self.policy(obs)), self.value(obs)[0]


def test_it_computes_what_the_module_computes():
    module, obs = Small(nnx.Rngs(jax.random.key(3))), jnp.ones(1)
    network = networks.from_nnx(Small)
    params = network.init(jax.random.key(3), obs)
    np.testing.assert_allclose(network.apply(params, obs)[1], module(obs)[1], rtol=1e-6)
    halved = jax.tree.map(lambda x: x / 2, params)
    np.testing.assert_allclose(network.apply(halved, obs)[1], module(obs)[1] / 2, rtol=1e-6)


def test_ppo_trains_it():
    env = envs.probe()
    agent = purerl.ppo(networks.from_nnx(Small), num_epochs=1, num_minibatches=1)
    sizes = {"num_updates": 2, "num_envs": 2, "rollout_length": 4}
    state, _ = purerl.train(jax.random.key(0), agent, env, purerl.PPOHparams(), **sizes)
    before = purerl.start(jax.random.key(0), agent, env, purerl.PPOHparams(), num_envs=2).agent_state
    assert sorted(state.params) == ["policy", "value"]
    assert (state.params["value"]["bias"] != before.params["value"]["bias"]).any()


def test_statistics_and_dropout_are_refused():
    class Normalized(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(1, rngs=rngs)

    with pytest.raises(TypeError, match="BatchStat"):
        networks.from_nnx(Normalized).init(jax.random.key(0))
