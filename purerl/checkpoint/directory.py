"""One checkpoint: a directory that is written whole or not at all, and refused when a single bit of it has changed."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata as packages
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

import purerl
from purerl import files
from purerl.checkpoint import arrays, manifest
from purerl.checkpoint.errors import CheckpointError
from purerl.checkpoint.manifest import MANIFEST
from purerl.prng import is_key
from purerl.types import PyTree

Json: TypeAlias = Any
"""JSON data: dicts, lists, strings, numbers, booleans and None."""

_METADATA = "metadata.json"
_ARRAYS = "arrays"
_FORMAT = 3
_READABLE_FORMATS = (1, 2, 3)  # 1 has no versions; 1 and 2 store every leaf by itself


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
      overwrite: replace an existing directory. At every moment one of the two is there.

    Returns:
      The directory.

    Raises:
      FileExistsError: the directory exists and `overwrite` is not set.
      NotADirectoryError: something else has its name.
      OSError: the disk is full or cannot be written; what was there before is unchanged.
      TypeError: the metadata cannot be written as JSON, or a NumPy leaf has a dtype that JAX would narrow.
    """
    directory = Path(os.path.abspath(directory))
    if directory.exists() and not overwrite:
        raise FileExistsError(f"{directory} already exists; pass overwrite=True to replace it")
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    files.sweep_leftovers(directory.parent, directory.name)
    with files.naming(directory), files.temporary_sibling(directory) as temporary:
        _write(temporary, tree, dict(metadata or {}))
        _publish(temporary, directory)
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
    directory = _present(Path(os.path.abspath(directory)))
    metadata = verified_metadata(directory)
    arrays.compare(directory, metadata["leaves"], arrays.describe(like))
    leaves, structure = jax.tree.flatten(like)
    specs = [arrays.spec_of(leaf) for leaf in leaves]
    stored = _read_arrays(directory / _ARRAYS, specs, together=metadata["format"] >= 3)
    return jax.tree.unflatten(structure, [arrays.to_device(value, spec) for value, spec in zip(stored, specs)])


def read_metadata(directory: str | os.PathLike[str]) -> dict[str, Json]:
    """The metadata given to `save`, after the same check of every file that `restore` does.

    Raises:
      CheckpointError: as in `restore`.
    """
    return verified_metadata(_present(Path(os.path.abspath(directory))))["metadata"]


# --- Writing ----------------------------------------------------------------------------------------------------------


def _write(directory: Path, tree: PyTree, metadata: dict[str, Json]) -> None:
    content = {"format": _FORMAT, "versions": _versions(), "metadata": metadata, "leaves": arrays.describe(tree)}
    (directory / _METADATA).write_text(json.dumps(content, indent=1), encoding="utf-8")
    leaves = [arrays.to_host(leaf) for leaf in jax.tree.leaves(tree)]
    if stored := arrays.pack(leaves, arrays.places(leaves, together=True)):
        import orbax.checkpoint as ocp

        try:
            with _quiet(), _checkpointer() as checkpointer:
                checkpointer.save(directory / _ARRAYS, args=ocp.args.StandardSave(stored))
        except (ValueError, RuntimeError) as error:  # what orbax and tensorstore make of a full disk
            raise OSError(f"{directory.parent}: cannot be written: {error!s:.300}") from error
    (directory / MANIFEST).write_text(manifest.text_of(manifest.digests_of(directory)), encoding="utf-8")
    _flush(directory)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs an error with its traceback before it raises it; the error is enough."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


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


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of the packages that write a checkpoint."""
    names = ("jax", "numpy", "orbax-checkpoint")
    return {"purerl": purerl.__version__} | {name: packages.version(name) for name in names}


def _publish(temporary: Path, directory: Path) -> None:
    """Give a complete directory its name. If it replaces one, at every moment one of the two can be read."""
    replaced = _replaced(directory)
    if not directory.exists():
        os.rename(temporary, directory)
    elif not files.exchange(temporary, directory):
        shutil.rmtree(replaced, ignore_errors=True)
        os.rename(directory, replaced)
        os.rename(temporary, directory)
    files.flush(directory.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _replaced(directory: Path) -> Path:
    return directory.parent / f".{directory.name}.replaced"


def _flush(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        files.flush(path)


# --- Reading ----------------------------------------------------------------------------------------------------------


def _present(directory: Path) -> Path:
    """The directory, or the one that was being replaced by it when the process died."""
    replaced = _replaced(directory)
    return replaced if not directory.exists() and replaced.exists() else directory


def verified_metadata(directory: Path) -> dict[str, Json]:
    """The content of `metadata.json`, after a check of every file against the manifest, and of the format.

    Raises:
      CheckpointError: a file differs or is missing, or this version cannot read the format.
    """
    manifest.verify(directory)
    try:
        content = json.loads((directory / _METADATA).read_text(encoding="utf-8"))
        found, kinds = content["format"], [type(content[name]) for name in ("metadata", "leaves")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{directory}: {_METADATA} is not that of a checkpoint ({error!r:.80})") from error
    if found not in _READABLE_FORMATS:
        by = content.get("versions", {}).get("purerl", "another version")
        *most, last = map(str, _READABLE_FORMATS)
        known = f"{', '.join(most)} and {last}"
        raise CheckpointError(f"{directory} has format {found!r}, of purerl {by}; this version reads formats {known}")
    if kinds != [dict, list]:
        raise CheckpointError(f"{directory}: {_METADATA} is not that of a checkpoint")
    return content


def _read_arrays(directory: Path, specs: list[arrays.Leaf], *, together: bool) -> list[np.ndarray]:
    hosts = [jax.eval_shape(jax.random.key_data, spec) if is_key(spec) else spec for spec in specs]
    empty = [np.empty(host.shape, host.dtype) for host in hosts]
    places = arrays.places(empty, together=together)
    if not places:
        return empty
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer:
        stored = checkpointer.restore(directory, args=ocp.args.StandardRestore(arrays.pack(empty, places)))
    return arrays.unpack(stored, places, empty)
