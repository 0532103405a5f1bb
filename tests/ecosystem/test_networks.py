"""Networks of equinox and haiku, as docs/guides/network.md has them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

import purerl
from purerl import distributions, envs

pytestmark = pytest.mark.slow
ENV = envs.probe()


def learns(network):
    """PPO learns which action is right."""
    agent = purerl.ppo(network, num_epochs=2, num_minibatches=2)
    params = envs.probe_params("action")
    sizes = {"num_updates": 40, "num_envs": 8, "rollout_length": 8, "env_params": params}
    state, _ = purerl.train(jax.random.key(0), agent, ENV, purerl.PPOHparams(1e-2), **sizes)
    return int(agent.act(None, state, jnp.zeros(1))[0]) == 1


def test_equinox():
    eqx = pytest.importorskip("equinox")

    class Module(eqx.Module):
        policy: eqx.nn.Linear
        value: eqx.nn.MLP

        def __init__(self, key):
            self.policy, self.value = eqx.nn.Linear(1, 2, key=key), eqx.nn.MLP(1, 1, 8, 1, key=key)

        def __call__(self, obs):
            return distributions.categorical(self.policy(obs)), self.value(obs)[0]

    class Equinox(NamedTuple):
        build: Callable

        def init(self, key, *inputs):
            return eqx.filter(self.build(key), eqx.is_inexact_array)

        def apply(self, params, *inputs):
            return eqx.combine(params, self.build(jax.random.key(0)))(*inputs)

    assert learns(Equinox(Module))


def test_haiku():
    hk = pytest.importorskip("haiku")

    def forward(obs):
        return distributions.categorical(hk.Linear(2)(obs)), hk.nets.MLP((8, 1))(obs)[0]

    assert learns(hk.without_apply_rng(hk.transform(forward)))
