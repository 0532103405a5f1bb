"""Files of a policy that other programs read, each played against the policy itself before it is believed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export as jax_export

from purerl.export.programs import as_primitives
from purerl.export.signatures import Signature, examples, signature
from purerl.prng import is_key
from purerl.runs import Policy
from purerl.runtime import install_hint
from purerl.types import PyTree

_TOLERANCE = 1e-4


class Agreement(NamedTuple):
    """On how many observations of a rollout the exported policy acts as the original does.

    Attributes:
      same: number of actions that are equal; real ones up to 1e-4 of their scale.
      total: number of observations.
    """

    same: int
    total: int


def stablehlo(
    policy: Policy, path: str | os.PathLike[str], platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> Agreement:
    """Write the greedy policy as a StableHLO program for batches of any size; parameters are part of the program.

    After `from jax import export`, `export.deserialize(bytearray(open(path, "rb").read())).call(obs)` runs it. JAX
    promises to read such files for six months at least.

    Args:
      policy: from `purerl.load`.
      path: the file.
      platforms: that the program is for.

    Returns:
      The agreement of the program that was read back with the policy.
    """
    if importlib.util.find_spec("flatbuffers") is None:  # a dependency of purerl, which JAX itself leaves out
        raise ModuleNotFoundError("StableHLO files need flatbuffers: pip install flatbuffers")
    function = signature(policy)
    (batch,) = jax_export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct((batch, *each.shape), each.dtype) for each in function.shapes]
    exported = jax_export.export(jax.jit(function.call), platforms=list(platforms))(*shapes)
    Path(path).write_bytes(exported.serialize())
    return _agreement(policy, function, jax_export.deserialize(bytearray(Path(path).read_bytes())).call)


def onnx(policy: Policy, path: str | os.PathLike[str]) -> Agreement:
    """Write the greedy policy as an ONNX model for batches of any size, by jax2onnx.

    Args:
      policy: from `purerl.load`.
      path: the file.

    Returns:
      The agreement of the model, run by onnxruntime, with the policy.

    Raises:
      ModuleNotFoundError: jax2onnx or onnxruntime is not installed; the message says how to install them.
    """
    check_onnx()
    import jax2onnx  # it replaces functions of flax by others, which vmap cannot batch: so it is given primitives
    import onnxruntime

    function = signature(policy)
    (batch,) = jax_export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct((batch, *each.shape), each.dtype) for each in function.shapes]
    jax2onnx.to_onnx(
        as_primitives(function.call, shapes), shapes, model_name="policy", return_mode="file", output_path=str(path),
        input_names=function.inputs, output_names=function.outputs,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def call(*inputs: np.ndarray) -> Any:
        return session.run(list(function.outputs), dict(zip(function.inputs, inputs)))

    return _agreement(policy, function, call)


def check_onnx() -> None:
    """Check that `onnx` can be used.

    Raises:
      ModuleNotFoundError: jax2onnx or onnxruntime is not installed; the message says how to install them.
    """
    _check_installed("onnx", "jax2onnx", "onnxruntime")


def safetensors(tree: PyTree, path: str | os.PathLike[str]) -> list[str]:
    """Write the leaves of a tree, such as an agent's state, under their paths.

    Args:
      tree: arrays and numbers; random keys are left out.
      path: the file.

    Returns:
      The names of the tensors, such as "params/params/actor/Dense_0/kernel".

    Raises:
      ModuleNotFoundError: safetensors is not installed; the message says how to install it.
    """
    _check_installed("safetensors", "safetensors")
    from safetensors.numpy import save_file

    named = {name: np.asarray(leaf, order="C") for name, leaf in _named(tree) if not is_key(leaf)}
    save_file(named, str(path))
    return list(named)


def read_safetensors(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read a tree that `safetensors` wrote.

    Args:
      path: the file.
      like: the same structure; its values stand in for what the file does not hold.

    Raises:
      ModuleNotFoundError: safetensors is not installed.
      ValueError: a tensor of the file has another shape than the leaf of its name.
    """
    _check_installed("safetensors", "safetensors")
    from safetensors.numpy import load_file

    stored = load_file(str(path))
    leaves = []
    for name, leaf in _named(like):
        if name in stored and stored[name].shape != np.shape(leaf):
            raise ValueError(f"{path}: {name} has shape {stored[name].shape}, expected {np.shape(leaf)}")
        leaves.append(jax.numpy.asarray(stored[name], leaf.dtype) if name in stored else leaf)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _agreement(policy: Policy, function: Signature, call: Callable[..., Sequence[Any]]) -> Agreement:
    """Compare all outputs, memories too, on inputs as they occur."""
    same, total = 0, 0
    for inputs in examples(policy, function):
        pairs = list(zip(jax.jit(function.call)(*inputs), call(*inputs), strict=True))
        equal = np.all([_equal(np.asarray(ours), np.asarray(theirs)) for ours, theirs in pairs], axis=0)  # [B]
        same, total = same + int(equal.sum()), total + len(equal)
    return Agreement(same, total)


def _equal(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Which rows of two arrays [B, ...] are equal."""
    if ours.dtype.kind != "f":
        equal = ours == theirs
    else:
        equal = np.isclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE * max(1.0, np.abs(ours).max(initial=0.0)))
    return equal.reshape(len(equal), -1).all(axis=1)


def _check_installed(extra: str, *packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(f"this format needs {' and '.join(missing)}: {install_hint(extra)}")
