"""Recurrent networks over sequences, as accelerators differentiate them, against a plain scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerated import on_accelerator

import purerl
from purerl import envs, networks
from purerl.agents.common import policy_network

LENGTH, NUM_ENVS = 6, 2


def network_of(cell):
    return networks.recurrent_actor_critic(envs.probe(), hidden=(4,), memory_size=3, cell=cell)


def params_of(network):
    params = network.init(jax.random.key(0), jnp.zeros(1), network.memory())
    return jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)  # biases are not 0


def both_ways(monkeypatch, function, *args):
    """The results of a function as a CPU computes it and as an accelerator does, in one program."""

    @jax.jit
    def run(*args):
        expected = function(*args)
        with monkeypatch.context() as patched:
            on_accelerator(patched)
            return expected, jax.jit(lambda *args: function(*args))(*args)  # a function that JAX has not traced

    return run(*args)


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gradients_through_a_sequence_with_resets_are_those_of_the_scan(cell):
    network = network_of(cell)
    obs, reset = jnp.linspace(-1, 1, LENGTH)[:, None], jnp.array([True, False, False, True, False, False])
    memory = jax.tree.map(lambda x: x + 0.3, network.memory())
    sequences = jnp.stack([reset, jnp.zeros_like(reset)])  # with resets, one of them before the first step, or none

    def gradients(unroll, params):
        def loss(params, memory, reset):
            (distribution, value), last = unroll(params, obs, memory, reset)
            parts = [value, distribution.entropy(), *jax.tree.leaves(last)]
            return sum(jnp.sin((1 + i) * part).sum() for i, part in enumerate(parts))

        return jax.vmap(jax.value_and_grad(loss, (0, 1)), (None, None, 0))(params, memory, sequences)

    def both(params):
        return [gradients(unroll, params) for unroll in (network.unroll, policy_network._Traced(network).unroll)]

    expected, found = jax.jit(both)(params_of(network))
    assert_close(found, expected)


@pytest.fixture
def trajectory():
    rng, shape = np.random.default_rng(0), (LENGTH, NUM_ENVS)
    obs = jnp.asarray(rng.normal(size=(*shape, 1)), jnp.float32)
    ended = jnp.zeros(shape, bool).at[1, 0].set(True)  # truncated: its successor is valued with its own memory
    next_obs = jnp.where(ended[..., None], 2.0, jnp.concatenate([obs[1:], obs[:1]]))
    memory = jnp.full((NUM_ENVS, 3), 0.2)
    zeros = jnp.zeros(shape)
    return purerl.Transition(obs, zeros, zeros, zeros != 0, ended, next_obs, memory=memory)


def test_an_accelerator_unrolls_by_the_trace(monkeypatch):
    network = network_of("gru")
    is_traced = lambda network: jnp.bool_(isinstance(network, policy_network._Traced))  # noqa: E731
    assert not policy_network.by_platform(network, is_traced)
    on_accelerator(monkeypatch)
    assert policy_network.by_platform(network, is_traced)


def test_successors_are_valued_with_the_memory_after_their_own_step(monkeypatch, trajectory):
    network = network_of("gru")

    def evaluate(params):
        return policy_network.evaluate(network, params, trajectory, differentiated=False)[1:]

    expected, found = both_ways(monkeypatch, evaluate, params_of(network))
    assert_close(found, expected)
