"""TQC: one update against formulas in float64, what it refuses, and probes."""

import jax
import linear_control as linear
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, envs, networks

GAMMA, QUANTILES, DROPPED = 0.8, 3, 1
RATES = {"actor": 0.05, "critic": 0.1, "temperature": 0.2}
HPARAMS = purerl.SACHparams(*RATES.values(), discount=GAMMA, tau=0.3, temperature=0.5, target_entropy=-0.7)


class QuantileCritic:
    """params [5, M], linear in the features of `linear_control`."""

    def init(self, key, obs, action):
        return jax.random.normal(key, (5, QUANTILES))

    def apply(self, params, obs, action):
        return linear.Critic().apply(params, obs, action)


def descent(name):
    return lambda hparams: optax.sgd(getattr(hparams, f"{name}_learning_rate"))


def linear_agent(critic, **options):
    optimizers = {f"{name}_optimizer": descent(name) for name in RATES}
    return purerl.tqc(linear.GaussianActor(), critic, num_critics=2, **optimizers, **options)


def start(agent, data):
    return agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), data.obs[0, 0])


def quantile_loss(own, target, weight):
    """mean_b w[b] mean_m mean_k |τ_m − 1{y_k < q_m}| Huber(y_k − q_m), by loops."""
    total = 0.0
    for b in range(len(own)):
        for m, q in enumerate(own[b]):
            for y in target[b]:
                u = y - q
                huber = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
                total += weight[b] * abs((m + 0.5) / QUANTILES - (u < 0)) * huber / QUANTILES / target.shape[1]
    return total / len(own)


def test_one_update_against_formulas():
    data = linear.window()
    agent = linear_agent(QuantileCritic(), num_dropped=DROPPED)
    state = start(agent, data)
    state = state._replace(target_critics=jax.tree.map(lambda x: -x[::-1], state.target_critics))
    new, metrics = jax.jit(agent.update)(jax.random.key(3), state, data)

    obs, action, reward, factor, successor, weight = linear.read(data, GAMMA)
    actor, critics, targets = linear.to_numpy((state.params.actor, state.params.critics, state.target_critics))
    next_noise, noise = (linear.normals(k, linear.SIZE, 1)[:, 0] for k in jax.random.split(jax.random.key(3)))
    next_action, next_log_prob = linear.sampled(actor, successor, next_noise)
    pooled = np.concatenate([linear.features(successor, next_action) @ one for one in targets], axis=1)
    kept = np.sort(pooled, axis=1)[:, :-2]  # one of each critic's three is dropped
    target = reward[:, None] + factor[:, None] * (kept - 0.5 * next_log_prob[:, None])
    phi = linear.features(obs, action)

    def critic_loss(one):
        return quantile_loss(phi @ one, target, weight)

    expected = [one - 0.1 * linear.slope(critic_loss, one) for one in critics]
    np.testing.assert_allclose(new.params.critics, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss/critic"], sum(map(critic_loss, critics)), rtol=1e-4)
    error = [np.abs(target.mean(1) - (phi @ one).mean(1)) for one in critics]
    np.testing.assert_allclose(metrics["priority"], np.mean(error, axis=0), rtol=1e-4, atol=2e-6)

    def actor_loss(actor):
        taken, log_prob = linear.sampled(actor, obs, noise)
        return (0.5 * log_prob - np.mean([linear.features(obs, taken) @ one for one in expected], axis=(0, 2))).mean()

    np.testing.assert_allclose(new.params.actor, actor - 0.05 * linear.slope(actor_loss, actor), rtol=1e-4, atol=1e-6)
    moved = [0.7 * old + 0.3 * one for old, one in zip(targets, expected)]
    np.testing.assert_allclose(new.target_critics, moved, rtol=1e-4, atol=1e-6)


def test_too_many_dropped_quantiles_and_a_critic_of_one_value_are_refused():
    data = linear.window()
    for critic, dropped, message in (
        (QuantileCritic(), 3, "num_dropped = 3 must be from 0 to 2: a critic has 3"),
        (linear.Critic(), 1, r"tqc needs a critic of quantiles, such as networks.critic\(env, num_quantiles=25\)"),
    ):
        agent = linear_agent(critic, num_dropped=dropped)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(agent.update, jax.random.key(0), jax.eval_shape(lambda a=agent: start(a, data)), data)


@pytest.mark.slow
def test_all_probes_with_every_seed():
    env = envs.probe(continuous=True)
    critic = networks.critic(env, (16,), num_quantiles=5)
    agent = purerl.tqc(networks.gaussian_actor(env, (16,)), critic, num_critics=2, num_dropped=0)
    replayed = combinators.with_replay(agent, capacity=1024, batch_size=32, num_updates=2)
    hparams = purerl.SACHparams(3e-3, 1e-2, 1e-2, discount=0.9, tau=0.05, temperature=0.1, target_entropy=-5.0)
    states = probing.learn(replayed, env, hparams, num_updates=800, num_envs=8, rollout_length=2).agent

    class Mean:
        apply = staticmethod(lambda params, obs, action: critic.apply(params, obs, action).mean())

    probing.check_real_actions(agent, Mean, states, 0.9)
