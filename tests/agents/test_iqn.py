"""IQN: one update against formulas in float64 with the levels that it drew, the quantiles it finds, and probes."""

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, envs, networks
from purerl.spaces import Box, Discrete
from purerl.types import Env, Transition

GAMMA, LEVELS = 0.8, 3
HPARAMS = purerl.DQNHparams(0.1, GAMMA, target_period=1, tau=0.3)


class LinearQuantiles:
    """z_τ(s, a) = s · (params[..., a, 0] + τ params[..., a, 1]), two actions."""

    def init(self, key, obs):
        return jax.random.normal(key, (2, 2, 2))

    def apply(self, params, obs, key=None):
        tau = jnp.full(LEVELS, 0.5) if key is None else jax.random.uniform(key, (LEVELS,))
        start, slope = jnp.moveaxis(jnp.tensordot(obs, params, 1), -1, 0)  # [A] each
        quantiles = start[:, None] + slope[:, None] * tau[None]
        return jnp.stack([quantiles, jnp.broadcast_to(tau[None], quantiles.shape)], axis=-1)


def levels(key):
    """The levels of each of the windows, [B, N]."""
    keys = jax.random.split(key, linear.SIZE)
    return np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (LEVELS,)))(keys), float)


def quantiles(params, obs, tau):
    """[B, A, N] of observations [B, 2] at levels [B, N]."""
    parts = np.einsum("bd,dak->bak", obs, params)
    return parts[..., :1] + parts[..., 1:] * tau[:, None]


@pytest.mark.parametrize("double", [True, False])
def test_one_update_against_formulas(double):
    window = linear.window()
    window = window._replace(action=jnp.asarray(np.random.default_rng(2).integers(0, 2, (2, linear.SIZE, 1))))
    data = window._replace(action=window.action[..., 0])
    agent = purerl.dqn(
        LinearQuantiles(), head="implicit", huber=True, double=double,
        optimizer=lambda hparams: optax.sgd(hparams.learning_rate),
    )  # fmt: skip
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), data.obs[0, 0])
    state = state._replace(target_params=-state.params[::-1])
    new, metrics = jax.jit(agent.update)(jax.random.key(3), state, data)

    obs, action, reward, factor, successor, weight = linear.read(window, GAMMA)
    params, target_params = linear.to_numpy((state.params, state.target_params))
    target_key, choice_key, loss_key = jax.random.split(jax.random.key(3), 3)
    target = quantiles(target_params, successor, levels(target_key))  # [B, A, N]
    chooser = quantiles(params, successor, levels(choice_key)) if double else target
    row = np.arange(linear.SIZE)
    target = reward[:, None] + factor[:, None] * target[row, chooser.mean(-1).argmax(1)]  # [B, N]
    tau = levels(loss_key)

    def loss(params):
        u = target[:, None] - quantiles(params, obs, tau)[row, action.astype(int)][..., None]  # [B, own, target's]
        huber = np.where(np.abs(u) <= 1, u**2 / 2, np.abs(u) - 0.5)
        return (weight * (np.abs(tau[..., None] - (u < 0)) * huber).mean(-1).sum(-1)).mean()

    np.testing.assert_allclose(new.params, params - 0.1 * linear.slope(loss, params), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new.target_params, 0.7 * target_params + 0.3 * np.asarray(new.params), rtol=1e-4)
    error = target.mean(1) - quantiles(params, obs, tau)[row, action.astype(int)].mean(1)
    np.testing.assert_allclose(metrics["priority"], np.abs(error), rtol=1e-3, atol=1e-5)
    greedy = quantiles(params, obs[:1], np.full((1, LEVELS), 0.5)).mean(-1).argmax()
    assert agent.act(None, state, data.obs[0, 0])[0] == greedy


def test_the_quantiles_of_a_bandits_rewards_are_found_at_all_levels():
    """Action 0 pays uniformly from −1 to 1, action 1 pays 0.5: the second is better in the mean, and certain."""
    env = Env(None, None, Box(-1.0, 1.0, (1,)), Discrete(2))
    network = networks.implicit_quantile_network(env, (16,), num_quantiles=16, num_cosines=8)
    agent = purerl.dqn(network, head="implicit", optimizer=lambda hparams: optax.adam(hparams.learning_rate))
    action = jnp.arange(256) % 2
    reward = jnp.where(action == 0, jnp.linspace(-1, 1, 256), 0.5)
    obs, ends = jnp.ones((1, 256, 1)), jnp.ones((1, 256), bool)
    data = Transition(obs, action[None], reward[None], ends, ~ends, obs)

    def learn(key):
        state = agent.init(key, purerl.hparams.cast(purerl.DQNHparams(3e-3)), obs[0, 0])
        step = lambda state, key: (agent.update(key, state, data)[0], None)  # noqa: E731
        return jax.lax.scan(step, state, jax.random.split(key, 1000))[0]

    state = jax.jit(learn)(jax.random.key(0))
    found = network.apply(state.params, obs[0, 0])
    np.testing.assert_allclose(found[..., 1], np.tile((np.arange(16) + 0.5) / 16, (2, 1)))
    np.testing.assert_allclose(found[0, 1:-1, 0], 2 * found[0, 1:-1, 1] - 1, atol=0.1)
    np.testing.assert_allclose(found[1, :, 0], 0.5, atol=0.1)


@pytest.mark.slow
def test_all_probes_with_every_seed():
    env = envs.probe()
    network = networks.implicit_quantile_network(env, (16,), "tanh", num_quantiles=8, num_cosines=8)
    agent = purerl.dqn(network, head="implicit", huber=True, double=False)
    replayed = combinators.with_replay(agent, capacity=512, batch_size=32, num_updates=2)
    hparams = purerl.DQNHparams(3e-3, 0.9, target_period=20, epsilon=0.3, epsilon_anneal_updates=50.0)
    states = probing.learn(replayed, env, hparams, num_updates=400, num_envs=8, rollout_length=2).agent
    value = lambda state, obs: network.apply(state.params, obs)[..., 0].mean(-1).max()  # noqa: E731
    probing.check_values(lambda state, obs, reset: jax.vmap(value, (None, 0))(state, obs), states, 0.9)
    probing.check_actions(agent, states)
