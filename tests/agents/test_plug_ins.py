"""A network, an optimizer or a loss of one's own that an agent cannot use gets an error that says what is expected."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import purerl
from purerl import distributions, envs, networks
from purerl.agents.common import plug_ins

ENV = envs.probe()
SIZES = {"num_updates": 1, "num_envs": 2, "rollout_length": 4}
SMALL = {"num_epochs": 1, "num_minibatches": 1}


class LongValue(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return distributions.categorical(nn.Dense(2)(obs)), nn.Dense(1)(obs)


class Logits(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return nn.Dense(2)(obs), nn.Dense(1)(obs)[0]


class Module(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(1, 2, rngs=rngs)

    def __call__(self, obs):
        return distributions.categorical(self.dense(obs)), obs[0]


def actor_critic():
    return networks.actor_critic(ENV, hidden=(4,))


def train(agent, hparams=None, **options):
    return purerl.train(jax.random.key(0), agent, ENV, hparams or purerl.PPOHparams(), **SIZES, **options)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda: networks.q_network(ENV), TypeError, r"must return \(distribution, value\), .*; got float32\[2\]"),
        (Logits, TypeError, r"distributions.categorical\(logits\); got float32\[2\], which has no sample"),
        (LongValue, ValueError, r"value must have shape \[\] for one observation, got \[1\]"),
        (lambda: LongValue, TypeError, r"network is the class LongValue itself; .* LongValue\(\)"),
        (lambda: Module(nnx.Rngs(0)), TypeError, r"Module is a module of flax nnx.*networks.from_nnx\(Module\)"),
        (lambda: Module, TypeError, r"networks.from_nnx\(Module\)"),
        (lambda: "mlp", TypeError, r"must have init\(key, \*inputs\) and apply.*got str"),
    ],
)
def test_ppo_names_a_network_that_it_cannot_use(network, error, message):
    with pytest.raises(error, match=message):
        train(purerl.ppo(network(), **SMALL))


@pytest.mark.parametrize(
    ("agent", "hparams"), [(purerl.dqn, purerl.DQNHparams()), (purerl.pqn, purerl.PQNHparams())]
)  # fmt: skip
def test_a_q_learner_names_a_network_that_returns_no_values(agent, hparams):
    with pytest.raises(TypeError, match=r"must return action values \[A\], as networks.q_network\(env\).*tuple of 2"):
        train(agent(actor_critic()), hparams)


def test_evolution_strategies_name_a_network_that_returns_no_policy():
    with pytest.raises(TypeError, match=r"must return \(distribution, value\)"):
        train(purerl.evolution(networks.q_network(ENV)), purerl.EvolutionHparams())


@pytest.mark.parametrize("optimizer", [optax.adam(1e-3), optax.chain(optax.sgd(0.1))])
def test_a_gradient_transformation_in_the_place_of_its_function_is_named(optimizer):
    with pytest.raises(TypeError, match=r"optimizer=lambda hparams: optax.adam\(hparams.learning_rate\); got Gradient"):
        train(purerl.ppo(actor_critic(), optimizer=optimizer, **SMALL))


def test_from_nnx_names_the_class_of_an_instance():
    with pytest.raises(TypeError, match=r"from_nnx takes what builds the module.*from_nnx\(Module\)"):
        networks.from_nnx(Module(nnx.Rngs(0)))


@pytest.mark.parametrize("rollout", [purerl.rollout, purerl.loops.rollout_episodes])
@pytest.mark.parametrize(
    ("option", "loss"),
    [
        ("policy_loss", lambda log_prob, old, advantage, hparams: -(jnp.exp(log_prob - old) * advantage).mean()),
        ("value_loss", lambda value, old, target, hparams: jnp.square(value - target).mean()),
    ],
)
def test_ppo_refuses_a_loss_that_averages(option, loss, rollout):
    with pytest.raises(ValueError, match=rf"{option} must return one loss per step, of shape \[8\].* got shape \[\]"):
        train(purerl.ppo(actor_critic(), **SMALL, **{option: loss}), rollout=rollout)


def test_a_loss_for_each_element_passes():
    loss = jnp.zeros((2, 3))
    assert plug_ins.each_loss("policy_loss", loss, jnp.ones((2, 3))) is loss
