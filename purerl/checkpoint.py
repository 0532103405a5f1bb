"""Checkpoints that are written whole or not at all, and refused when a single bit of them has changed.

A checkpoint is a directory:

    SHA256SUMS      one line a file, as `sha256sum` prints it (so `sha256sum -c SHA256SUMS` checks it by hand)
    metadata.json   what the caller wants to know about it, and the path, shape and dtype of every leaf
    arrays/         the leaves, written by orbax

Everything is written to a hidden sibling first, flushed to disk, and renamed: a directory under the final name is
complete. `latest` and `restore` take nothing for a checkpoint that has no `SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.prng import is_key, key_implementation
from purerl.types import PyTree

MANIFEST = "SHA256SUMS"
_METADATA = "metadata.json"
_ARRAYS = "arrays"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, incomplete, or holds something else than what was asked for."""


def save(
    directory: str | os.PathLike[str],
    tree: PyTree,
    metadata: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a pytree of arrays, bit for bit, to a directory that appears whole or not at all.

    Args:
      directory: where to; its parents are made. The parent must allow a rename within it.
      tree: any pytree of arrays and numbers, such as a `LoopState` or an agent's state; typed keys are kept typed.
      metadata: a JSON-serialisable mapping, returned by `read_metadata`.
      overwrite: replace a directory that is already there: it is moved aside first and deleted last.

    Returns:
      The directory.

    Raises:
      FileExistsError: the directory is there and `overwrite` is not set.
      TypeError: the metadata cannot be written as JSON, or a NumPy leaf has a dtype that JAX would narrow.
    """
    directory = Path(os.path.abspath(directory))
    if directory.exists() and not overwrite:
        raise FileExistsError(f"{directory} is already there; pass overwrite=True to replace it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.parent / f".{directory.name}.incomplete-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write(temporary, tree, dict(metadata or {}))
        _publish(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def restore(directory: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read a pytree back after checking every file against the manifest.

    Args:
      directory: what `save` wrote.
      like: the same structure with the shape and dtype of every leaf: `jax.eval_shape` of what made the tree, or a
        tree of arrays, whose values are not used.

    Returns:
      The tree, bit for bit as it was saved, on the default device, or where `like` has a sharding, there.

    Raises:
      CheckpointError: a file differs from the manifest, is missing or does not belong there (it is named), or a leaf
        has another path, shape or dtype than in `like` (it is named).
    """
    directory = Path(os.path.abspath(directory))
    metadata = _verified_metadata(directory)
    _compare_leaves(directory, metadata["leaves"], _describe(like))
    leaves, structure = jax.tree.flatten(like)
    specs = [_spec(leaf) for leaf in leaves]
    stored = _read_arrays(directory / _ARRAYS, specs)
    return jax.tree.unflatten(structure, [_to_device(value, spec) for value, spec in zip(stored, specs)])


def read_metadata(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata given to `save`, after the same check of every file that `restore` does.

    Raises:
      CheckpointError: as in `restore`.
    """
    return _verified_metadata(Path(os.path.abspath(directory)))["metadata"]


def save_step(
    root: str | os.PathLike[str],
    step: int,
    tree: PyTree,
    metadata: Mapping[str, Any] | None = None,
    *,
    keep: int = 3,
) -> Path:
    """Save one of a series of checkpoints as `root/<step>` and delete all but the last `keep` of them.

    What an interrupted save left behind in `root` is deleted too, so only one process may write to a root.

    Args:
      root: directory of the series.
      step: non-negative number of the checkpoint; one with the same number is replaced.
      tree: as in `save`.
      metadata: as in `save`.
      keep: how many to keep, at least 1.

    Returns:
      The directory of this checkpoint.

    Raises:
      ValueError: `step` is negative or `keep` is less than 1.
    """
    if step < 0:
        raise ValueError(f"step = {step} must not be negative")
    if keep < 1:
        raise ValueError(f"keep = {keep} must be at least 1")
    root = Path(root)
    saved = save(root / f"{step:012d}", tree, metadata, overwrite=True)
    for old in steps(root)[:-keep]:
        shutil.rmtree(old)
    for leftover in root.glob(".*.incomplete-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return saved


def steps(root: str | os.PathLike[str]) -> list[Path]:
    """The complete checkpoints that `save_step` wrote under `root`, oldest first."""
    root = Path(root)
    if not root.is_dir():
        return []
    return sorted(
        (path for path in root.iterdir() if path.name.isdecimal() and (path / MANIFEST).is_file()),
        key=lambda path: int(path.name),
    )


def latest(root: str | os.PathLike[str]) -> Path | None:
    """The newest complete checkpoint that `save_step` wrote under `root`, or None where there is none."""
    complete = steps(root)
    return complete[-1] if complete else None


# --- Writing ----------------------------------------------------------------------------------------------------------


def _write(directory: Path, tree: PyTree, metadata: dict[str, Any]) -> None:
    content = {"format": 1, "metadata": metadata, "leaves": _describe(tree)}
    (directory / _METADATA).write_text(json.dumps(content, indent=1), encoding="utf-8")
    leaves = [_to_host(leaf) for leaf in jax.tree.leaves(tree)]
    stored = {_name(i): leaf for i, leaf in enumerate(leaves) if leaf.size}
    if stored:
        import orbax.checkpoint as ocp

        with _checkpointer() as checkpointer:
            checkpointer.save(directory / _ARRAYS, args=ocp.args.StandardSave(stored))
    (directory / MANIFEST).write_text(_manifest(_digests(directory)), encoding="utf-8")
    _flush(directory)


def _checkpointer() -> Any:
    """Orbax's, for this process alone: among several it would else wait for all of them."""
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.Checkpointer(ocp.StandardCheckpointHandler())
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


def _publish(temporary: Path, directory: Path) -> None:
    replaced = directory.parent / f".{directory.name}.incomplete-replaced-{os.getpid()}"
    if directory.exists():
        os.rename(directory, replaced)
    os.rename(temporary, directory)
    _flush_one(directory.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _flush(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        _flush_one(path)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- The manifest -----------------------------------------------------------------------------------------------------


def _digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file under a directory but the manifest, by relative path."""
    digests = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_dir() or name == MANIFEST:
            continue
        with open(path, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _manifest(digests: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _verified_metadata(directory: Path) -> dict[str, Any]:
    if not (directory / MANIFEST).is_file():
        raise CheckpointError(f"{directory} is no complete checkpoint: it has no {MANIFEST}")
    actual = _digests(directory)
    written = (directory / MANIFEST).read_bytes()
    if written != _manifest(actual).encode():
        raise CheckpointError(f"{directory} is damaged: {_damage(written, actual)}")
    return json.loads((directory / _METADATA).read_text(encoding="utf-8"))


def _damage(written: bytes, actual: dict[str, str]) -> str:
    """Which file is to blame for a manifest that is not, byte for byte, the one of the files that are there."""
    lines = written.decode("utf-8", errors="replace").split("\n")
    pairs = [line.partition("  ") for line in lines if line]
    expected = {name: digest for digest, _, name in pairs}
    changed = sorted(name for name in expected.keys() & actual.keys() if expected[name] != actual[name])
    missing = sorted(expected.keys() - actual.keys())
    extra = sorted(actual.keys() - expected.keys())
    faults = [f"{name} does not match its SHA-256 in {MANIFEST}" for name in changed]
    faults += [f"{name} is listed in {MANIFEST} and missing" for name in missing]
    faults += [f"{name} is not listed in {MANIFEST}" for name in extra]
    return "; ".join(faults[:3]) or f"{MANIFEST} itself has been changed"


# --- Leaves -----------------------------------------------------------------------------------------------------------


def _name(index: int) -> str:
    return f"{index:06d}"


def _spec(leaf: Any) -> Any:
    """Shape and dtype of a leaf as JAX would hold it; a number or NumPy array takes JAX's dtype for it."""
    return leaf if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) else jax.eval_shape(jnp.asarray, leaf)


def _describe(tree: PyTree) -> list[list[str]]:
    """Path and type of every leaf, such as [".params['w']", "float32[4,64]"]."""
    described = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        spec = _spec(leaf)
        described.append([jax.tree_util.keystr(path), f"{spec.dtype}[{','.join(map(str, spec.shape))}]"])
    return described


def _compare_leaves(directory: Path, saved: list[list[str]], wanted: list[list[str]]) -> None:
    if saved == wanted:
        return
    saved_types, wanted_types = dict(saved), dict(wanted)
    for path, kind in saved:
        if path not in wanted_types:
            raise CheckpointError(f"{directory} holds {path or 'one leaf'} ({kind}), which was not asked for")
        if wanted_types[path] != kind:
            raise CheckpointError(f"{directory}: {path or 'the leaf'} is {kind}, not {wanted_types[path]}")
    for path, kind in wanted:
        if path not in saved_types:
            raise CheckpointError(f"{directory} does not hold {path or 'one leaf'} ({kind})")
    raise CheckpointError(f"{directory} holds the same leaves in another order")


def _to_host(leaf: Any) -> np.ndarray:
    host = np.asarray(jax.random.key_data(leaf) if hasattr(leaf, "dtype") and is_key(leaf) else leaf)
    if isinstance(leaf, jax.Array):
        return host
    converted = np.asarray(jnp.asarray(leaf))
    if isinstance(leaf, np.ndarray | np.generic) and converted.dtype != host.dtype:
        raise TypeError(
            f"a leaf is NumPy {host.dtype}, which JAX holds as {converted.dtype}: convert it, or enable x64"
        )
    return converted


def _read_arrays(directory: Path, specs: list[Any]) -> list[np.ndarray]:
    hosts = [jax.eval_shape(jax.random.key_data, spec) if is_key(spec) else spec for spec in specs]
    empty = [np.empty(host.shape, host.dtype) for host in hosts]
    wanted = {_name(i): host for i, host in enumerate(empty) if host.size}
    if not wanted:
        return empty
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer:
        stored = checkpointer.restore(directory, args=ocp.args.StandardRestore(wanted))
    return [stored.get(_name(i), host) for i, host in enumerate(empty)]


def _to_device(value: np.ndarray, spec: Any) -> jax.Array:
    """The saved values as an array: uncommitted, unless `spec` says where it lives."""
    array = jnp.asarray(value)
    if is_key(spec):
        array = jax.random.wrap_key_data(array, impl=key_implementation(spec))
    sharding = spec.sharding if isinstance(spec, jax.ShapeDtypeStruct) else None
    return array if sharding is None else jax.device_put(array, sharding)
