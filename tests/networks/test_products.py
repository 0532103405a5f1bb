"""Layers and torsos as accelerators compute them, against the same on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import envs, networks
from purerl.networks.products import thin_product

CONTRACTION = (((0,), (0,)), ((), ()))


def on_accelerator(monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))


def value_and_gradients(function, *args):
    value, pull = jax.vjp(function, *args)
    return value, pull(jnp.cos(value))


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 20), (20, 3), (2, 1), (20, 30)])
def test_a_thin_product_and_its_gradients_are_those_of_the_product(monkeypatch, inputs, outputs):
    on_accelerator(monkeypatch)
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, inputs), (inputs, outputs)))
    ours = jax.vmap(lambda x, kernel: thin_product(x, kernel, CONTRACTION), (0, None))
    found, expected = value_and_gradients(ours, x, kernel), value_and_gradients(jnp.matmul, x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


@pytest.fixture(scope="module")
def actor_critic():
    env = envs.probe()
    network = networks.actor_critic(env, hidden=(12, 12))
    return network, network.init(jax.random.key(0), jnp.zeros(1)), jnp.linspace(-1, 1, 3)[:, None]


def outputs(network, params, obs):
    distribution, value = jax.vmap(network.apply, (None, 0))(params, obs)
    return distribution.log_probs, value


def gradient(network, params, obs):
    return jax.grad(lambda params: sum(jnp.sin(x).sum() for x in outputs(network, params, obs)))(params)


def test_torsos_side_by_side_have_the_gradients_of_two(monkeypatch, actor_critic):
    network, params, obs = actor_critic
    expected = gradient(network, params, obs)
    on_accelerator(monkeypatch)
    found = gradient(network, params, obs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def test_gradients_of_two_torsos_take_the_products_of_one_on_an_accelerator(monkeypatch, actor_critic):
    network, params, obs = actor_critic
    on_accelerator(monkeypatch)
    text = str(jax.make_jaxpr(lambda params: gradient(network, params, obs))(params))
    # The second layer of both torsos, forward and twice backward; the kernels of the first layers and of two heads.
    assert text.count("dot_general") == 3 + 1 + 2


def test_forward_derivatives_pass_torsos(actor_critic):
    network, params, obs = actor_critic

    def total(params):
        log_probs, value = outputs(network, params, obs)
        return jnp.sin(log_probs).sum() + jnp.sin(value).sum()

    _, slope = jax.jvp(total, (params,), (params,))
    along = jax.tree.map(jnp.vdot, jax.grad(total)(params), params)
    np.testing.assert_allclose(slope, sum(jax.tree.leaves(along)), rtol=1e-4, atol=1e-5)
