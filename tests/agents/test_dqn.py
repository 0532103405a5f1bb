"""DQN: its losses against independent formulas, its targets, what it learns on probes, and an exact optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, envs, mdp, networks
from purerl.types import Transition

FAST = purerl.DQNHparams(
    learning_rate=3e-3, discount=0.9, target_period=20, epsilon=0.3, epsilon_anneal_updates=50.0, max_grad_norm=100.0,
    value_min=-1.5, value_max=1.5,
)  # fmt: skip


READ = {
    "value": lambda q: q,
    "categorical": lambda logits: jax.nn.softmax(logits) @ jnp.linspace(FAST.value_min, FAST.value_max, 31),
    "quantile": lambda quantiles: quantiles.mean(-1),
}
OPTIONS = {"double": ({}, {}, {})}  # of the agent, of its network, of the replay
ALONE = {
    "C51, dueling, prioritized, 3 steps": (
        {"head": "categorical"},
        {"num_atoms": 31, "dueling": True},
        {"prioritized": True, "length": 3},
    ),
    "QR-DQN, noisy": ({"head": "quantile", "noisy": True}, {"num_atoms": 8, "noisy": True}, {}),
    "not double": ({"double": False}, {}, {}),
    "Huber": ({"huber": True}, {}, {}),
    "dueling": ({}, {"dueling": True}, {}),
    "3 steps": ({}, {}, {"length": 3}),
    "prioritized": ({}, {}, {"prioritized": True}),
    "C51": ({"head": "categorical"}, {"num_atoms": 31}, {}),
    "QR-DQN": ({"head": "quantile"}, {"num_atoms": 8}, {}),
    "QR-DQN, Huber": ({"head": "quantile", "huber": True}, {"num_atoms": 8}, {}),
    "noisy": ({"noisy": True}, {"noisy": True}, {}),
}


@pytest.mark.parametrize(
    "options", [*OPTIONS.values(), *(pytest.param(x, marks=pytest.mark.slow) for x in ALONE.values())],
    ids=[*OPTIONS, *ALONE],
)  # fmt: skip
@pytest.mark.parametrize("num_seeds", probing.SEEDS)
def test_all_probes_with_every_seed(options, num_seeds):
    of_agent, of_network, of_replay = options
    env = envs.probe()
    network = networks.q_network(env, (16,), "tanh", **of_network)
    agent = purerl.dqn(network, **of_agent)
    replayed = combinators.with_replay(agent, capacity=512, batch_size=32, num_updates=2, **of_replay)
    noisy = of_agent.get("noisy", False)
    hparams = FAST._replace(initial_epsilon=0.0, epsilon=0.0) if noisy else FAST
    states = probing.learn(
        replayed, env, hparams, num_updates=250, num_envs=8, rollout_length=2, num_seeds=num_seeds
    ).agent

    def judge(state, obs, reset):
        output = jax.vmap(lambda o: network.apply(state.params, o, None) if noisy else network.apply(state.params, o))(
            obs
        )
        return READ[of_agent.get("head", "value")](output).max(-1)

    probing.check_values(judge, states, 0.9)
    probing.check_actions(agent, states)


# --- One update against formulas in float64 ---------------------------------------------------------------------------

SIZE = 6


class Linear:
    """Outputs [A] or [A, Z] linear in two features."""

    def __init__(self, atoms=None):
        self.shape = (2, 3) if atoms is None else (2, 3, atoms)

    def init(self, key, obs):
        return jax.random.normal(key, self.shape)

    def apply(self, params, obs):
        return jnp.tensordot(obs, params, 1)


@pytest.fixture(scope="module")
def window():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 2, SIZE, 2)).astype(np.float32)
    reward = rng.normal(size=(2, SIZE)).astype(np.float32)
    terminated, truncated = rng.random((2, 2, SIZE)) < 0.3
    action = rng.integers(0, 3, (2, SIZE))
    weight = rng.uniform(0.2, 1.0, SIZE).astype(np.float32)
    fields = (obs, action, reward, terminated, truncated, next_obs)
    return Transition(*map(jnp.asarray, fields), mask=jnp.asarray(np.stack([weight, weight])))


def targets(window, gamma):
    """Two-step return, bootstrap factor and successor of each window, by hand."""
    x = jax.tree.map(np.asarray, window)
    ended = x.terminated[0] | x.truncated[0]
    reward = np.where(ended, x.reward[0], x.reward[0] + gamma * x.reward[1])
    factor = np.where(ended, gamma * ~x.terminated[0], gamma**2 * ~x.terminated[1])
    return reward, factor, np.where(ended[:, None], x.next_obs[0], x.next_obs[1]).astype(float)


def one_update(window, agent, hparams, **network):
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), window.obs[0, 0])
    target = jax.random.normal(jax.random.key(7), state.params.shape)
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state._replace(target_params=target), window)
    return np.asarray(state.params, float), np.asarray(target, float), new, metrics


@pytest.mark.parametrize("double", [True, False])
def test_the_value_loss(window, double):
    hparams = purerl.DQNHparams(discount=0.8, target_period=100)
    agent = purerl.dqn(Linear(), double=double, huber=False)
    params, target_params, _, metrics = one_update(window, agent, hparams)
    reward, factor, successor = targets(window, 0.8)
    next_target, next_online = successor @ target_params, successor @ params
    best = (next_online if double else next_target).argmax(1)
    taken = (np.asarray(window.obs[0]) @ params)[np.arange(SIZE), window.action[0]]
    error = reward + factor * next_target[np.arange(SIZE), best] - taken
    np.testing.assert_allclose(metrics["priority"], np.abs(error), rtol=1e-4, atol=3e-6)
    np.testing.assert_allclose(metrics["loss/td_error"], np.abs(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["q_value"], taken.mean(), rtol=1e-5)


def test_a_gradient_step_weighs_each_window(window):
    """With plain descent, the change is the weighted mean of error times features, clipped at 1 by the Huber loss."""
    agent = purerl.dqn(Linear(), double=False, huber=True, optimizer=lambda hparams: optax.sgd(hparams.learning_rate))
    params, target_params, new, _ = one_update(window, agent, purerl.DQNHparams(learning_rate=0.1, discount=0.8))
    reward, factor, successor = targets(window, 0.8)
    obs, action = np.asarray(window.obs[0], float), np.asarray(window.action[0])
    error = reward + factor * (successor @ target_params).max(1) - (obs @ params)[np.arange(SIZE), action]
    slope = np.clip(error, -1, 1) * np.asarray(window.mask[0])
    expected = params.copy()
    for b in range(SIZE):
        expected[:, action[b]] += 0.1 * slope[b] * obs[b] / SIZE
    np.testing.assert_allclose(new.params, expected, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_falls_to_nothing(window):
    agent = purerl.dqn(Linear(), optimizer=lambda hparams: optax.sgd(hparams.learning_rate))
    hparams = purerl.DQNHparams(learning_rate=0.1, anneal_updates=4.0, target_period=100)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), window.obs[0, 0])
    update = jax.jit(lambda count: agent.update(jax.random.key(1), state._replace(num_updates=count), window)[0].params)
    moved = [update(jnp.int32(count)) - state.params for count in (0, 3, 4, 9)]
    assert np.abs(moved[0]).max() > 0.01
    for change, fraction in zip(moved, (1.0, 0.25, 0.0, 0.0)):
        np.testing.assert_allclose(change, fraction * moved[0], rtol=1e-4, atol=1e-6)


def test_the_categorical_loss(window):
    """Cross entropy to the projected target, with the projection written as a loop over atoms."""
    atoms, low, high = 5, -2.0, 2.0
    hparams = purerl.DQNHparams(discount=0.8, value_min=low, value_max=high)
    agent = purerl.dqn(Linear(atoms), head="categorical", double=False)
    params, target_params, _, metrics = one_update(window, agent, hparams)
    support = np.linspace(low, high, atoms)

    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    reward, factor, successor = targets(window, 0.8)
    next_probs = softmax(np.einsum("bd,daz->baz", successor, target_params))
    taken = softmax(np.einsum("bd,daz->baz", np.asarray(window.obs[0], float), params))
    for b in range(SIZE):
        best = (next_probs[b] @ support).argmax()
        projected = np.zeros(atoms)
        for p, z in zip(next_probs[b, best], support):
            position = (np.clip(reward[b] + factor[b] * z, low, high) - low) / (support[1] - support[0])
            below = int(np.floor(position))
            projected[below] += p * (1 - (position - below))
            if position > below:
                projected[below + 1] += p * (position - below)
        loss = -(projected * np.log(taken[b, int(window.action[0, b])])).sum()
        np.testing.assert_allclose(metrics["priority"][b], loss, rtol=1e-4)


def test_the_quantile_head_acts_on_means_and_its_error_is_that_of_means(window):
    agent = purerl.dqn(Linear(4), head="quantile", double=False)
    params, target_params, _, metrics = one_update(window, agent, purerl.DQNHparams(discount=0.8))
    reward, factor, successor = targets(window, 0.8)
    next_mean = np.einsum("bd,daz->baz", successor, target_params).mean(-1)
    taken = np.einsum("bd,daz->baz", np.asarray(window.obs[0], float), params).mean(-1)
    error = reward + factor * next_mean.max(1) - taken[np.arange(SIZE), np.asarray(window.action[0])]
    np.testing.assert_allclose(metrics["priority"], np.abs(error), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_targets_are_copied_at_an_exact_cadence(window, tau):
    agent = purerl.dqn(Linear())
    state = agent.init(
        jax.random.key(0), purerl.hparams.cast(purerl.DQNHparams(tau=tau, target_period=3)), window.obs[0, 0]
    )
    update = jax.jit(agent.update)
    expected = state.target_params
    for i in range(1, 8):
        state, _ = update(jax.random.key(i), state, window)
        if i % 3 == 0:
            expected = (1 - tau) * expected + tau * state.params
        np.testing.assert_allclose(state.target_params, expected, rtol=1e-6)


def test_masked_actions_are_never_taken_nor_bootstrapped_from():
    obs = {"x": jnp.array([1.0, 2.0]), "action_mask": jnp.array([False, True, False])}

    class Masked(Linear):
        def apply(self, params, obs):
            return jnp.tensordot(obs["x"], params, 1)

    agent = purerl.dqn(Masked())
    state = agent.init(jax.random.key(0), purerl.hparams.cast(purerl.DQNHparams(initial_epsilon=1.0)), obs)
    keys = jax.random.split(jax.random.key(1), 50)
    assert (jax.vmap(lambda key: agent.act(key, state, obs)[0])(keys) == 1).all()
    assert agent.act(None, state, obs)[0] == 1


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head must be one of value, categorical, quantile, implicit; got 'rainbow'"):
        purerl.dqn(Linear(), head="rainbow")


def test_it_converges_to_the_exact_action_values_of_an_mdp():
    """Max error 0.05 to value iteration, from random behaviour on a random MDP."""
    model = mdp.random_mdp(jax.random.key(3), num_states=6, num_actions=3, num_outcomes=2)
    env = envs.from_mdp(model, max_steps=50)
    network = networks.q_network(env, ())  # linear in the one-hot state: a table
    agent = combinators.with_replay(purerl.dqn(network, huber=False), capacity=640_000, batch_size=256, num_updates=4)
    hparams = purerl.DQNHparams(discount=0.8, tau=0.1, target_period=1, epsilon=1.0, max_grad_norm=100.0)
    loop = purerl.start(jax.random.key(0), agent, env, hparams, num_envs=128)
    for learning_rate in (3e-2, 3e-3, 1e-3):
        state = purerl.set_hparams(loop.agent_state, purerl.hparams.cast(hparams._replace(learning_rate=learning_rate)))
        loop = loop._replace(agent_state=state)
        loop, _ = purerl.advance(loop, agent, env, num_updates=200, rollout_length=8)
    q = jax.vmap(lambda s: network.apply(loop.agent_state.agent.params, s))(jnp.arange(6))
    np.testing.assert_allclose(q, mdp.value_iteration(model, 0.8).q, atol=0.05)


def test_epsilon_falls_with_gradient_steps():
    hparams = purerl.hparams.cast(purerl.DQNHparams(initial_epsilon=1.0, epsilon=0.1, epsilon_anneal_updates=10))
    agent = purerl.dqn(Linear())
    probing.check_epsilon(agent, agent.init(jax.random.key(0), hparams, jnp.ones(2)), jnp.ones(2))


class Fixed:
    """A Q-network of three fixed values; with a key it adds its noise to the last one."""

    def init(self, key, obs):
        return jnp.array([0.0, 1.0, 0.5])

    def apply(self, params, obs, key=None):
        return params if key is None else params + jnp.array([0.0, 0.0, 1.0])


def actions(agent, hparams, count=4000):
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), jnp.zeros(1))
    return jax.jit(jax.vmap(agent.act, (0, None, None)))(
        jax.random.split(jax.random.key(1), count), state, jnp.zeros(1)
    )[0]


def test_boltzmann_exploration_draws_from_the_softmax_at_the_temperature():
    agent = purerl.dqn(Fixed(), exploration="boltzmann")
    drawn = np.bincount(actions(agent, purerl.DQNHparams(temperature=0.5)), minlength=3) / 4000
    np.testing.assert_allclose(drawn, np.exp([0, 2, 1]) / np.exp([0, 2, 1]).sum(), atol=0.03)


def test_a_noisy_network_explores_by_its_noise_alone():
    chosen = actions(purerl.dqn(Fixed(), noisy=True), purerl.DQNHparams(initial_epsilon=1.0), 64)
    np.testing.assert_array_equal(chosen, 2)


def test_an_unknown_exploration_is_refused():
    with pytest.raises(ValueError, match="exploration must be one of epsilon_greedy, boltzmann, greedy; got 'ucb'"):
        purerl.dqn(Fixed(), exploration="ucb")


@pytest.mark.parametrize("value_min", [100.0, 200.0, np.array([0.0, 100.0])], ids=["empty", "reversed", "in a sweep"])
def test_a_support_that_is_empty_or_reversed_is_refused(value_min):
    with pytest.raises(ValueError, match=r"value_max = 100\.0 must be above value_min"):
        purerl.hparams.check_hparams(purerl.DQNHparams(value_min=value_min))


def test_the_default_support_holds_negative_returns():
    hparams = purerl.DQNHparams()
    assert hparams.value_min == -hparams.value_max


def test_the_error_of_the_categorical_head_is_that_of_means(window):
    agent = purerl.dqn(Linear(5), head="categorical", double=False)
    hparams = FAST._replace(value_min=-2.0, value_max=2.0, discount=0.0)
    state = agent.init(jax.random.key(0), purerl.hparams.cast(hparams), window.obs[0, 0])
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))  # uniform over -2, ..., 2: mean 0
    window = window._replace(reward=jnp.ones_like(window.reward))
    metrics = jax.jit(agent.update)(jax.random.key(0), state, window)[1]
    np.testing.assert_allclose(metrics["loss/td_error"], 1, rtol=1e-5)
