"""R2D2: one update against formulas in float64 by loops, the scale of values, and probes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probing
import pytest

import purerl
from purerl import combinators, envs, networks
from purerl.agents.r2d2 import rescaled, unscaled
from purerl.types import Transition

GAMMA, LENGTH, SIZE, STEPS = 0.9, 5, 4, 2
HPARAMS = purerl.DQNHparams(0.1, GAMMA, target_period=1, tau=0.3)


class Leaky:
    """memory' = ½ memory + s · w; the two values are memory' · v. Parameters: (w [2], v [2])."""

    def memory(self):
        return jnp.float32(0)

    def init(self, key, obs, memory):
        return tuple(jax.random.normal(key, (2, 2)))

    def apply(self, params, obs, memory):
        memory = 0.5 * memory + obs @ params[0]
        return memory * params[1], memory

    def unroll(self, params, obs, memory, reset):
        def step(memory, xs):
            q, memory = self.apply(params, xs[0], jnp.where(xs[1], 0, memory))
            return memory, q

        return jax.lax.scan(step, memory, (obs, reset))[::-1]


@pytest.fixture(scope="module")
def window():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, LENGTH, SIZE, 2)).astype(np.float32)
    terminated, truncated = rng.random((2, LENGTH, SIZE)) < 0.25
    going = ~(terminated | truncated)[:-1]
    next_obs[:-1][going] = obs[1:][going]
    weight = np.tile(rng.uniform(0.2, 1, SIZE).astype(np.float32), (LENGTH, 1))
    fields = (
        obs,
        rng.integers(0, 2, (LENGTH, SIZE)),
        3 * rng.normal(size=(LENGTH, SIZE)),
        terminated,
        truncated,
        next_obs,
    )
    data = Transition(*map(jnp.asarray, fields), memory=jnp.asarray(rng.normal(size=SIZE), jnp.float32))
    return data._replace(reward=data.reward.astype(jnp.float32), weight=jnp.asarray(weight))


def values(params, data, b):
    """Values of the observations and of the true successors of window b, [L, 2] each, by a loop in float64."""
    w, v = params
    memory, own, following = float(data.memory[b]), [], []
    for t in range(LENGTH):
        if t and (data.terminated[t - 1, b] or data.truncated[t - 1, b]):
            memory = 0.0
        memory = 0.5 * memory + data.obs[t, b] @ w
        own.append(memory * v)
        following.append((0.5 * memory + data.next_obs[t, b] @ w) * v)
    return np.array(own), np.array(following)


def h(x):
    return np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x


def inverse(y):
    """h⁻¹ by bisection."""
    low, high = -1e4, 1e4
    for _ in range(80):
        x = (low + high) / 2
        low, high = (x, high) if h(x) < y else (low, x)
    return x


def target_of(online, target, data, b, t):
    """h of the return of `STEPS` steps from t, fewer at an end of the episode or of the window."""
    total, factor = 0.0, 1.0
    for k in range(t, min(t + STEPS, LENGTH)):
        total += factor * data.reward[k, b]
        factor *= GAMMA
        if data.terminated[k, b]:
            return h(total)
        if data.truncated[k, b]:
            break
    return h(total + factor * inverse(target[k][online[k].argmax()]))


def test_one_update_against_formulas(window):
    agent = purerl.r2d2(Leaky(), num_steps=STEPS, optimizer=lambda hparams: optax.sgd(hparams.learning_rate))
    state = agent.init(jax.random.key(0), purerl.hparams.cast(HPARAMS), window.obs[0, 0])
    state = state._replace(target_params=jax.tree.map(lambda x: -x[::-1], state.params))
    new, metrics = jax.jit(agent.update)(jax.random.key(1), state, window)

    data = jax.tree.map(lambda x: np.asarray(x, bool if x.dtype == bool else float), window)
    params, target_params = (np.array(x, float) for x in (state.params, state.target_params))
    y = np.zeros((LENGTH, SIZE))
    for b in range(SIZE):
        online, target = values(params, data, b)[1], values(target_params, data, b)[1]
        y[:, b] = [target_of(online, target, data, b, t) for t in range(LENGTH)]

    def errors(params):
        taken = [values(params, data, b)[0][np.arange(LENGTH), data.action[:, b].astype(int)] for b in range(SIZE)]
        return y - np.array(taken).T

    def loss(params):
        return (data.weight * errors(params) ** 2 / 2).mean()

    slope = np.zeros((2, 2))
    for i in np.ndindex(2, 2):
        moved = np.zeros((2, 2))
        moved[i] = 1e-6
        slope[i] = (loss(params + moved) - loss(params - moved)) / 2e-6
    np.testing.assert_allclose(new.params, params - 0.1 * slope, rtol=1e-3, atol=1e-5)
    expected = 0.7 * target_params + 0.3 * np.array(new.params)
    np.testing.assert_allclose(new.target_params, expected, rtol=1e-4)
    size = np.abs(errors(params))
    np.testing.assert_allclose(metrics["priority"], 0.9 * size.max(0) + 0.1 * size.mean(0), rtol=1e-3)


def test_scaled_values_are_scaled_back_at_all_sizes():
    x = jnp.array([0.0, 1e-4, -0.3, 2.0, -50.0, 1e4, -1e6])
    np.testing.assert_allclose(rescaled(x), [h(float(v)) for v in x], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(unscaled(rescaled(x)), x, rtol=2e-3, atol=1e-6)


def test_a_network_without_memory_is_refused():
    with pytest.raises(TypeError, match=r"r2d2 needs a network with memory, such as networks.recurrent_q_network\(env"):
        purerl.r2d2(networks.q_network(envs.probe()))


@pytest.mark.slow
def test_all_probes_with_every_seed():
    env = envs.probe()
    network = networks.recurrent_q_network(env, hidden=(16,), memory_size=8, activation="tanh")
    agent = purerl.r2d2(network, num_steps=2)
    replayed = combinators.with_replay(agent, capacity=512, batch_size=16, length=4, burn_in=2, num_updates=2)
    hparams = purerl.DQNHparams(3e-3, 0.9, target_period=20, epsilon=0.3, epsilon_anneal_updates=50.0)
    states = probing.learn(replayed, env, hparams, num_updates=400, num_envs=8, rollout_length=4).agent

    def judge(state, obs, reset):
        return unscaled(network.unroll(state.params, obs, network.memory(), reset)[0].max(-1))

    probing.check_values(judge, states, 0.9)
    probing.check_actions(agent, states)
