"""TD3+BC: one update against formulas in float64, and an actor that leaves the data for what is worth more."""

import jax
import jax.numpy as jnp
import linear_control as linear
import numpy as np
import optax
import pytest

import purerl

GAMMA, DELAY = 0.8, 2
HPARAMS = purerl.TD3BCHparams(0.05, 0.1, GAMMA, tau=0.3, value_coef=1.5, target_noise=0.6, target_noise_clip=0.4)
SIZE = linear.SIZE // DELAY


def test_one_update_against_formulas():
    data = jax.tree.map(lambda x: x[0], linear.window())
    agent = purerl.td3_bc(
        linear.DeterministicActor(), linear.Critic(), policy_delay=DELAY,
        actor_optimizer=lambda hparams: optax.sgd(hparams.actor_learning_rate),
        critic_optimizer=lambda hparams: optax.sgd(hparams.critic_learning_rate),
    )  # fmt: skip
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), data.obs[0])
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, data)

    rows = linear.to_numpy(data)
    obs, action, successor, weight = rows.obs, rows.action[:, 0], rows.next_obs, rows.mask
    actor, critics = linear.to_numpy(state.params)
    targets = critics
    for part, key in enumerate(jax.random.split(jax.random.key(1), DELAY)):
        here = slice(part * SIZE, (part + 1) * SIZE)
        noise = np.clip(0.6 * linear.normals(key, SIZE, 1)[:, 0], -0.4, 0.4)
        next_action = np.clip(2 * np.tanh(successor[here] @ actor) + 2 * noise, -2, 2)
        least = np.min([linear.features(successor[here], next_action) @ one for one in targets], axis=0)
        target = rows.reward[here] + GAMMA * (1 - rows.terminated[here]) * least
        phi, w = linear.features(obs[here], action[here]), weight[here]
        critics = [one + 0.1 * phi.T @ (w * (target - phi @ one)) / SIZE for one in critics]
    np.testing.assert_allclose(new.params.critics, critics, rtol=1e-4, atol=1e-6)

    def q(actor):
        return linear.features(obs[here], 2 * np.tanh(obs[here] @ actor)) @ critics[0]

    mean = lambda x: (w * x).sum() / max(w.sum(), 1)  # noqa: E731
    scale = 1.5 / mean(np.abs(q(actor)))

    def actor_loss(actor):
        return -scale * mean(q(actor)) + mean((np.tanh(obs[here] @ actor) - action[here] / 2) ** 2)

    np.testing.assert_allclose(new.params.actor, actor - 0.05 * linear.slope(actor_loss, actor), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss/actor"], actor_loss(actor), rtol=1e-4)
    moved = 0.7 * actor + 0.3 * np.asarray(new.params.actor)
    np.testing.assert_allclose(new.target_params.actor, moved, rtol=1e-4)


@pytest.mark.parametrize("value_coef", [0.0, 2.5])
def test_the_actor_of_a_bandit_stops_where_value_and_distance_balance(value_coef):
    """One step pays −5 − 2 (a − 1.2)², which the critic can represent; recorded actions are around 0.2.

    There α q'(a) / |q(a)| = 2 (a − mean of the recorded actions) / 4, found by bisection; α = 0: the mean itself.
    """
    rng = np.random.default_rng(0)
    action = np.clip(0.2 + 0.8 * rng.normal(size=256), -2, 2)
    obs, ends = jnp.tile(jnp.array([1.0, 0.0]), (256, 1)), jnp.ones(256, bool)
    reward = jnp.asarray(-5 - 2 * (action - 1.2) ** 2, jnp.float32)
    data = purerl.Transition(obs, jnp.asarray(action[:, None], jnp.float32), reward, ends, ~ends, obs)
    agent = purerl.td3_bc(linear.DeterministicActor(), linear.Critic(), num_critics=1, policy_delay=1)
    hparams = purerl.TD3BCHparams(1e-2, 5e-2, value_coef=value_coef)
    state, _ = jax.jit(lambda key: purerl.fit(key, agent, data, hparams, num_updates=4000))(jax.random.key(1))
    low, high = -2.0, 2.0
    for _ in range(50):
        a = (low + high) / 2
        slope = value_coef * -4 * (a - 1.2) / (5 + 2 * (a - 1.2) ** 2) - (a - action.mean()) / 2
        low, high = (a, high) if slope > 0 else (low, a)
    np.testing.assert_allclose(agent.act(None, state, obs[0])[0], a, atol=0.02)


def test_an_actor_without_bounds_is_refused():
    with pytest.raises(ValueError, match="td3_bc needs an actor with the attribute action_space"):
        purerl.td3_bc(object(), linear.Critic())
