"""Checkpoints that are written whole or not at all, and refused when a single bit of them has changed.

A checkpoint is a directory:

    SHA256SUMS      one line per file, as `sha256sum` prints it (so `sha256sum -c SHA256SUMS` checks it by hand)
    metadata.json   the caller's metadata, and the path, shape and dtype of every leaf
    arrays/         the leaves, written by orbax

Everything is written to a hidden sibling first, flushed to disk, and renamed: a directory under the final name is
complete. `latest` and `restore` ignore or reject a directory without `SHA256SUMS`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from purerl.checkpoint import arrays, manifest
from purerl.checkpoint.errors import CheckpointError
from purerl.checkpoint.manifest import MANIFEST
from purerl.prng import is_key
from purerl.types import PyTree

__all__ = ["MANIFEST", "CheckpointError", "latest", "read_metadata", "restore", "save", "save_step", "steps"]

Json: TypeAlias = Any
"""JSON data: dicts, lists, strings, numbers, booleans and None."""

_METADATA = "metadata.json"
_ARRAYS = "arrays"


def save(
    directory: str | os.PathLike[str],
    tree: PyTree,
    metadata: Mapping[str, Json] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a pytree of arrays, bit for bit, to a directory that appears whole or not at all.

    Args:
      directory: created, with its parents. The parent must allow a rename within it.
      tree: any pytree of arrays and numbers, such as a `LoopState` or an agent's state; typed keys are kept typed.
      metadata: a JSON-serialisable mapping, returned by `read_metadata`.
      overwrite: replace an existing directory, which is moved aside first and deleted last.

    Returns:
      The directory.

    Raises:
      FileExistsError: the directory exists and `overwrite` is not set.
      TypeError: the metadata cannot be written as JSON, or a NumPy leaf has a dtype that JAX would narrow.
    """
    directory = Path(os.path.abspath(directory))
    if directory.exists() and not overwrite:
        raise FileExistsError(f"{directory} already exists; pass overwrite=True to replace it")
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
      directory: the directory given to `save`.
      like: the same structure with the shape and dtype of every leaf: `jax.eval_shape` of the function that made
        the tree, or a tree of arrays, whose values are not used.

    Returns:
      The tree, bit for bit as it was saved; a leaf whose spec in `like` has a sharding is placed accordingly, and any
      other on the default device.

    Raises:
      CheckpointError: a file differs from the manifest, is missing or does not belong there (it is named), or a leaf
        has another path, shape or dtype than in `like` (it is named).
    """
    directory = Path(os.path.abspath(directory))
    metadata = _verified_metadata(directory)
    arrays.compare(directory, metadata["leaves"], arrays.describe(like))
    leaves, structure = jax.tree.flatten(like)
    specs = [arrays.spec_of(leaf) for leaf in leaves]
    stored = _read_arrays(directory / _ARRAYS, specs)
    return jax.tree.unflatten(structure, [arrays.to_device(value, spec) for value, spec in zip(stored, specs)])


def read_metadata(directory: str | os.PathLike[str]) -> dict[str, Json]:
    """The metadata given to `save`, after the same check of every file that `restore` does.

    Raises:
      CheckpointError: as in `restore`.
    """
    return _verified_metadata(Path(os.path.abspath(directory)))["metadata"]


def save_step(
    root: str | os.PathLike[str],
    step: int,
    tree: PyTree,
    metadata: Mapping[str, Json] | None = None,
    *,
    keep: int = 3,
) -> Path:
    """Save one of a series of checkpoints as `root/<step>` and delete all but the last `keep` of them.

    The remains of an interrupted save in `root` are deleted too, so only one process may write to a root.

    Args:
      root: directory of the series.
      step: non-negative number of the checkpoint; an existing one with the same number is replaced.
      tree: as in `save`.
      metadata: as in `save`.
      keep: number of checkpoints to keep, at least 1.

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
    """The newest complete checkpoint that `save_step` wrote under `root`, or None if there is none."""
    complete = steps(root)
    return complete[-1] if complete else None


# --- Writing ----------------------------------------------------------------------------------------------------------


def _write(directory: Path, tree: PyTree, metadata: dict[str, Json]) -> None:
    content = {"format": 1, "metadata": metadata, "leaves": arrays.describe(tree)}
    (directory / _METADATA).write_text(json.dumps(content, indent=1), encoding="utf-8")
    leaves = [arrays.to_host(leaf) for leaf in jax.tree.leaves(tree)]
    stored = {_name(i): leaf for i, leaf in enumerate(leaves) if leaf.size}
    if stored:
        import orbax.checkpoint as ocp

        with _checkpointer() as checkpointer:
            checkpointer.save(directory / _ARRAYS, args=ocp.args.StandardSave(stored))
    (directory / MANIFEST).write_text(manifest.text_of(manifest.digests_of(directory)), encoding="utf-8")
    _flush(directory)


def _checkpointer() -> Any:
    """Orbax's checkpointer for this process alone; by default it would wait for all processes."""
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


# --- Reading ----------------------------------------------------------------------------------------------------------


def _verified_metadata(directory: Path) -> dict[str, Json]:
    manifest.verify(directory)
    return json.loads((directory / _METADATA).read_text(encoding="utf-8"))


def _read_arrays(directory: Path, specs: list[arrays.Leaf]) -> list[np.ndarray]:
    hosts = [jax.eval_shape(jax.random.key_data, spec) if is_key(spec) else spec for spec in specs]
    empty = [np.empty(host.shape, host.dtype) for host in hosts]
    wanted = {_name(i): host for i, host in enumerate(empty) if host.size}
    if not wanted:
        return empty
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer:
        stored = checkpointer.restore(directory, args=ocp.args.StandardRestore(wanted))
    return [stored.get(_name(i), host) for i, host in enumerate(empty)]


def _name(index: int) -> str:
    return f"{index:06d}"
