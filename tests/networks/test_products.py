"""Thin layers as accelerators compute them, against the same on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerated import on_accelerator

from purerl.networks.products import thin_product

CONTRACTION = (((0,), (0,)), ((), ()))


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
