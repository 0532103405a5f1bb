"""Packing is the identity, bit for bit, for every dtype."""

import jax
import jax.numpy as jnp
import numpy as np

from purerl.packing import pack, scan_packed

TREE = {
    "float": jnp.array([[1.5, -jnp.nan], [jnp.inf, -0.0]]),
    "int": jnp.array([2**31 - 1, -(2**31)]),
    "flag": jnp.array([True, False]),
    "image": jnp.arange(12, dtype=jnp.uint8).reshape(2, 3, 2),
    "half": jnp.ones((2, 1), jnp.bfloat16),
    "key": jax.random.split(jax.random.key(0), 2),
    "none": (),
}


def test_unpacking_gives_the_tree_back_bit_for_bit():
    packed, unpack = pack(TREE)
    for before, after in zip(jax.tree.leaves(TREE), jax.tree.leaves(unpack(packed))):
        assert before.dtype == after.dtype
        if before.dtype == jax.random.key(0).dtype:
            before, after = jax.random.key_data(before), jax.random.key_data(after)
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes()


def test_words_and_flags_share_one_array():
    packed, _ = pack({name: TREE[name] for name in ("float", "int", "flag")})
    assert [each.shape for each in packed] == [(2, 4)]


def test_bytes_stay_bytes():
    packed, _ = pack({"image": TREE["image"], "float": TREE["float"]})
    assert sorted(each.dtype.name for each in packed) == ["int32", "uint8"]


def test_stacked_rows_unpack_with_their_leading_axes():
    packed, unpack = pack(TREE | {"key": ()})
    stacked = unpack([jnp.stack([each] * 3) for each in packed])
    assert stacked["image"].shape == (3, 2, 3, 2)
    np.testing.assert_array_equal(stacked["int"], np.stack([TREE["int"]] * 3))


def test_a_wide_leaf_is_left_alone():
    image = jnp.linspace(-1, 1, 2 * 200).reshape(2, 20, 10)
    packed, unpack = pack({"float": TREE["float"], "image": image})
    assert [(each.dtype.name, each.shape) for each in packed] == [("int32", (2, 2)), ("float32", (2, 200))]
    np.testing.assert_array_equal(unpack(packed)["image"], image)


def test_no_tracer_leaks_from_a_scan():
    def step(total, x):
        return total + x, {"total": total}

    with jax.checking_leaks():
        total, _ = jax.jit(lambda xs: scan_packed(jax.lax.scan, step, xs[0], xs))(jnp.ones((3, 2)))
    assert total.tolist() == [4, 4]


def test_a_tree_of_no_rows_is_packed():
    packed, unpack = pack({"x": jnp.zeros((0, 3)), "y": jnp.zeros(0)})
    assert jax.tree.map(jnp.shape, unpack(packed)) == {"x": (0, 3), "y": (0,)}
