"""PQN: its targets and one update against formulas in float64, how it explores, and what it learns on probes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import envs, networks
from purerl.types import Transition

LENGTH, ENVS, GAMMA, LAMBDA = 7, 5, 0.9, 0.7
HPARAMS = purerl.PQNHparams(learning_rate=0.1, discount=GAMMA, trace_decay=LAMBDA, anneal_updates=4.0)


class Linear:
    """Three values linear in two features."""

    def init(self, key, obs):
        return jax.random.normal(key, (2, 3))

    def apply(self, params, obs):
        return obs @ params


@pytest.fixture(scope="module")
def trajectory():
    rng = np.random.default_rng(1)
    obs, next_obs = rng.normal(size=(2, LENGTH, ENVS, 2)).astype(np.float32)
    terminated, truncated = rng.random((2, LENGTH, ENVS)) < 0.2
    assert terminated.any()
    assert (truncated & ~terminated).any()
    action, reward = rng.integers(0, 3, (LENGTH, ENVS)), rng.normal(size=(LENGTH, ENVS)).astype(np.float32)
    return Transition(*map(jnp.asarray, (obs, action, reward, terminated, truncated, next_obs)))


def linear_agent(**options):
    return purerl.pqn(Linear(), optimizer=lambda hparams: optax.sgd(hparams.learning_rate), **options)


def start(agent, obs, hparams=HPARAMS):
    return agent.init(jax.random.key(0), purerl.hparams.cast(hparams), obs)


def returns_by_hand(data, best):
    """λ-returns of each environment, one step after the other from the end, in float64."""
    target = np.zeros((LENGTH, ENVS))
    for n in range(ENVS):
        for t in reversed(range(LENGTH)):
            ended = t == LENGTH - 1 or data.terminated[t, n] or data.truncated[t, n]
            following = best[t, n] if ended else (1 - LAMBDA) * best[t, n] + LAMBDA * target[t + 1, n]
            target[t, n] = data.reward[t, n] + (0.0 if data.terminated[t, n] else GAMMA * following)
    return target


@pytest.mark.parametrize("num_updates", [0, 3])
def test_one_update_by_formula(trajectory, num_updates):
    """One pass over one minibatch of everything: α (1 − k/4) times the mean of error times features."""
    agent = linear_agent(num_epochs=1, num_minibatches=1)
    state = start(agent, trajectory.obs[0, 0])._replace(num_updates=jnp.int32(num_updates))
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, trajectory)
    data, params = jax.tree.map(np.asarray, trajectory), np.asarray(state.params, float)
    target = returns_by_hand(data, (data.next_obs.astype(float) @ params).max(-1))
    error, expected = np.zeros((LENGTH, ENVS)), params.copy()
    for t, n in np.ndindex(LENGTH, ENVS):
        error[t, n] = target[t, n] - data.obs[t, n] @ params[:, data.action[t, n]]
        expected[:, data.action[t, n]] += 0.1 * (1 - num_updates / 4) * error[t, n] * data.obs[t, n] / error.size
    np.testing.assert_allclose(new.params, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss/value"], (0.5 * error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["q_value"], (target - error).mean(), rtol=1e-4, atol=1e-6)
    assert new.num_updates == num_updates + 1


def test_targets_stand_still_while_minibatches_are_gone_through(trajectory):
    """With two passes of one minibatch the second step still aims at the values of the first parameters."""
    agent = linear_agent(num_epochs=2, num_minibatches=1)
    state = start(agent, trajectory.obs[0, 0], HPARAMS._replace(anneal_updates=float("inf")))
    new, _ = jax.jit(agent.update)(jax.random.key(1), state, trajectory)
    data, params = jax.tree.map(np.asarray, trajectory), np.asarray(state.params, float)
    target = returns_by_hand(data, (data.next_obs.astype(float) @ params).max(-1))
    for _ in range(2):
        moved = params.copy()
        for t, n in np.ndindex(LENGTH, ENVS):
            action, obs = data.action[t, n], data.obs[t, n]
            moved[:, action] += 0.1 * (target[t, n] - obs @ params[:, action]) * obs / target.size
        params = moved
    np.testing.assert_allclose(new.params, params, rtol=1e-4, atol=1e-6)


def test_invalid_actions_are_never_taken_nor_bootstrapped_from(trajectory):
    class Masked(Linear):
        def apply(self, params, obs):
            return obs["x"] @ params

    mask = jnp.array([True, False, True])
    masked = [{"x": x, "action_mask": jnp.broadcast_to(mask, (LENGTH, ENVS, 3))} for x in trajectory[::5]]
    data = trajectory._replace(obs=masked[0], next_obs=masked[1], action=2 * (trajectory.action > 0))
    agent = purerl.pqn(Masked(), num_epochs=1, num_minibatches=1, optimizer=lambda hparams: optax.sgd(0.0))
    state = start(agent, jax.tree.map(lambda x: x[0, 0], masked[0]))
    _, metrics = jax.jit(agent.update)(jax.random.key(1), state, data)
    plain, params = jax.tree.map(np.asarray, data), np.asarray(state.params, float)
    target = returns_by_hand(plain, (plain.next_obs["x"].astype(float) @ params)[..., [0, 2]].max(-1))
    q = np.take_along_axis(plain.obs["x"] @ params, plain.action[..., None], -1)[..., 0]
    np.testing.assert_allclose(metrics["loss/value"], (0.5 * (target - q) ** 2).mean(), rtol=1e-5)
    obs = {"x": jnp.ones(2), "action_mask": mask}
    keys = jax.random.split(jax.random.key(1), 50)
    assert (jax.vmap(lambda key: agent.act(key, state, obs)[0])(keys) != 1).all()


def test_epsilon_falls_with_updates():
    hparams = HPARAMS._replace(initial_epsilon=1.0, epsilon=0.1, epsilon_anneal_updates=10.0)
    agent = linear_agent()
    probing.check_epsilon(agent, start(agent, jnp.ones(2), hparams), jnp.ones(2))


def test_all_probes_with_every_seed():
    env = envs.probe()
    network = networks.q_network(env, (16,), "tanh", layer_norm=True)
    agent = purerl.pqn(network, num_epochs=2, num_minibatches=2)
    hparams = purerl.PQNHparams(1e-2, discount=0.9, epsilon=0.3, anneal_updates=100.0)
    states = probing.learn(agent, env, hparams, num_updates=100, rollout_length=4)

    def judge(state, obs, reset):
        return jax.vmap(lambda o: network.apply(state.params, o))(obs).max(-1)

    probing.check_values(judge, states, 0.9)
    probing.check_actions(agent, states)


def test_masked_steps_and_parts_that_do_not_divide_are_refused(trajectory):
    agent = linear_agent(num_minibatches=4)
    state = start(agent, trajectory.obs[0, 0])
    with pytest.raises(ValueError, match=r"pqn takes whole rollouts; rollout_episodes masks .* with_shared_policy"):
        agent.update(jax.random.key(0), state, trajectory._replace(mask=jnp.ones((LENGTH, ENVS))))
    with pytest.raises(ValueError, match="num_minibatches = 4 does not divide the batch of 35 steps"):
        agent.update(jax.random.key(0), state, trajectory)
    with pytest.raises(ValueError, match="num_epochs must be a positive integer, got 0"):
        linear_agent(num_epochs=0)
