"""Programs compiled side by side. XLA compiles a program mostly on one thread, so two take little longer than one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NamedTuple

import jax

from purerl.types import PyTree


class Shapes(NamedTuple):
    """Structure, shapes and dtypes of a tree, hashable: what a program is compiled for."""

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    def tree(self) -> Any:
        """The tree of shapes and dtypes."""
        return jax.tree.unflatten(self.treedef, self.leaves)


def shapes_of(tree: PyTree) -> Shapes:
    """The shapes of a tree of arrays.

    Examples:
      >>> shapes_of({"x": jax.numpy.zeros((2, 3))}).tree()
      {'x': ShapeDtypeStruct(shape=(2, 3), dtype=float32)}
    """
    leaves, treedef = jax.tree.flatten(tree)
    types = map(jax.typeof, leaves)
    return Shapes(
        treedef, tuple(jax.ShapeDtypeStruct(each.shape, each.dtype, weak_type=each.weak_type) for each in types)
    )


@contextlib.contextmanager
def beside(lowered: jax.stages.Lowered) -> Iterator[None]:
    """Compile a program on another thread while the body traces and compiles others.

    Afterwards JAX has it: neither `lowered.compile()` nor a call of the function compiles it again. What fails is left
    to them, and they say it. It is traced on the thread of the caller, whose settings of JAX hold for it.
    Processes that compute together compile one program after the other, in one order.

    Examples:
      >>> double, half = jax.jit(lambda x: 2 * x), jax.jit(lambda x: x / 2)
      >>> with beside(double.lower(1.0)):
      ...     halved = half.lower(1.0).compile()
      >>> float(double(1.0)), float(halved(1.0))
      (2.0, 0.5)
    """
    if jax.process_count() > 1:
        with contextlib.suppress(Exception):
            lowered.compile()
        yield
        return
    with futures.ThreadPoolExecutor(1, "compile") as thread:
        thread.submit(lowered.compile)
        yield


def is_free(tree: PyTree) -> bool:
    """Whether all arrays have values, and may be on any device: what is compiled for their shapes alone fits them."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return not any(isinstance(leaf, jax.core.Tracer) or leaf.committed for leaf in leaves)
