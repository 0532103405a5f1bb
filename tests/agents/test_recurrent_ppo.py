"""Networks with memory: the cells, exact resets, truncation with the right memory, the ratio, and what PPO learns."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import probing
import pytest
from quick import jit_for_long_runs

import purerl
from purerl import envs, networks
from purerl.agents.common import policy_network
from purerl.networks import recurrent

LENGTH, NUM_ENVS = 12, 3


@pytest.fixture(scope="module", params=["gru", "lstm"])
def cartpole_network(request, cartpole):
    network = networks.recurrent_actor_critic(cartpole, hidden=(8,), memory_size=6, cell=request.param)

    def moved(key):
        params = network.init(key, jnp.zeros(4), network.memory())
        return jax.tree.map(lambda x: x + 0.3 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), params)

    return network, jax.jit(moved)(jax.random.key(0))


@pytest.fixture(scope="module")
def data():
    """Random steps with both kinds of endings; next_obs agrees with obs where an episode goes on."""
    rng = np.random.default_rng(0)
    shape = (LENGTH, NUM_ENVS)
    ends = rng.random((2, *shape)) < 0.2
    terminated, truncated = ends[0], ends[1] & ~ends[0]
    truncated[-1, 0] = truncated[3, 1] = True
    obs, other = rng.normal(size=(2, *shape, 4)).astype(np.float32)
    done = (terminated | truncated)[..., None]
    next_obs = np.where(done, other, np.concatenate([obs[1:], other[-1:]]))
    action, reward = rng.integers(0, 2, shape), np.ones(shape, np.float32)
    return purerl.Transition(*map(jnp.asarray, (obs, action, reward, terminated, truncated, next_obs)))


def start_memory(network):
    """Memories in the middle of an episode, [N]."""
    memory = network.memory()
    return jax.tree.map(lambda x: jnp.linspace(-0.5, 0.5, NUM_ENVS * x.size).reshape(NUM_ENVS, *x.shape), memory)


def test_the_cells_are_those_of_flax():
    """flax's cells with our weights, gate by gate."""
    rng = np.random.default_rng(1)
    size = 5
    w, b, h, c, x = (rng.normal(size=shape).astype(np.float32) for shape in [(3, 20), (20,), (5,), (5,), (3,)])
    u = rng.normal(size=(5, 20)).astype(np.float32)
    part = [slice(i * size, (i + 1) * size) for i in range(4)]

    gru = {f"i{gate}": {"kernel": w[:, part[i]], "bias": b[part[i]]} for i, gate in enumerate("rzn")}
    gru |= {f"h{gate}": {"kernel": u[:, part[i]]} for i, gate in enumerate("rz")}
    gru["hn"] = {"kernel": u[:, part[2]], "bias": b[part[3]]}
    expected, _ = nn.GRUCell(size).apply({"params": gru}, h, x)
    from_memory = h @ u[:, :15] + np.concatenate([np.zeros(10), b[part[3]]])
    _, memory = recurrent.gru_step(x @ w[:, :15] + b[:15], jnp.asarray(from_memory), jnp.asarray(h))
    np.testing.assert_allclose(memory, expected, atol=1e-6)

    lstm = {f"i{gate}": {"kernel": w[:, part[i]]} for i, gate in enumerate("ifgo")}
    lstm |= {f"h{gate}": {"kernel": u[:, part[i]], "bias": b[part[i]]} for i, gate in enumerate("ifgo")}
    (cell, output), _ = nn.LSTMCell(size).apply({"params": lstm}, (c, h), x)
    _, memory = recurrent.lstm_step(x @ w, h @ u + b, (jnp.asarray(h), jnp.asarray(c)))
    np.testing.assert_allclose(memory[0], output, atol=1e-6)
    np.testing.assert_allclose(memory[1], cell, atol=1e-6)


def test_values_and_truncated_successors_have_the_memory_of_their_own_episode(cartpole_network, data):
    """`evaluate` against one step at a time: an episode's memory is dropped exactly where the next one begins."""
    network, params = cartpole_network
    memory = start_memory(network)
    log_probs, value, next_value = jax.jit(
        lambda params, data: (lambda d, v, w: (d.log_probs, v, w))(*policy_network.evaluate(network, params, data))
    )(params, data._replace(memory=memory))
    step = jax.jit(network.apply)
    for i in range(NUM_ENVS):
        state = jax.tree.map(lambda x, i=i: x[i], memory)
        for t in range(LENGTH):
            (policy, v), state = step(params, data.obs[t, i], state)
            (_, w), _ = step(params, data.next_obs[t, i], state)
            np.testing.assert_allclose(log_probs[t, i], policy.log_probs, atol=1e-5)
            np.testing.assert_allclose(value[t, i], v, atol=1e-5)
            if not data.terminated[t, i]:
                np.testing.assert_allclose(next_value[t, i], w, atol=1e-5, err_msg=f"{t}, {i}")
            if data.terminated[t, i] or data.truncated[t, i]:
                state = network.memory()


def test_without_a_cut_before_the_end_nothing_else_is_evaluated(cartpole_network, data):
    network, params = cartpole_network
    data = data._replace(truncated=data.truncated.at[:-1].set(False), memory=start_memory(network))
    data = data._replace(terminated=jnp.zeros_like(data.terminated))
    _, value, next_value = jax.jit(lambda params, data: policy_network.evaluate(network, params, data))(params, data)
    np.testing.assert_array_equal(next_value[:-1], value[1:])


def test_the_ratio_is_one_on_the_first_minibatch(cartpole_network, cartpole):
    """Second rollout: memories come from the first one, and episodes end within it."""
    network, params = cartpole_network
    agent = purerl.ppo(network, num_epochs=1, num_minibatches=1)

    def run(key):
        start = purerl.start(key, agent, cartpole, purerl.PPOHparams(learning_rate=0.0), num_envs=4)
        state = start.agent_state._replace(params=params)
        actors, _ = purerl.rollout(jax.random.key(1), agent, cartpole, state, start.actors, length=16)
        _, data = purerl.rollout(jax.random.key(2), agent, cartpole, state, actors, length=16)
        rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (data.obs, data.action, policy_network.resets(data)))
        log_prob, _, _ = policy_network.evaluate_actions(network, params, rows[0], rows[1], data.memory, rows[2])
        return data, log_prob.T, agent.update(key, state, data)[1]

    data, log_prob, metrics = jax.jit(run)(jax.random.key(0))
    assert (data.terminated[:-1]).any()
    assert all((jnp.abs(leaf) > 0).any() for leaf in jax.tree.leaves(data.memory))
    np.testing.assert_allclose(jnp.exp(log_prob - data.aux["log_prob"]), 1.0, atol=1e-6)
    assert abs(metrics["loss/approx_kl"]) < 1e-10
    assert metrics["loss/clip_fraction"] == 0


def test_minibatches_are_of_whole_environments(cartpole):
    network = networks.recurrent_actor_critic(cartpole, hidden=(4,), memory_size=4)
    agent = purerl.ppo(network, num_minibatches=3)
    sizes = {"num_updates": 1, "num_envs": 4, "rollout_length": 3}
    with pytest.raises(ValueError, match=r"num_minibatches = 3 does not divide the 4 environments \(num_envs\)"):
        purerl.train(jax.random.key(0), agent, cartpole, purerl.PPOHparams(), **sizes)
    with pytest.raises(ValueError, match="cell must be one of gru, lstm; got 'rnn'"):
        networks.recurrent_actor_critic(cartpole, cell="rnn")


@pytest.mark.parametrize("num_seeds", probing.SEEDS)
def test_all_probes_with_every_seed(num_seeds):
    env = envs.probe()
    network = networks.recurrent_actor_critic(env, hidden=(16,), memory_size=16)
    agent = purerl.ppo(network, num_minibatches=2)
    hparams = purerl.PPOHparams(
        5e-3, discount=0.9, entropy_coef=0.0, value_clip_epsilon=float("inf"), anneal_updates=120
    )
    states = probing.learn(agent, env, hparams, num_updates=120, num_seeds=num_seeds)

    probing.check_values(probing.values_of(network), states, 0.9)
    probing.check_actions(agent, states)


def test_it_remembers_what_no_single_observation_tells():
    """MemoryChain: +1 or −1 for naming, three steps later, the bit that was shown at the start."""
    env = envs.make("MemoryChain-bsuite", memory_length=3)
    network = networks.recurrent_actor_critic(env, hidden=(16,), memory_size=16, cell="lstm")
    agent = purerl.ppo(network, num_epochs=2, num_minibatches=2)
    hparams, sizes = purerl.PPOHparams(5e-3), {"num_updates": 60, "num_envs": 64, "rollout_length": 16}
    _, metrics = jit_for_long_runs(lambda key: purerl.train(key, agent, env, hparams, **sizes))(jax.random.key(0))
    assert metrics["episode_return"][-5:].mean() > 0.95
