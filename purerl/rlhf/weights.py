"""Weights to and from safetensors files, the format in which models are exchanged.

A file is a little-endian uint64 n, n bytes of JSON {name: {dtype, shape, data_offsets}, "__metadata__": {...}}, and the
tensors' bytes. Files written here carry the SHA-256 of those bytes in their metadata, because the format itself would
load a flipped bit silently; files without it load unchecked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.types import Params, PyTree

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip
_NAMES = {name: code for code, name in _DTYPES.items()}
_LARGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it
_CHUNK = 1 << 24


def save_weights(path: str | os.PathLike[str], params: Params) -> None:
    """Write a pytree of arrays; the name of a leaf is its path, joined by dots: `params.blocks_0.qkv.kernel`.

    Raises:
      TypeError: the format does not support a leaf's dtype.
    """
    write_tensors(path, {name: np.asarray(leaf) for name, leaf in _named(params)})


def load_weights(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read a pytree back.

    Args:
      path: a safetensors file.
      like: the same structure, of arrays or of `jax.eval_shape`; its values are not used.

    Raises:
      ValueError: the file's bytes do not match its SHA-256, or a leaf is missing, unknown, or of another shape or
        dtype; it is named.
    """
    tensors = read_tensors(path)
    names = [name for name, _ in _named(like)]
    if set(names) != set(tensors):
        raise ValueError(
            f"{os.fspath(path)}: missing {sorted(set(names) - set(tensors))}, unknown "
            f"{sorted(set(tensors) - set(names))}"
        )
    leaves = []
    for name, leaf in _named(like):
        found = tensors[name]
        if found.shape != tuple(leaf.shape) or found.dtype.name != jnp.dtype(leaf.dtype).name:
            code = _NAMES[found.dtype.name]
            raise ValueError(f"{name} is {code}{list(found.shape)}, not {leaf.dtype}{list(leaf.shape)}")
        leaves.append(jnp.array(found))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name, in a file that appears whole or not at all.

    Args:
      path: the file; an existing one is replaced.
      tensors: arrays by name.
      metadata: texts by name, kept beside the checksum.

    Raises:
      TypeError: the format does not support a dtype; the array is named.
    """
    header: dict[str, Any] = {}
    digest, offset = hashlib.sha256(), 0
    for name, array in tensors.items():
        if array.dtype.name not in _NAMES:
            raise TypeError(f"{name}: safetensors does not support the dtype {array.dtype}")
        offsets = [offset, offset + array.nbytes]
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        digest.update(_bytes_of(array))
        offset += array.nbytes
    header["__metadata__"] = dict(metadata or {}) | {"sha256": digest.hexdigest()}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = Path(f"{os.fspath(path)}.incomplete-{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(_bytes_of(array))
    os.replace(temporary, path)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by name, mapped from disk and read where they are used. Nothing is unpickled.

    Raises:
      ValueError: the file is not in this format, is cut off, has a dtype that JAX lacks, or its bytes do not match its
        SHA-256.
      OSError: it cannot be read.
    """
    header, start = _read_header(Path(path))
    content = np.memmap(path, np.uint8, mode="r", offset=start) if os.path.getsize(path) > start else np.empty(0, "u1")
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict):
        raise ValueError(f"{os.fspath(path)} is not a safetensors file: its metadata are not a table")
    expected = about.get("sha256")
    if expected is not None and _digest(content) != expected:
        raise ValueError(f"{os.fspath(path)}: the bytes do not match their SHA-256: the file is damaged")
    tensors = {}
    for name, entry in header.items():
        begin, end = _offsets(path, name, entry)
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{os.fspath(path)}: {name} has the dtype {entry['dtype']}, which cannot be read")
        dtype = jnp.dtype(_DTYPES[entry["dtype"]])
        if end > content.size or end - begin != dtype.itemsize * int(np.prod(entry["shape"], dtype=np.int64)):
            raise ValueError(f"{os.fspath(path)}: the file is cut off or damaged at {name}")
        tensors[name] = content[begin:end].view(dtype).reshape(entry["shape"])
    return tensors


def _offsets(path: str | os.PathLike[str], name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor's bytes begin and end, once its dtype, shape and offsets are there and of the right kind."""
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    lists = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2
    numbers = [*shape, *offsets] if lists else []  # type: ignore[misc]
    whole = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
    if not (lists and whole and isinstance(fields.get("dtype"), str) and offsets[0] <= offsets[1]):  # type: ignore[index]
        raise ValueError(f"{os.fspath(path)}: the entry of {name} is not valid: {entry!s:.200}")
    return offsets[0], offsets[1]  # type: ignore[index]


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and the offset of the tensors."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > min(size - 8, _LARGEST_HEADER):
            kind = (
                " but a pickle or a zip file, which is not read"
                if first[:2] in (b"PK", b"\x80\x02", b"\x80\x04")
                else ""
            )
            raise ValueError(f"{path} is not a safetensors file{kind}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise ValueError(f"{path} is not a safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path} is not a safetensors file: its header is not a table of tensors")
    return header, 8 + length


def _digest(content: np.ndarray) -> str:
    digest = hashlib.sha256()
    for begin in range(0, content.size, _CHUNK):
        digest.update(_bytes_of(content[begin : begin + _CHUNK]))
    return digest.hexdigest()


def _bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of an array in row-major order, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in paths]
