"""Checkpoints: bit-exact, whole or absent, and refused when a bit of any file has changed."""

import json
import os
import re
import shutil
from typing import Any, NamedTuple
from unittest import mock

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
        patch.setattr(os, "rename", crash)
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


# --- Interrupted, damaged, old and foreign ----------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save_step(tmp_path, step, {"a": step}, {"step": step})
    flip(tmp_path / f"{3:012d}" / "metadata.json")
    (tmp_path / f"{2:012d}" / checkpoint.MANIFEST).unlink()
    found = checkpoint.find(tmp_path)
    assert found.metadata == {"step": 1}
    assert int(found.restore({"a": 0})["a"]) == 1
    newest, second = found.damaged
    assert "metadata.json does not match" in newest
    assert "no SHA256SUMS" in second
    checkpoint.save_step(tmp_path, 2, {"a": 2}, {"step": 2}, keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == [f"{1:012d}", f"{2:012d}"]
    assert checkpoint.find(tmp_path / "nowhere") is None


def test_a_series_without_an_undamaged_checkpoint_says_what_is_wrong_with_each(tmp_path):
    flip(checkpoint.save_step(tmp_path, 1, {"a": 1}) / "metadata.json")
    with pytest.raises(checkpoint.CheckpointError, match=r"no checkpoint in .* can be used: .*metadata\.json"):
        checkpoint.find(tmp_path)


@pytest.mark.parametrize("swaps", [True, False], ids=["exchange", "two renames"])
def test_a_save_that_is_killed_while_it_replaces_leaves_a_checkpoint(tmp_path, monkeypatch, swaps):
    """At each operation on directory entries the process dies, as far as the code can see."""
    if not swaps:
        monkeypatch.setattr(checkpoint.directory.files, "exchange", lambda *_: False)
    real = {name: getattr(os, name) for name in ("rename", "replace", "rmdir", "unlink", "fsync")}
    for moment in range(1000):
        checkpoint.save(tmp_path / "x", {"a": 1}, overwrite=True)
        left = iter(range(moment))

        def dying(name):
            def call(*args, **kwargs):
                if next(left, None) is None:
                    raise KeyboardInterrupt
                return real[name](*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, dying(name))
            try:
                checkpoint.save(tmp_path / "x", {"a": 2}, overwrite=True)
                break
            except KeyboardInterrupt:
                pass
        assert int(checkpoint.restore(tmp_path / "x", like={"a": 0})["a"]) in (1, 2)
    assert moment > 5
    assert [path.name for path in tmp_path.iterdir()] == ["x"], "the next save removes what dead ones have left"


def rewritten(directory, change):
    """The checkpoint with another metadata.json, under a manifest that fits."""
    path = directory / "metadata.json"
    path.write_text(change(path.read_text()))
    digests = checkpoint.manifest.digests_of(directory)
    (directory / checkpoint.MANIFEST).write_text(checkpoint.manifest.text_of(digests))
    return directory


def test_the_formats_before_are_read_bit_for_bit(tmp_path, monkeypatch):
    places = checkpoint.arrays.places
    with monkeypatch.context() as patch:  # each leaf an array of its own, as formats 1 and 2 have it
        patch.setattr(checkpoint.arrays, "places", lambda leaves, together: places(leaves, together=False))
        patch.setattr(checkpoint.directory, "_FORMAT", 2)
        directory = checkpoint.save(tmp_path / "x", make_state(), {"b": 2})
    assert_same_bits(checkpoint.restore(directory, like=make_state()), make_state())
    old = rewritten(directory, lambda text: json.dumps({**json.loads(text), "format": 1, "versions": None}))
    assert_same_bits(checkpoint.restore(old, like=make_state()), make_state())
    assert checkpoint.read_metadata(old) == {"b": 2}


def test_a_later_format_is_refused(tmp_path):
    directory = checkpoint.save(tmp_path / "x", {"a": 1}, {"b": 2})
    later = rewritten(
        directory, lambda text: json.dumps({**json.loads(text), "format": 4, "versions": {"purerl": "9"}})
    )
    with pytest.raises(checkpoint.CheckpointError, match=r"format 4, of purerl 9; this version reads formats 1, 2 and"):
        checkpoint.restore(later, like={"a": 0})


def test_small_leaves_share_an_array_and_large_ones_have_their_own(tmp_path):
    tree = {f"x{i:02d}": np.full((i, 2), i, np.float32) for i in range(40)} | {"z": np.zeros((300, 1024), np.float32)}
    written = []
    pack = checkpoint.arrays.pack
    with mock.patch.object(checkpoint.arrays, "pack", lambda *args: written.append(pack(*args)) or written[-1]):
        directory = checkpoint.save(tmp_path / "x", tree)
    assert {name: array.shape for name, array in written[0].items()} == {
        "small": (4 * 2 * sum(range(40)),), "000040": (300, 1024),
    }  # fmt: skip
    assert_same_bits(checkpoint.restore(directory, like=tree), jax.tree.map(jnp.asarray, tree))


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "[" * 100_000, '{"format": 3, "metadata": [], "leaves": {}}', "\\ud800"]
)
def test_metadata_of_something_else_are_refused(tmp_path, text):
    directory = rewritten(checkpoint.save(tmp_path / "x", {}), lambda _: text)
    with pytest.raises(checkpoint.CheckpointError, match=r"metadata\.json"):
        checkpoint.read_metadata(directory)


@pytest.mark.parametrize("kind", ["link", "loop", "pipe"])
def test_links_and_pipes_are_refused_without_being_opened(tmp_path, kind):
    directory = checkpoint.save(tmp_path / "x", {"a": 1})
    stray = directory / "arrays" / "stray"
    if kind == "pipe":
        os.mkfifo(stray)
    else:
        stray.symlink_to("/dev/zero" if kind == "link" else stray)
    with pytest.raises(checkpoint.CheckpointError, match="stray is neither a file nor a directory"):
        checkpoint.restore(directory, like={"a": 0})


def test_saving_over_something_else_is_refused(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(NotADirectoryError, match="x is not a directory"):
        checkpoint.save(tmp_path / "x", {}, overwrite=True)
    assert (tmp_path / "x").read_text() == "mine"
