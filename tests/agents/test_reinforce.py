"""REINFORCE: its expected step is the exact gradient of the return, and it learns the probes."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import distributions, envs, loops, networks
from purerl.types import Transition

HPARAMS = purerl.ReinforceHparams(learning_rate=2e-2, discount=0.9)


class Table(NamedTuple):
    """An actor-critic network of one logit for each observation and action, and one value for each observation."""

    init: Any
    apply: Any


def table(num_obs=3, num_actions=2):
    def init(key, obs):
        return {"logits": jnp.zeros((num_obs, num_actions)), "value": jnp.zeros(num_obs)}

    def apply(params, obs):
        return distributions.categorical(params["logits"][obs]), params["value"][obs]

    return Table(init, apply)


def episodes():
    """Every sequence of three actions in a walk of three steps whose state is the number of ones so far, [8, T, 1]."""
    actions = np.array(list(itertools.product([0, 1], repeat=3)))
    states = np.cumsum(actions, axis=1) - actions
    length = np.where(actions[:, 0] == 1, 3, 2)  # a first action of 0 makes the episode shorter
    reward = np.where(actions == 1, 1.0 + states, 0.5) * np.array([1.0, -2.0, 3.0])
    time = np.arange(3)
    mask = time < length[:, None]
    parts = {"obs": states, "action": actions, "reward": reward, "mask": mask, "end": time == length[:, None] - 1}
    return {name: part[:, :, None] for name, part in parts.items()}


def transition(e):
    never = jnp.zeros_like(e["end"])
    reward, mask = e["reward"].astype(jnp.float32), e["mask"].astype(jnp.float32)
    return Transition(e["obs"], e["action"], reward, e["end"], never, e["obs"], mask=mask)


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("returns", ["reward_to_go", "whole"])
def test_the_expected_step_is_the_exact_gradient_of_the_return(returns, baseline):
    agent = purerl.reinforce(
        table(), returns=returns, baseline=baseline, optimizer=lambda h: optax.sgd(h.learning_rate)
    )
    e = jax.tree.map(jnp.asarray, episodes())
    logits = jnp.array([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.2]])

    def probabilities(logits):
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits)[e["obs"]], e["action"][..., None], -1)[..., 0]
        return jnp.exp((log_probs * e["mask"]).sum((1, 2)))

    def expected_return(logits):  # two sequences that differ after the end are one episode, so their sum is its mass
        weight = jnp.where(e["mask"][:, 2, 0], 1.0, 0.5)
        return (weight * probabilities(logits) * (e["reward"] * e["mask"]).sum((1, 2))).sum()

    hparams = purerl.hparams.cast(purerl.ReinforceHparams(learning_rate=1.0, discount=1.0, value_coef=0.0))
    start = agent.init(jax.random.key(0), hparams, jnp.int32(0))
    params = {"logits": logits, "value": jnp.array([2.0, -1.0, 0.7])}
    state = start._replace(params=params)
    after, _ = jax.jit(jax.vmap(lambda e: agent.update(jax.random.key(0), state, transition(e))))(e)
    steps = after.params["logits"] - logits
    weight = jnp.where(e["mask"][:, 2, 0], 1.0, 0.5) * probabilities(logits)
    expected_step = jnp.einsum("e,esa->sa", weight, steps) * 3  # the loss is divided by T = 3
    np.testing.assert_allclose(weight.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(expected_step, jax.grad(expected_return)(logits), atol=2e-6)


def test_the_baseline_regresses_on_the_reward_to_go():
    """Gradient of ½ (V − G)² over T N, by hand; without baseline the value stays."""
    e = jax.tree.map(jnp.asarray, episodes())
    data = jax.tree.map(lambda x: jnp.moveaxis(x[..., 0], 0, 1), transition(e))
    hparams = purerl.hparams.cast(purerl.ReinforceHparams(learning_rate=1.0, discount=0.9, value_coef=0.5))
    for baseline in (True, False):
        agent = purerl.reinforce(table(), baseline=baseline, optimizer=lambda h: optax.sgd(h.learning_rate))
        state = agent.init(jax.random.key(0), hparams, jnp.int32(0))
        after, metrics = jax.jit(agent.update)(jax.random.key(0), state, data)
        parts = {name: np.asarray(part)[..., 0].T for name, part in e.items()}
        reward, expected = parts["reward"] * parts["mask"], np.zeros(3)
        to_go = np.zeros((4, 8))
        for t in (2, 1, 0):
            to_go[t] = reward[t] + 0.9 * to_go[t + 1] * ~parts["end"][t]
        np.add.at(expected, parts["obs"], 0.5 * to_go[:3] * parts["mask"] / 24)
        np.testing.assert_allclose(after.params["value"], expected * baseline, atol=1e-6)
        np.testing.assert_allclose(metrics["loss/value"], (0.5 * to_go[:3] ** 2 * parts["mask"]).sum() / 24, rtol=1e-5)


def test_all_probes_with_every_seed():
    env = envs.probe()
    network = networks.actor_critic(env, hidden=(16,))
    agent = purerl.reinforce(network)
    states = probing.learn(
        agent, env, HPARAMS, num_updates=300, num_envs=32, rollout_length=2, rollout=loops.rollout_episodes
    )
    probing.check_values(probing.values_of(network), states, 0.9)
    probing.check_actions(agent, states)


def test_what_it_refuses(cartpole):
    with pytest.raises(ValueError, match="returns must be one of reward_to_go, whole; got 'half'"):
        purerl.reinforce(networks.actor_critic(cartpole), returns="half")
    agent = purerl.reinforce(networks.actor_critic(cartpole, hidden=(4,)))
    with pytest.raises(ValueError, match=r"needs whole episodes: pass rollout=purerl\.loops\.rollout_episodes"):
        purerl.train(jax.random.key(0), agent, cartpole, HPARAMS, num_updates=1, num_envs=2, rollout_length=4)
