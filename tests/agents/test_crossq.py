"""CrossQ: one update against formulas in float64, batch renormalization, its running statistics, and probes."""

import functools

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import probing
import pytest
from jax.flatten_util import ravel_pytree

import purerl
from purerl import combinators, envs, networks
from purerl.spaces import Box
from purerl.types import Env

GAMMA, DELAY = 0.8, 2
RATES = {"actor": 0.05, "critic": 0.1, "temperature": 0.2}
HPARAMS = purerl.SACHparams(*RATES.values(), discount=GAMMA, temperature=0.5, target_entropy=-0.7)
ENV = Env(None, None, Box(-9.0, 9.0, (2,)), Box(linear.LOW, linear.HIGH, (1,)))
SIZE = linear.SIZE // DELAY


def descent(name):
    return lambda hparams: optax.sgd(getattr(hparams, f"{name}_learning_rate"))


def made(data):
    optimizers = {f"{name}_optimizer": descent(name) for name in RATES}
    critic = networks.batch_norm_critic(ENV, (), momentum=0.9)
    agent = purerl.crossq(linear.GaussianActor(), critic, policy_delay=DELAY, **optimizers)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), data.obs[0, 0])
    rng = np.random.default_rng(1)  # so that no scale is one and no bias zero
    shake = lambda x: x + jnp.asarray(rng.normal(size=x.shape), x.dtype) / 2  # noqa: E731
    params = state.params._replace(critics=jax.tree.map(shake, state.params.critics))
    return agent, state._replace(params=params)


def linear_q(flat, unravel, x, mean, var):
    """q of a critic without hidden layers: a dense layer behind a normalization, float64."""
    params = unravel(flat)["params"]
    norm, dense = params["BatchRenorm_0"], params["q"]
    y = norm["scale"] * (x - mean) / np.sqrt(var + 1e-3) + norm["bias"]
    return y @ dense["kernel"][:, 0] + dense["bias"][0]


def test_one_update_against_formulas():
    """Two steps of the critics, each normalized over both halves of its part; the actor with running statistics."""
    data = linear.window()
    agent, state = made(data)
    new, _ = jax.jit(agent.update)(jax.random.key(3), state, data)

    obs, action, reward, factor, successor, weight = linear.read(data, GAMMA)
    actor = linear.to_numpy(state.params.actor)
    structure = ravel_pytree(state.params.critics[0])[1]
    unravel = functools.partial(read, structure)
    critics = [np.asarray(ravel_pytree(one)[0], float) for one in state.params.critics]
    mean, var = np.zeros(3), np.ones(3)
    critic_key, actor_key = jax.random.split(jax.random.key(3))
    for part, key in enumerate(jax.random.split(critic_key, DELAY)):
        here = slice(part * SIZE, (part + 1) * SIZE)
        next_action, next_log_prob = linear.sampled(actor, successor[here], linear.normals(key, SIZE, 1)[:, 0])
        now = np.column_stack([obs[here], action[here] / 2])
        x = np.concatenate([now, np.column_stack([successor[here], next_action / 2])])
        batch = x.mean(0), x.var(0)
        next_q = np.min([linear_q(one, unravel, x, *batch)[SIZE:] for one in critics], axis=0)
        target = reward[here] + factor[here] * (next_q - 0.5 * next_log_prob)

        def critic_loss(flat, x=x, batch=batch, target=target, w=weight[here]):
            return 0.5 * (w * (target - linear_q(flat, unravel, x, *batch)[:SIZE]) ** 2).mean()

        critics = [one - 0.1 * linear.slope(critic_loss, one) for one in critics]
        mean, var = 0.9 * mean + 0.1 * batch[0], 0.9 * var + 0.1 * batch[1]
    found = [ravel_pytree(one)[0] for one in new.params.critics]
    np.testing.assert_allclose(found, critics, rtol=1e-3, atol=1e-5)
    kept = new.statistics[1]["BatchRenorm_0"]
    np.testing.assert_allclose(kept["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kept["var"], var, rtol=1e-5)
    assert kept["steps"] == DELAY == new.num_updates
    noise = linear.normals(actor_key, SIZE, 1)[:, 0]

    def actor_loss(actor):
        taken, log_prob = linear.sampled(actor, obs[here], noise)
        x = np.column_stack([obs[here], taken / 2])
        return (0.5 * log_prob - np.min([linear_q(one, unravel, x, mean, var) for one in critics], axis=0)).mean()

    moved = actor - 0.05 * linear.slope(actor_loss, actor)
    np.testing.assert_allclose(new.params.actor, moved, rtol=1e-3, atol=1e-5)


def read(structure, flat):
    """A float64 vector as the tree of a critic's parameters."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(structure, jnp.zeros(flat.shape)))
    ends = np.cumsum([leaf.size for leaf in leaves])
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape) for part, leaf in zip(np.split(flat, ends), leaves)])


def test_renormalization_begins_after_the_warm_up_and_keeps_to_its_bounds():
    critic = networks.batch_norm_critic(ENV, (), momentum=0.9, warmup_steps=2)
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(8, 2)) * [1.0, 0.05] + [0.5, 1.0], rng.uniform(-2, 2, (8, 1))
    x = np.column_stack([obs, action / 2])
    obs, action = jnp.asarray(obs, jnp.float32), jnp.asarray(action, jnp.float32)
    params, statistics = critic.init(jax.random.key(0), obs[0], action[0])
    kernel = np.asarray(params["params"]["q"]["kernel"][:, 0], float)
    mean, var, mu, sigma = np.zeros(3), np.ones(3), x.mean(0), np.sqrt(x.var(0) + 1e-3)
    apply = jax.jit(critic.apply_training)
    for step in range(3):
        r, d = np.clip(sigma / np.sqrt(var + 1e-3), 1 / 3, 3), np.clip((mu - mean) / np.sqrt(var + 1e-3), -5, 5)
        y = (x - mu) / sigma * r + d if step == 2 else (x - mu) / sigma
        q, statistics = apply((params, statistics), obs, action)
        np.testing.assert_allclose(q, y @ kernel, rtol=1e-3, atol=1e-5)
        mean, var = 0.9 * mean + 0.1 * mu, 0.9 * var + 0.1 * x.var(0)
    assert r[1] == 1 / 3
    still = critic.apply((params, statistics), obs[0], action[0])
    np.testing.assert_allclose(still, (x[0] - mean) / np.sqrt(var + 1e-3) @ kernel, rtol=1e-3)


def test_a_batch_that_is_not_finite_leaves_parameters_and_statistics_as_they_were():
    data = linear.window()
    agent, state = made(data)
    new, metrics = jax.jit(agent.update)(jax.random.key(0), state, data._replace(obs=data.obs.at[0, 0, 0].set(jnp.nan)))
    assert metrics["loss/skipped"] == 0.5  # the second part is good
    assert all(jax.tree.leaves(jax.tree.map(lambda x: np.isfinite(x).all(), (new.params, new.statistics))))
    assert new.statistics[0]["BatchRenorm_0"]["steps"] == 1


def test_a_critic_without_batches_is_refused():
    with pytest.raises(ValueError, match=r"crossq needs a critic with apply_training"):
        purerl.crossq(linear.GaussianActor(), linear.Critic())


@pytest.mark.slow
def test_all_probes_with_every_seed():
    """Near the end actions hardly vary, and values by running statistics lag behind those of the batches: 0.3 off."""
    env = envs.probe(continuous=True)
    critic = networks.batch_norm_critic(env, (16,), momentum=0.95)
    agent = purerl.crossq(networks.gaussian_actor(env, (16,)), critic, policy_delay=1)
    replayed = combinators.with_replay(agent, capacity=1024, batch_size=64, num_updates=2)
    hparams = purerl.SACHparams(3e-3, 1e-2, 1e-2, discount=0.9, temperature=0.1, target_entropy=-5.0)
    states = probing.learn(replayed, env, hparams, num_updates=1600, num_envs=8, rollout_length=2).agent
    pairs = states.params._replace(critics=tuple(zip(states.params.critics, states.statistics)))
    probing.check_real_actions(agent, critic, states._replace(params=pairs), 0.9, slack=0.3)
