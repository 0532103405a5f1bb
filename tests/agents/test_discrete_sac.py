"""Discrete soft actor-critic: one update against formulas in float64, masks, probes, and CartPole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, distributions, envs, networks

GAMMA, SIZE = 0.9, 5
HPARAMS = purerl.DiscreteSACHparams(0.1, 0.2, 0.3, discount=GAMMA, tau=0.25, temperature=0.5, target_entropy=0.5)


class Linear:
    """Three values, or the logits of three actions, linear in two features."""

    def __init__(self, policy):
        self.policy = policy

    def init(self, key, obs):
        return jax.random.normal(key, (2, 3))

    def apply(self, params, obs):
        return (distributions.categorical(obs @ params), 0.0) if self.policy else obs @ params


def linear_agent(**options):
    rates = {f"{name}_optimizer": f"{name}_learning_rate" for name in ("actor", "critic", "temperature")}
    sgd = {name: lambda hparams, field=field: optax.sgd(getattr(hparams, field)) for name, field in rates.items()}
    return purerl.discrete_sac(Linear(True), Linear(False), **sgd, **options)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 1, SIZE, 2)).astype(np.float32)
    reward = rng.normal(size=(1, SIZE)).astype(np.float32)
    terminated = rng.random((1, SIZE)) < 0.4
    action = rng.integers(0, 3, (1, SIZE))
    steps = purerl.Transition(obs, action, reward, terminated, np.zeros_like(terminated), next_obs)
    return jax.tree.map(jnp.asarray, steps._replace(weight=rng.uniform(0.2, 1, (1, SIZE)).astype(np.float32)))


@pytest.fixture(scope="module")
def updated(data):
    """The state before and after one update, in float64, and the metrics."""
    agent = linear_agent()
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), data.obs[0, 0])
    state = state._replace(target_critics=jax.tree.map(lambda x: -x, state.params.critics))
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, data)
    return *(jax.tree.map(lambda x: np.asarray(x, float), x) for x in (state, new)), metrics


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def rows(data):
    return [np.asarray(x[0], float) for x in (data.obs, data.next_obs, data.reward, data.terminated, data.weight)]


def test_critics_step_towards_the_expected_soft_value(data, updated):
    state, new, metrics = updated
    obs, next_obs, reward, terminated, weight = rows(data)
    probs = softmax(next_obs @ state.params.actor)
    next_q = np.min([next_obs @ one for one in state.target_critics], axis=0)
    target = reward + GAMMA * (1 - terminated) * (probs * (next_q - 0.5 * np.log(probs))).sum(-1)
    taken = np.eye(3)[np.asarray(data.action[0])]
    errors = [target - (obs @ one * taken).sum(-1) for one in state.params.critics]
    for before, after, error in zip(state.params.critics, new.params.critics, errors):
        step = 0.2 * np.einsum("b,bi,ba->ia", weight * error, obs, taken) / SIZE
        np.testing.assert_allclose(after, before + step, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["priority"], np.abs(errors).mean(0), rtol=1e-4, atol=1e-5)


def test_the_actor_steps_down_the_gradient_of_its_expectation(data, updated):
    state, new, metrics = updated
    obs = rows(data)[0]
    q = np.min([obs @ one for one in new.params.critics], axis=0)

    def loss(actor):
        probs = softmax(obs @ actor)
        return (probs * (0.5 * np.log(probs) - q)).sum(-1).mean()

    step = np.zeros((2, 3))
    for i in np.ndindex(2, 3):
        shift = np.zeros((2, 3))
        shift[i] = 1e-5
        step[i] = (loss(state.params.actor + shift) - loss(state.params.actor - shift)) / 2e-5
    np.testing.assert_allclose(new.params.actor, state.params.actor - 0.1 * step, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(metrics["loss/actor"], loss(state.params.actor), rtol=1e-4)


def test_the_temperature_falls_while_the_entropy_is_above_its_target(data, updated):
    state, new, metrics = updated
    probs = softmax(rows(data)[0] @ state.params.actor)
    entropy = -(probs * np.log(probs)).sum(-1).mean()
    expected = np.log(0.5) - 0.3 * 0.5 * (entropy - 0.5 * np.log(3))
    np.testing.assert_allclose(new.params.log_temperature, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss/entropy"], entropy, rtol=1e-4)


def test_all_step_sizes_are_annealed(data, updated):
    """Halfway the steps are half as large, and at the end there are none."""
    state, new, _ = updated
    agent, moved = linear_agent(), jax.tree.map(lambda a, b: a - b, new.params, state.params)
    update = jax.jit(agent.update)
    for made, share in ((0, 1.0), (2, 0.5), (4, 0.0), (9, 0.0)):
        start = jax.tree.map(jnp.float32, state)._replace(num_updates=jnp.int32(made))
        start = start._replace(hparams=start.hparams._replace(anneal_updates=jnp.float32(4)))
        after, _ = update(jax.random.key(1), start, data)
        critics = jax.tree.map(lambda a, b: a - b, after.params.critics, start.params.critics)
        np.testing.assert_allclose(critics[0], share * moved.critics[0], rtol=1e-3, atol=1e-6)
        other = after.params.log_temperature - start.params.log_temperature
        np.testing.assert_allclose(other, share * moved.log_temperature, rtol=1e-3, atol=1e-6)
        assert np.abs(after.params.actor - start.params.actor).max() == 0 or share


def test_target_critics_follow_by_polyak_averaging(updated):
    state, new, _ = updated
    for target, before, online in zip(new.target_critics, state.target_critics, new.params.critics):
        np.testing.assert_allclose(target, 0.75 * before + 0.25 * online, rtol=1e-5)


def test_forbidden_actions_are_neither_valued_nor_counted():
    """One allowed action of value 1 after a step: the target is γ, and the entropy of a uniform policy is log 1."""

    class Masked(Linear):
        def init(self, key, obs):
            return jnp.array([5.0, 1.0, 5.0])

        def apply(self, params, obs):
            return (distributions.categorical(params, obs["action_mask"]), 0.0) if self.policy else params

    agent = purerl.discrete_sac(Masked(True), Masked(False))
    obs = {"action_mask": jnp.array([False, True, False])}
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), obs)
    obs = jax.tree.map(lambda x: jnp.broadcast_to(x, (1, 4, 3)), obs)
    ends = jnp.zeros((1, 4), bool)
    data = purerl.Transition(obs, jnp.ones((1, 4), int), jnp.zeros((1, 4)), ends, ends, obs)
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, data)
    np.testing.assert_allclose(metrics["loss/td_error"], 1 - GAMMA, rtol=1e-4)
    np.testing.assert_allclose(new.params.log_temperature, state.params.log_temperature, atol=1e-6)


@pytest.mark.parametrize("num_seeds", probing.SEEDS)
def test_all_probes_with_every_seed(num_seeds):
    env = envs.probe()
    critic = networks.q_network(env, (16,), "tanh")
    agent = purerl.discrete_sac(networks.actor_critic(env, (16,), "tanh"), critic)
    replayed = combinators.with_replay(agent, capacity=1024, batch_size=64)
    hparams = purerl.DiscreteSACHparams(5e-3, 1e-2, 5e-2, discount=0.9, tau=0.05, target_entropy=0.25)
    states = probing.learn(
        replayed, env, hparams, num_updates=800, num_envs=8, rollout_length=2, num_seeds=num_seeds
    ).agent
    probing.check_values(
        lambda state, obs, reset: jax.vmap(lambda o: critic.apply(state.params.critics[0], o).max())(obs), states, 0.9,
        slack=0.2,
    )  # fmt: skip
    probing.check_actions(agent, states)


def test_a_count_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="num_critics must be a positive integer, got 0"):
        purerl.discrete_sac(Linear(True), Linear(False), num_critics=0)


def test_a_temperature_that_could_not_be_learned_is_refused():
    with pytest.raises(ValueError, match=r"temperature = 0\.0 must be above 0"):
        purerl.hparams.check_hparams(purerl.DiscreteSACHparams(temperature=0.0))
