"""A NaN or an infinity in rewards or observations costs the steps that it enters, and nothing else."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purerl
from purerl import combinators
from purerl.agents.common import optimization
from purerl.hparams import get_params
from purerl.replay import priority
from purerl.types import Box, Discrete, Env, EnvStep, Transition


class Fault(NamedTuple):
    """At this step of an episode the reward and the observation get these added."""

    at: int = -1
    reward: float = 0.0
    obs: float = 0.0


def faulty(action_space):
    def reset(key, env_params=None):
        return jnp.zeros(2), jnp.int32(0)

    def step(key, state, action, env_params=None):
        hit = state == env_params.at
        obs = jnp.stack([state / 8, jax.random.uniform(key)]) + jnp.where(hit, env_params.obs, 0)
        reward = jnp.float32(1) + jnp.where(hit, env_params.reward, 0)
        return EnvStep(obs, state + 1, reward, state >= 7, jnp.bool_(False))

    return Env(reset, step, Box(-jnp.inf, jnp.inf, (2,)), action_space)


DISCRETE, REAL = faulty(Discrete(2)), faulty(Box(-1.0, 1.0, (1,)))
SIZES = {
    "ppo": (DISCRETE, {"num_envs": 2, "rollout_length": 8}),
    "dqn": (DISCRETE, {"num_envs": 2, "rollout_length": 2}),
    "sac": (REAL, {"num_envs": 2, "rollout_length": 2}),
}


@functools.cache
def population(name):
    """A compiled function from faults of two members to their states and metrics; the width stays the same."""
    env, sizes = SIZES[name]
    if name == "ppo":
        agent = purerl.ppo(purerl.networks.actor_critic(env, (4,)), num_epochs=1, num_minibatches=1)
        agent, hparams = combinators.with_observation_normalization(agent), purerl.PPOHparams()
    elif name == "dqn":
        agent, hparams = purerl.dqn(purerl.networks.q_network(env, (4,))), purerl.DQNHparams()
    else:
        actor, critic = purerl.networks.gaussian_actor(env, (4,)), purerl.networks.critic(env, (4,))
        agent, hparams = purerl.sac(actor, critic), purerl.SACHparams()
    if name != "ppo":
        agent = combinators.with_replay(agent, capacity=64, batch_size=4, min_size=4)

    @jax.jit
    @jax.vmap
    def train(key, fault):
        return purerl.train(key, agent, env, hparams, num_updates=12, env_params=fault, **sizes)

    return lambda *faults: train(
        jax.random.split(jax.random.key(0), len(faults)), jax.tree.map(lambda *x: jnp.array(x), *faults)
    )


def member(tree, index):
    return [np.asarray(leaf[index]) for leaf in jax.tree.leaves(tree)]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("fault", [Fault(5, NAN), Fault(5, INF), Fault(5, 0.0, NAN)], ids=["nan", "inf", "obs"])
def test_a_bad_number_is_survived_and_stays_with_its_member(name, fault):
    whole, _ = population(name)(Fault(), Fault())
    state, metrics = population(name)(fault, Fault())
    assert all(np.isfinite(leaf).all() for leaf in member(get_params(state), 0))
    assert np.nanmax(metrics["loss/skipped"][0]) > 0
    assert np.nanmax(metrics["loss/skipped"][1]) == 0
    for ours, theirs in zip(member(get_params(state), 1), member(get_params(whole), 1)):
        np.testing.assert_array_equal(ours, theirs)


def test_a_bad_gradient_changes_neither_parameters_nor_the_optimizer():
    params, state = jnp.ones(3), optimization.init(optimization.adam, optimization.AdamHparams(), jnp.ones(3))
    for bad in (NAN, INF, -INF):
        grads = jnp.array([1.0, bad, 1.0])
        new = optimization.apply_gradients(optimization.adam, optimization.AdamHparams(), grads, params, state)
        for ours, theirs in zip(jax.tree.leaves(new), jax.tree.leaves((params, state))):
            np.testing.assert_array_equal(ours, theirs)
    new, _ = optimization.apply_gradients(optimization.adam, optimization.AdamHparams(), jnp.ones(3), params, state)
    assert (new != params).all()


def test_the_guard_works_with_optimizers_of_ones_own():
    def labelled(hparams):
        parts = {"a": optax.adam(1e-2), "b": optax.set_to_zero()}
        return optax.multi_transform(parts, {"w": "a", "v": "b"})

    params = {"w": jnp.ones(2, jnp.bfloat16), "v": jnp.ones(2)}
    state = optimization.init(labelled, None, params)
    grads = {"w": jnp.full(2, NAN, jnp.bfloat16), "v": jnp.ones(2)}
    new, new_state = optimization.apply_gradients(labelled, None, grads, params, state)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert new["w"].dtype == jnp.bfloat16
    assert (new["w"] == 1).all()


def test_a_window_with_a_bad_error_is_not_drawn_again():
    step = Transition(*jax.tree.map(jnp.float32, (0.0, 0.0, 0.0)), jnp.bool_(False), jnp.bool_(False), jnp.float32(0))
    ring = priority.init(step, 4, 1)
    data = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, 1)), step)
    ring = priority.add(ring, data, 0.5)
    ring = priority.update(ring, jnp.arange(2), jnp.array([NAN, 1.0]), 0.5)
    _, index, weight = priority.sample(jax.random.key(0), ring, 64, 1.0)
    assert 0 not in np.asarray(index)
    assert np.isfinite(weight).all()
