"""Matrices drawn together are those drawn one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import orthonormal
from purerl.orthonormal import jointly, orthonormal_columns

SHAPES = [(6, 4), (5, 2), (6, 1)]


def draw(key):
    return [orthonormal_columns(jax.random.fold_in(key, i), *shape) for i, shape in enumerate(SHAPES)]


def num_loops(function):
    return jax.jit(function).lower(jax.random.key(0)).as_text().count("stablehlo.while")


def test_together_they_are_the_same_matrices():
    for apart, together in zip(draw(jax.random.key(0)), jax.jit(jointly(draw))(jax.random.key(0))):
        np.testing.assert_allclose(apart, together, atol=1e-6)


def test_those_of_one_height_are_one_loop():
    assert num_loops(lambda key: jointly(draw)(jax.random.clone(key))) < num_loops(draw)


def test_side_by_side_in_a_population():
    keys = jax.random.split(jax.random.key(0), 3)
    apart, together = jax.vmap(draw)(keys), jax.jit(jax.vmap(jointly(draw)))(keys)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), apart, together)


def test_a_key_may_depend_on_another_matrix():
    def dependent(key):
        first = orthonormal_columns(key, 4, 3)
        word = jax.lax.bitcast_convert_type(first[0, 0], jnp.uint32) >> 16
        return first, orthonormal_columns(jax.random.fold_in(key, word), 4, 2)

    apart, together = dependent(jax.random.key(1)), jointly(dependent)(jax.random.key(1))
    np.testing.assert_allclose(apart[1], together[1], atol=1e-6)


def test_matrices_within_other_transformations_stay():
    def nested(key):
        vmapped = jax.vmap(lambda key: orthonormal_columns(key, 4, 2))(jax.random.split(key, 3))
        return vmapped, jax.jit(draw)(key), jax.lax.map(lambda key: orthonormal_columns(key, 4, 2), key[None])

    apart, together = nested(jax.random.key(2)), jointly(nested)(jax.random.key(2))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), apart, together)


def test_values_around_them_are_computed_once_and_returned():
    def around(key, x, label=None):
        return {"x": x + 1, "matrix": 2 * orthonormal_columns(key, 3, 3), "constant": jnp.arange(2), "label": label}

    found = jointly(around)(jax.random.key(0), jnp.float32(1))
    assert found["x"] == 2
    assert found["constant"].tolist() == [0, 1]
    assert found["label"] is None
    np.testing.assert_allclose(found["matrix"].T @ found["matrix"], 4 * np.eye(3), atol=1e-5)


def gaussian(widths, n):
    keys = jax.random.split(jax.random.key(0), len(widths))
    draw = jax.vmap(lambda key, m: orthonormal._gaussian(key, n, max(widths), m))
    return draw(keys, jnp.array(widths))


def test_accelerators_multiply_the_same_reflections():
    [x] = gaussian((12,), 20)
    found = orthonormal._one_product(x, 12, jnp.zeros(12, int), jnp.arange(12))
    np.testing.assert_allclose(found, orthonormal._one_by_one(x, 12), atol=2e-6)


@pytest.mark.parametrize("widths", [(2, 6, 1, 6, 2), (5, 4), (3, 3, 3, 2)], ids=str)
def test_accelerators_put_thin_matrices_side_by_side(widths):
    x = gaussian(widths, 8)
    for apart, packed in zip(orthonormal._apart(widths, x), orthonormal._packed(widths, x), strict=True):
        np.testing.assert_allclose(packed, apart, atol=2e-6)
