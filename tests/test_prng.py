"""The unrolled generator draws the bits of JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import prng

DRAWS = {
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "bytes": lambda key: jax.random.bits(key, (7,), "uint8"),
    "normal": lambda key: jax.random.normal(key, (2, 3)),
    "one": lambda key: jax.random.uniform(key),
    "randint": lambda key: jax.random.randint(key, (4,), 0, 7),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 123456789)),
    "vmapped": lambda key: jax.vmap(lambda i: jax.random.gumbel(jax.random.fold_in(key, i), (2,)))(jnp.arange(3)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_bits_as_jax(name):
    keys = jax.random.split(jax.random.key(42), 2)
    expected = jax.vmap(DRAWS[name])(keys)
    np.testing.assert_array_equal(jax.vmap(DRAWS[name])(prng.unrolled(keys)), expected)


def test_other_generators_pass_unchanged_and_a_loop_is_gone():
    key = jax.random.key(0, impl="rbg")
    assert prng.unrolled(key) is key
    draw = jax.jit(lambda key: jax.random.uniform(prng.unrolled(key), (4,)))
    text = draw.lower(jax.random.key(0)).compile().as_text()
    assert "while(" not in text
