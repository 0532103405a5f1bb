"""DroQ: one update against formulas in float64 with the dropout that it drew, and probes."""

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, envs, networks

GAMMA, DELAY = 0.8, 2
RATES = {"actor": 0.05, "critic": 0.1, "temperature": 0.2}
HPARAMS = purerl.SACHparams(*RATES.values(), discount=GAMMA, tau=0.3, temperature=0.5, target_entropy=-0.7)
SIZE = linear.SIZE // DELAY


class DroppingCritic(linear.Critic):
    """Half of the features are dropped, by the key."""

    def apply(self, params, obs, action, key):
        return super().apply(params * jax.random.bernoulli(key, 0.5, (5,)), obs, action)


def descent(name):
    return lambda hparams: optax.sgd(getattr(hparams, f"{name}_learning_rate"))


def kept(key, size):
    """Which features each critic keeps in each window, [2, size, 5]."""
    draw = lambda key: jax.random.bernoulli(key, 0.5, (5,))  # noqa: E731
    return np.asarray(jax.vmap(jax.vmap(draw))(jax.random.split(key, (2, size))), float)


def test_one_update_against_formulas():
    data = linear.window()
    optimizers = {f"{name}_optimizer": descent(name) for name in RATES}
    agent = purerl.droq(linear.GaussianActor(), DroppingCritic(), policy_delay=DELAY, **optimizers)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), data.obs[0, 0])
    new, metrics = jax.jit(agent.update)(jax.random.key(3), state, data)

    obs, action, reward, factor, successor, weight = linear.read(data, GAMMA)
    actor, critics = linear.to_numpy((state.params.actor, state.params.critics))
    targets = list(critics)
    critic_key, actor_key, dropout_key = jax.random.split(jax.random.key(3), 3)
    for part, key in enumerate(jax.random.split(critic_key, DELAY)):
        here = slice(part * SIZE, (part + 1) * SIZE)
        action_key, target_key, loss_key = jax.random.split(key, 3)
        next_action, next_log_prob = linear.sampled(actor, successor[here], linear.normals(action_key, SIZE, 1)[:, 0])
        phi = linear.features(successor[here], next_action)
        least = np.min([(phi * k) @ one for one, k in zip(targets, kept(target_key, SIZE))], axis=0)
        target = reward[here] + factor[here] * (least - 0.5 * next_log_prob)
        phis = [linear.features(obs[here], action[here]) * k for k in kept(loss_key, SIZE)]
        critics = [one + 0.1 * phi.T @ (weight[here] * (target - phi @ one)) / SIZE for one, phi in zip(critics, phis)]
        targets = [0.7 * old + 0.3 * one for old, one in zip(targets, critics)]
    np.testing.assert_allclose(new.params.critics, critics, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new.target_critics, targets, rtol=1e-4, atol=1e-6)
    assert new.num_updates == DELAY
    assert metrics["priority"].shape == (linear.SIZE,)
    noise, keep = linear.normals(actor_key, SIZE, 1)[:, 0], kept(dropout_key, SIZE)

    def actor_loss(actor):
        taken, log_prob = linear.sampled(actor, obs[here], noise)
        phi = linear.features(obs[here], taken)
        return (0.5 * log_prob - np.mean([(phi * k) @ one for one, k in zip(critics, keep)], axis=0)).mean()

    np.testing.assert_allclose(new.params.actor, actor - 0.05 * linear.slope(actor_loss, actor), rtol=1e-4, atol=1e-6)


def test_dropout_is_drawn_by_the_key_and_its_mean_is_the_value_without():
    """With one hidden layer, no activation that matters and no normalization, q is linear in what is kept."""
    env = envs.probe(continuous=True)
    critic = networks.critic(env, (64,), dropout=0.3)
    obs, action = jnp.ones(1), jnp.full(1, 0.5)
    params = critic.init(jax.random.key(0), obs, action)
    draws = jax.vmap(lambda key: critic.apply(params, obs, action, key))(jax.random.split(jax.random.key(1), 4000))
    plain = critic.apply(params, obs, action)
    assert draws.std() > 0.05
    np.testing.assert_allclose(draws.mean(), plain, atol=4 * draws.std() / 4000**0.5)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1"):
        networks.critic(env, dropout=1)


@pytest.mark.slow
def test_all_probes_with_every_seed():
    env = envs.probe(continuous=True)
    critic = networks.critic(env, (16,), layer_norm=True, dropout=0.01)
    agent = purerl.droq(networks.gaussian_actor(env, (16,)), critic, policy_delay=2)
    replayed = combinators.with_replay(agent, capacity=1024, batch_size=64)
    hparams = purerl.SACHparams(5e-3, 1e-2, 1e-2, discount=0.9, tau=0.05, temperature=0.1, target_entropy=-5.0)
    states = probing.learn(replayed, env, hparams, num_updates=1200, num_envs=8, rollout_length=2).agent
    probing.check_real_actions(agent, critic, states, 0.9)
