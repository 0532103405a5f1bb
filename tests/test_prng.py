"""The unrolled generator draws the bits of JAX's own."""

import re

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


def test_other_generators_pass_unchanged():
    key = jax.random.key(0, impl="rbg")
    assert prng.unrolled(key) is key


def test_other_generators_pass_unchanged_where_they_are_the_default():
    with jax.default_prng_impl("rbg"):
        key = jax.random.key(0)
        assert prng.unrolled(key) is key


def draw(make_key):
    return jax.jit(lambda key: jax.random.uniform(make_key(key), (4,)))


def test_on_a_cpu_there_is_no_loop():
    assert "while(" not in draw(prng.unrolled).lower(jax.random.key(0)).compile().as_text()


def test_keys_of_a_program_share_one_kernel_on_a_cpu():
    def keys_of_keys(key):
        return jax.random.key_data(prng.split(prng.fold_in(prng.split(key)[1], 7), 3))

    text = jax.jit(keys_of_keys).lower(jax.random.key(0)).compile().as_text()
    kernels = re.findall(r"%fused_computation\S* \((.*)\) -> u32\[4,2\]", text)
    assert text.count(" call(") == 3
    assert [re.sub(r"\S+: ", "", kernel) for kernel in kernels] == ["u32[2], u32[]"] * 3


def test_for_another_platform_the_program_is_that_of_jax():
    ours, jaxs = (
        draw(make_key).trace(jax.random.key(0)).lower(lowering_platforms=("cuda",)).as_text()
        for make_key in (prng.unrolled, lambda key: key)
    )
    assert [ours.count(f"stablehlo.{name} ") for name in ("xor", "while", "add", "case")] == [
        jaxs.count(f"stablehlo.{name} ") for name in ("xor", "while", "add", "case")
    ]


@pytest.mark.parametrize("num", [2, 5, (2, 3)])
def test_split_and_fold_in_make_the_keys_of_jax(num):
    key = jax.random.key(3)
    assert (prng.split(key, num) == jax.random.split(key, num)).all()
    assert prng.fold_in(key, 7) == jax.random.fold_in(key, 7)


def test_split_keeps_the_implementation_of_its_key():
    for key in (jax.random.key(0, impl="rbg"), jax.random.key(0), prng.unrolled(jax.random.key(0))):
        assert prng.split(key).dtype == prng.fold_in(key, 1).dtype == key.dtype


def test_standard_leaves_all_but_unrolled_keys():
    tree = {
        "unrolled": prng.unrolled(jax.random.key(1)),
        "rbg": jax.random.key(0, impl="rbg"),
        "x": jnp.ones(2),
        "n": 3,
    }
    found = prng.standard(tree)
    assert found["unrolled"] == jax.random.key(1)
    assert all(found[name] is tree[name] for name in ("rbg", "x"))


def test_a_key_is_made_once_for_all_that_draw_from_it():
    def several(key):
        a, b = jax.random.split(key)
        return jax.random.uniform(a, (3,)), jax.random.uniform(a, (5,)), jax.random.normal(b, (7,)), jax.random.bits(b)

    text = jax.jit(lambda key: several(prng.unrolled(key))).lower(jax.random.key(0)).compile().as_text()
    assert text.count(" xor(") < 6 * 25  # 21 in each of five draws, and none of them twice


@pytest.mark.parametrize("bound", [1, 3, 65_536, 1_000_003, 2**31 - 1])
def test_integers_are_the_upper_words_of_products(bound):
    key = jax.random.key(3)
    words = np.asarray(jax.random.bits(key, (64, 32), jnp.uint32), np.uint64)
    np.testing.assert_array_equal(prng.integers(key, (64, 32), bound), words * np.uint64(bound) >> np.uint64(32))


def test_integers_of_the_largest_words_stay_below_the_bound(monkeypatch):
    words = jnp.array([0, 2**16 - 1, 2**16, 2**32 - 1], jnp.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda *_: words)
    for bound in (1, 7, 2**16, 2**31 - 1):
        expected = [int(word) * bound >> 32 for word in words]
        assert prng.integers(jax.random.key(0), (4,), bound).tolist() == expected
