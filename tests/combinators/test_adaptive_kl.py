"""The penalty's coefficient follows the KL that updates make."""

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.combinators import adaptive_kl
from purerl.types import Agent, TrainState


def scripted(kls):
    """An agent whose update i reports the KL kls[i]."""

    def init(key, hparams, example, num_envs=1):
        return TrainState((), (), hparams, jnp.int32(0))

    def update(key, state, data):
        kl = jnp.asarray(kls)[state.num_updates]
        return state._replace(num_updates=state.num_updates + 1), {"loss/approx_kl": kl}

    return Agent(init, lambda key, state, obs: (obs, ()), update)


def test_the_coefficient_halves_below_the_band_and_doubles_above_it():
    agent = adaptive_kl.with_adaptive_kl(scripted([0.001, 0.01, 0.014, 0.02, 0.02]))
    hparams = adaptive_kl.KLPenaltyHparams(kl_coef=1.0, kl_target=0.01)
    _, metrics = purerl.fit(jax.random.key(0), agent, jnp.zeros(1), hparams, num_updates=5)
    assert metrics["loss/kl_coef"].tolist() == [1.0, 0.5, 0.5, 0.5, 1.0]


def test_the_penalised_loss_is_the_surrogate_and_k3():
    log_prob, old, advantage = jnp.array([-1.0, -0.5]), jnp.array([-1.2, -0.4]), jnp.array([2.0, -1.0])
    d = np.array([-0.2, 0.1])
    expected = -np.exp(-d) * np.array([2.0, -1.0]) + 3.0 * (np.exp(-d) - 1 + d)
    loss = adaptive_kl.kl_penalized_policy_loss(log_prob, old, advantage, adaptive_kl.KLPenaltyHparams(kl_coef=3.0))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_ppo_with_the_penalty_learns_and_holds_its_kl(cartpole):
    network = purerl.networks.actor_critic(cartpole, hidden=(32,))
    ppo = purerl.ppo(network, num_epochs=4, num_minibatches=4, policy_loss=adaptive_kl.kl_penalized_policy_loss)
    agent = adaptive_kl.with_adaptive_kl(ppo)
    _, metrics = purerl.train(
        jax.random.key(0), agent, cartpole, adaptive_kl.KLPenaltyHparams(5e-3, kl_target=0.01),
        num_updates=60, num_envs=16, rollout_length=64,
    )  # fmt: skip
    # The coefficient moves by factors of 2 once the KL is out of the band of ±1.5, so within 3 of the target.
    assert 0.01 / 3 < float(jnp.median(metrics["loss/approx_kl"][20:])) < 3 * 0.01
    assert len(set(metrics["loss/kl_coef"].tolist())) > 3
    assert float(jnp.nanmean(metrics["episode_return"][-10:])) > 3 * float(metrics["episode_return"][:3].mean())
