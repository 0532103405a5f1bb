"""Weights to and from safetensors files, the format in which models are exchanged.

A file is a little-endian uint64 n, n bytes of JSON {name: {dtype, shape, data_offsets}, "__metadata__": {...}}, and the
tensors' bytes. Files written here carry the SHA-256 of those bytes in their metadata, because the format itself would
load a flipped bit silently; files without it load unchecked.
"""

from __future__ import annotations

import hashlib
import json
import os
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


def save_weights(path: str | os.PathLike[str], params: Params) -> None:
    """Write a pytree of arrays; the name of a leaf is its path, joined by dots: `params.blocks_0.qkv.kernel`.

    Raises:
      TypeError: the format does not support a leaf's dtype.
    """
    header: dict[str, Any] = {}
    parts, offset = [], 0
    for name, leaf in _named(params):
        array = np.asarray(leaf)
        if array.dtype.name not in _NAMES:
            raise TypeError(f"{name}: safetensors does not support the dtype {array.dtype}")
        data = array.tobytes()
        offsets = [offset, offset + len(data)]
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        parts.append(data)
        offset += len(data)
    content = b"".join(parts)
    header["__metadata__"] = {"sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = Path(f"{os.fspath(path)}.incomplete-{os.getpid()}")
    temporary.write_bytes(len(text).to_bytes(8, "little") + text + content)
    os.replace(temporary, path)


def load_weights(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read a pytree back.

    Args:
      path: a safetensors file.
      like: the same structure, of arrays or of `jax.eval_shape`; its values are not used.

    Raises:
      ValueError: the file's bytes do not match its SHA-256, or a leaf is missing, unknown, or of another shape or
        dtype; it is named.
    """
    raw = Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    content = raw[start:]
    expected = header.pop("__metadata__", {}).get("sha256")
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{os.fspath(path)}: the bytes do not match their SHA-256: the file is damaged")
    names = [name for name, _ in _named(like)]
    if set(names) != set(header):
        raise ValueError(
            f"{os.fspath(path)}: missing {sorted(set(names) - set(header))}, unknown {sorted(set(header) - set(names))}"
        )
    leaves = []
    for name, leaf in _named(like):
        entry = header[name]
        begin, end = entry["data_offsets"]
        if tuple(entry["shape"]) != tuple(leaf.shape) or _DTYPES.get(entry["dtype"]) != jnp.dtype(leaf.dtype).name:
            raise ValueError(f"{name} is {entry['dtype']}{entry['shape']}, not {leaf.dtype}{list(leaf.shape)}")
        leaves.append(jnp.asarray(np.frombuffer(content[begin:end], jnp.dtype(leaf.dtype)).reshape(leaf.shape)))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in paths]
