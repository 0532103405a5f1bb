"""Checkpoints: bit-exact, whole or absent, and refused when a bit of any file has changed."""

import re
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import checkpoint


class Inner(NamedTuple):
    weights: dict[str, Any]
    nothing: Any = None
    empty: tuple = ()


class State(NamedTuple):
    key: jax.Array
    keys: jax.Array
    inner: Inner
    done: jax.Array
    count: jax.Array
    half: jax.Array
    odd: jax.Array
    zero_size: jax.Array


def make_state() -> State:
    return State(
        key=jax.random.key(7),
        keys=jax.random.split(jax.random.key(1, impl="rbg"), 3),
        inner=Inner({"w": jax.random.normal(jax.random.key(0), (5, 3)), "b": jnp.arange(3.0)}),
        done=jnp.array([True, False]),
        count=jnp.array(-3, jnp.int32),
        half=jnp.array([1.0, -0.0, jnp.nan, jnp.inf, 1 / 3], jnp.bfloat16),
        odd=jax.lax.bitcast_convert_type(jnp.array([0x7FC00001, 0x00000001, 0x80000000], jnp.uint32), jnp.float32),
        zero_size=jnp.zeros((0, 4)),
    )


def bits(leaf) -> tuple[str, tuple[int, ...], bytes]:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()


def assert_same_bits(actual, expected) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert [bits(leaf) for leaf in jax.tree.leaves(actual)] == [bits(leaf) for leaf in jax.tree.leaves(expected)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("saved") / "state", make_state(), {"step": 3, "name": "first"})


def files(directory):
    return sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())


def test_round_trip_is_bit_exact_for_every_kind_of_leaf(saved):
    restored = checkpoint.restore(saved, like=jax.eval_shape(make_state))
    assert_same_bits(restored, make_state())
    assert checkpoint.read_metadata(saved) == {"step": 3, "name": "first"}


def test_restored_arrays_are_uncommitted_so_that_a_compiled_program_is_found_again(saved):
    restored = checkpoint.restore(saved, like=jax.eval_shape(make_state))
    assert not restored.inner.weights["w"].committed
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), jax.eval_shape(make_state)
    )
    assert checkpoint.restore(saved, like=like).inner.weights["w"].committed


def test_a_flipped_bit_in_any_file_is_refused_naming_the_file(saved, tmp_path):
    like = jax.eval_shape(make_state)
    assert len(files(saved)) >= 5
    for number, name in enumerate(files(saved)):
        directory = shutil.copytree(saved, tmp_path / str(number))
        content = bytearray((directory / name).read_bytes())
        if not content:
            continue
        position = (len(content) * 7) // 11
        content[position] ^= 1 << (number % 8)
        (directory / name).write_bytes(bytes(content))
        with pytest.raises(checkpoint.CheckpointError, match=re.escape(name.as_posix())):
            checkpoint.restore(directory, like=like)


def test_every_bit_of_the_manifest_itself_counts(tmp_path):
    directory = checkpoint.save(tmp_path / "tiny", {}, {})
    original = (directory / checkpoint.MANIFEST).read_bytes()
    for bit in range(8 * len(original)):
        content = bytearray(original)
        content[bit // 8] ^= 1 << (bit % 8)
        (directory / checkpoint.MANIFEST).write_bytes(bytes(content))
        with pytest.raises(checkpoint.CheckpointError, match=checkpoint.MANIFEST):
            checkpoint.read_metadata(directory)


def test_a_missing_and_an_extra_file_are_refused_by_name(saved, tmp_path):
    like = jax.eval_shape(make_state)
    for number, name in enumerate(files(saved)):
        directory = shutil.copytree(saved, tmp_path / str(number))
        (directory / name).unlink()
        with pytest.raises(checkpoint.CheckpointError, match=re.escape(name.as_posix())):
            checkpoint.restore(directory, like=like)
    directory = shutil.copytree(saved, tmp_path / "extra")
    (directory / "arrays" / "stray.bin").write_bytes(b"x")
    with pytest.raises(checkpoint.CheckpointError, match=r"arrays/stray\.bin is not listed"):
        checkpoint.restore(directory, like=like)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s._replace(count=jnp.zeros((), jnp.float32)), r"\.count is int32\[\], not float32\[\]"),
        (lambda s: s._replace(done=jnp.zeros(3, bool)), r"\.done is bool\[2\], not bool\[3\]"),
        (lambda s: s._replace(key=jax.random.key(0, impl="rbg")), r"\.key is key<fry>\[\], not key<rbg>\[\]"),
        (lambda s: s._replace(half=None), r"holds \.half .* not asked for"),
        (lambda s: s._replace(inner=s.inner._replace(nothing=jnp.zeros(2))), r"does not hold \.inner\.nothing"),
    ],
)
def test_another_structure_is_refused_naming_the_leaf(saved, change, message):
    with pytest.raises(checkpoint.CheckpointError, match=message):
        checkpoint.restore(saved, like=change(make_state()))


def test_numbers_are_saved_as_jax_holds_them_and_a_narrowed_numpy_leaf_is_refused(tmp_path):
    directory = checkpoint.save(tmp_path / "numbers", {"a": 1, "b": 2.5, "c": np.float32(0.1)})
    restored = checkpoint.restore(directory, like={"a": 0, "b": 0.0, "c": np.float32(0)})
    assert_same_bits(restored, {"a": jnp.asarray(1), "b": jnp.asarray(2.5), "c": jnp.float32(0.1)})
    with pytest.raises(TypeError, match="float64"):
        checkpoint.save(tmp_path / "wide", {"a": np.float64(0.1)})
    assert list(tmp_path.iterdir()) == [directory], "a failed save leaves nothing behind"


def test_save_does_not_overwrite_unless_told(tmp_path):
    checkpoint.save(tmp_path / "x", {"a": 1})
    with pytest.raises(FileExistsError, match="overwrite"):
        checkpoint.save(tmp_path / "x", {"a": 2})
    checkpoint.save(tmp_path / "x", {"a": 2}, overwrite=True)
    assert int(checkpoint.restore(tmp_path / "x", like={"a": 0})["a"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_interrupted_save_is_never_taken_for_a_checkpoint(tmp_path, monkeypatch):
    checkpoint.save_step(tmp_path, 10, {"a": 1})

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save_step(tmp_path, 20, {"a": 2})
    assert checkpoint.latest(tmp_path).name == "000000000010"
    partial = shutil.copytree(checkpoint.latest(tmp_path), tmp_path / "000000000030")
    (partial / checkpoint.MANIFEST).unlink()
    assert checkpoint.latest(tmp_path).name == "000000000010"
    with pytest.raises(checkpoint.CheckpointError, match="not a complete checkpoint"):
        checkpoint.restore(partial, like={"a": 0})


def test_the_last_k_are_kept_in_order_of_their_number(tmp_path):
    assert checkpoint.latest(tmp_path / "nowhere") is None
    for step in (5, 50, 500, 5000):
        checkpoint.save_step(tmp_path, step, {"a": step}, keep=2)
    (tmp_path / ".leftover.incomplete-1").mkdir()
    checkpoint.save_step(tmp_path, 50000, {"a": 50000}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000005000", "000000050000"]
    assert int(checkpoint.restore(checkpoint.latest(tmp_path), like={"a": 0})["a"]) == 50000
    with pytest.raises(ValueError, match="keep"):
        checkpoint.save_step(tmp_path, 1, {"a": 1}, keep=0)
    with pytest.raises(ValueError, match="step"):
        checkpoint.save_step(tmp_path, -1, {"a": 1})
