"""The leaves of a checkpoint: their paths and types, and their way to the host and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.checkpoint.errors import CheckpointError
from purerl.prng import is_key, key_implementation
from purerl.types import PyTree

Leaf: TypeAlias = Any
"""An array, a number, or the shape and dtype of an array."""

Places: TypeAlias = Mapping[str, Sequence[int]]
"""The leaves in each array of a file, by the name of the array."""

_SMALL = 1 << 20  # bytes
_SHARED = "small"


def spec_of(leaf: Leaf) -> Leaf:
    """Shape and dtype of a leaf as JAX would hold it; a number or NumPy array has JAX's dtype for it."""
    return leaf if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) else jax.eval_shape(jnp.asarray, leaf)


def describe(tree: PyTree) -> list[list[str]]:
    """Path and type of every leaf.

    Examples:
      >>> describe({"w": np.zeros((4, 64), np.float32)})
      [["['w']", 'float32[4,64]']]
    """
    described = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        spec = spec_of(leaf)
        described.append([jax.tree_util.keystr(path), f"{spec.dtype}[{','.join(map(str, spec.shape))}]"])
    return described


def compare(directory: Path, saved: list[list[str]], wanted: list[list[str]]) -> None:
    """Reject leaves that differ from those wanted; both as `describe` returns them.

    Raises:
      CheckpointError: names the first difference.
    """
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


def to_host(leaf: Leaf) -> np.ndarray:
    """A leaf as it is stored, typed keys as their data.

    Raises:
      TypeError: a NumPy leaf has a dtype that JAX would narrow.
    """
    host = np.asarray(jax.random.key_data(leaf) if hasattr(leaf, "dtype") and is_key(leaf) else leaf)
    if isinstance(leaf, jax.Array):
        return host
    converted = np.asarray(jnp.asarray(leaf))
    if isinstance(leaf, np.ndarray | np.generic) and converted.dtype != host.dtype:
        raise TypeError(
            f"a leaf is NumPy {host.dtype}, which JAX holds as {converted.dtype}: convert it, or enable x64"
        )
    return converted


def to_device(value: np.ndarray, spec: Leaf) -> jax.Array:
    """The saved values as an array: uncommitted, unless `spec` has a sharding."""
    array = jnp.asarray(value)
    if is_key(spec):
        array = jax.random.wrap_key_data(array, impl=key_implementation(spec))
    sharding = spec.sharding if isinstance(spec, jax.ShapeDtypeStruct) else None
    return array if sharding is None else jax.device_put(array, sharding)


# --- Leaves in arrays -------------------------------------------------------------------------------------------------


def places(leaves: Sequence[np.ndarray], *, together: bool) -> dict[str, list[int]]:
    """Which leaves are in which array: if `together`, the small ones share one. Leaves without elements are in none.

    Orbax takes time, and memory that it never gives back, for each array that it writes. A state has many leaves, and
    most of them are small.

    Examples:
      >>> places([np.zeros(3), np.zeros(()), np.zeros(0), np.zeros(200_000)], together=True)
      {'small': [0, 1], '000003': [3]}
    """
    found: dict[str, list[int]] = {}
    for i, leaf in enumerate(leaves):
        if leaf.size:
            found.setdefault(_SHARED if together and leaf.nbytes < _SMALL else f"{i:06d}", []).append(i)
    return found


def pack(leaves: Sequence[np.ndarray], places: Places) -> dict[str, np.ndarray]:
    """The arrays to store by name; the one that leaves share holds their bytes end to end."""
    single = {name: leaves[members[0]] for name, members in places.items() if name != _SHARED}
    return single | ({_SHARED: _joined(leaves, places[_SHARED])} if _SHARED in places else {})


def unpack(stored: Mapping[str, np.ndarray], places: Places, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The leaves, with the shapes and dtypes of those in `like`, from the arrays that `pack` made."""
    leaves = list(like)
    for name, members in places.items():
        if name != _SHARED:
            leaves[members[0]] = stored[name]
            continue
        ends = np.cumsum([like[i].nbytes for i in members])
        for i, part in zip(members, np.split(stored[name], ends[:-1])):
            leaves[i] = np.frombuffer(part.tobytes(), like[i].dtype).reshape(like[i].shape)
    return leaves


def _joined(leaves: Sequence[np.ndarray], members: Sequence[int]) -> np.ndarray:
    return np.frombuffer(b"".join(leaves[i].tobytes() for i in members), np.uint8)
