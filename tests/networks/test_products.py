"""Products with kernels, differentiated and vmapped, against `jax.lax.dot_general`; thin layers of accelerators."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerated import on_accelerator

from purerl.networks.products import product, thin_product

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


def total(product):
    """A scalar of a layer for one example at a time, x [B, ..., D] and kernel [D, H]."""
    return lambda x, kernel: jnp.sin(jax.vmap(product, (0, None))(x, kernel)).sum()


def gradients(product):
    return jax.grad(total(product), (0, 1))


def of_gradients(product):
    return jax.grad(lambda *args: sum((each**2).sum() for each in gradients(product)(*args)), (0, 1))


def along_gradients(product):
    return lambda x, kernel: jax.jvp(gradients(product), (x, kernel), (jnp.cos(x), jnp.cos(kernel)))


CALLS = {
    "gradients": (gradients, (50, 9), (9, 40)),
    "gradients of a layer that narrows": (gradients, (50, 90), (90, 40)),
    "gradients of 12 outputs": (gradients, (50, 9), (9, 12)),
    "gradients of few outputs": (gradients, (50, 9), (9, 3)),
    "gradients of a kernel over an image": (gradients, (6, 4, 5, 9), (9, 40)),
    "gradients of a population": (lambda f: jax.vmap(gradients(f)), (3, 6, 4, 9), (3, 9, 40)),
    "gradients of a population on one batch": (lambda f: jax.vmap(gradients(f), (None, 0)), (6, 4, 9), (3, 9, 40)),
    "gradients of a population along other axes": (lambda f: jax.vmap(gradients(f), (2, 1)), (6, 4, 3, 9), (9, 3, 40)),
    "gradients of each example": (lambda f: jax.vmap(gradients(f), (0, None)), (6, 1, 9), (9, 40)),
    "gradients of gradients": (of_gradients, (6, 9), (9, 40)),
    "gradients of gradients with few outputs": (of_gradients, (6, 9), (9, 3)),
    "derivatives along gradients": (along_gradients, (6, 9), (9, 40)),
    "inputs vmapped along their last axis": (lambda f: jax.vmap(f, (2, None), 2), (6, 9, 4), (9, 40)),
    "an input for several kernels": (lambda f: jax.vmap(f, (None, 0)), (6, 9), (4, 9, 40)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_product_is_differentiated_and_vmapped_as_that_of_jax(name):
    call, *shapes = CALLS[name]
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    found, expected = jax.jit(lambda *args: [call(each)(*args) for each in (product, jnp.matmul)])(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def test_gradients_of_kernels_in_bfloat16_are_those_of_jax():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in ((50, 9), (9, 40)))
    found, expected = (gradients(each)(x, kernel)[1] for each in (product, jnp.matmul))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32), rtol=2e-2, atol=5e-2)


def test_an_accelerator_differentiates_the_product_of_jax():
    """Its program is the same, apart from the choice of the platform, of which one branch is left."""
    args = jnp.ones((6, 4, 9)), jnp.ones((9, 40))

    def products(function):
        program = jax.export.export(jax.jit(gradients(function)), platforms=["cuda"])(*args).mlir_module()
        return re.findall(r"dot_general [^:]*contracting_dims[^:]*: .*->.*", re.sub(r"loc\(.*|%\w+", "", program))

    def of_jax(x, kernel):
        return jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))

    assert sorted(products(product)) == sorted(products(of_jax))
    assert len(products(product)) == 3


def test_a_product_keeps_the_precision_that_it_was_traced_with():
    with jax.default_matmul_precision("tensorfloat32"):
        traced = jax.make_jaxpr(gradients(product))(jnp.ones((6, 9)), jnp.ones((9, 40)))
    assert "precision=tensorfloat32" in str(traced)
    assert "precision=(Precision.HIGH, Precision.HIGH)" in str(traced)
