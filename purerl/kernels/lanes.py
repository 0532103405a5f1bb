"""Functions of single environments, applied to a tile of them inside a kernel: every number becomes a vector of lanes.

A kernel's vectors have one lane per environment, and a GPU's kernel cannot put arrays of three numbers side by side. So
an array of shape [3] becomes three vectors [tile]: a NumPy array of objects, whose shape is the array's own. Reshapes,
slices and concatenations then move objects and cost nothing; arithmetic is done once per number of the array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from purerl.types import PyTree

Lanes: TypeAlias = np.ndarray
"""Objects: vectors [tile], or NumPy scalars that are the same in all lanes."""

_ELEMENTWISE = {
    "abs", "add", "and", "atan2", "ceil", "clamp", "convert_element_type", "cos", "cosh", "div", "eq", "exp",
    "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min",
    "mul", "ne", "neg", "not", "or", "pow", "rem", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square",
    "sub", "tan", "tanh", "xor",
}  # fmt: skip
_REDUCTIONS = {"reduce_sum": jnp.add, "reduce_max": jnp.maximum, "reduce_min": jnp.minimum}
_REDUCTIONS |= {"reduce_and": jnp.logical_and, "reduce_or": jnp.logical_or, "reduce_prod": jnp.multiply}
_CALLS = {
    "call", "checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
    "jit", "pjit", "remat", "remat2",
}  # fmt: skip
_MAX_PASSES = 256  # of a loop: every pass becomes code of the kernel


class NotElementwiseError(TypeError):
    """A function that does more than arithmetic on single numbers."""


def run(closed: ClosedJaxpr, arguments: list[Lanes]) -> list[Lanes]:
    """The results of a function of one environment, for all lanes.

    Args:
      closed: the function, by `jax.make_jaxpr`.
      arguments: its inputs, in lanes.

    Raises:
      NotElementwiseError: the function has an operation that is not arithmetic on single numbers; the message names it.
    """
    return _run(closed.jaxpr, [constant(each) for each in closed.consts], arguments)


def check(closed: ClosedJaxpr, name: str) -> None:
    """Reject a function that `run` cannot apply.

    Raises:
      NotElementwiseError: names the operations.
    """
    others = _operations(closed.jaxpr) - _ELEMENTWISE - set(_REDUCTIONS) - set(_STRUCTURE) - {"scan"}
    if others:
        raise NotElementwiseError(f"{name} is not elementwise: it needs {', '.join(sorted(others))}")


def constant(value: Any) -> Lanes:
    """A value that is the same in all lanes."""
    value = np.asarray(value)
    return _objects(list(value.reshape(-1)), value.shape)


def single(value: Any) -> Lanes:
    """A scalar whose lanes are the vector `value`."""
    return _objects([value], ())


def tree_of(lanes: list[Any], like: PyTree) -> list[Lanes]:
    """Vectors one after the other, as the leaves of a tree of shapes."""
    made, start = [], 0
    for leaf in jax.tree.leaves(like):
        made.append(_objects(lanes[start : start + leaf.size], leaf.shape))
        start += leaf.size
    return made


def _objects(values: list[Any], shape: tuple[int, ...]) -> Lanes:
    """An array of these objects, which NumPy must not look into."""
    made = np.empty(len(values), object)
    for i, value in enumerate(values):
        made[i] = value
    return made.reshape(shape)


def _operations(jaxpr: Jaxpr) -> set[str]:
    """The operations within calls and loops; a loop that is too long to be unrolled counts as one."""
    found: set[str] = set()
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, _inner(equation)
        found |= {name} if inner is None else _operations(inner.jaxpr)
        if name == "scan" and equation.params["length"] > _MAX_PASSES:
            found.add(f"a loop of {equation.params['length']} passes (at most {_MAX_PASSES})")
    return found


def _inner(equation: Any) -> Any:
    """The function that a call makes once, or a loop in every pass; None for an operation."""
    if equation.primitive.name not in _CALLS | {"scan"}:
        return None
    inner = equation.params["jaxpr"] if "jaxpr" in equation.params else equation.params["call_jaxpr"]
    return inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())


def _run(jaxpr: Jaxpr, consts: list[Lanes], arguments: list[Lanes]) -> list[Lanes]:
    values: dict[Any, Lanes] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments]))

    def read(atom: Any) -> Lanes:
        return _literal(atom) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results))
    return [read(atom) for atom in jaxpr.outvars]


def _literal(atom: Any) -> Lanes:
    return constant(np.asarray(atom.val, atom.aval.dtype))


def _apply(equation: Any, inputs: list[Lanes]) -> list[Lanes]:
    name, inner = equation.primitive.name, _inner(equation)
    if name == "scan":
        return _unrolled(inner, inputs, [var.aval.shape for var in equation.outvars], **equation.params)
    if inner is not None:
        return run(inner, inputs)
    if name in _ELEMENTWISE:
        shape = equation.outvars[0].aval.shape
        wide = [np.broadcast_to(each, shape) for each in inputs]
        return [_objects([_bind(equation, [each[i] for each in wide]) for i in np.ndindex(shape)], shape)]
    if name in _REDUCTIONS:
        if not inputs[0].size:
            return [constant(_identity(equation))]
        return [_reduced(_REDUCTIONS[name], inputs[0], equation.params["axes"])]
    if name in _STRUCTURE:
        return [_STRUCTURE[name](*inputs, **equation.params)]
    raise NotElementwiseError(f"{name} is not elementwise")


def _unrolled(
    body: ClosedJaxpr, inputs: list[Lanes], shapes: list[tuple[int, ...]], *, length: int, reverse: bool,
    num_consts: int, num_carry: int, **_: Any,
) -> list[Lanes]:  # fmt: skip
    """The results of a loop whose number of passes is known: its last carry, and rows of one entry per pass."""
    start = num_consts + num_carry
    consts, carry, rows = inputs[:num_consts], inputs[num_consts:start], inputs[start:]
    made = [np.empty(shape, object) for shape in shapes[num_carry:]]
    for i in reversed(range(length)) if reverse else range(length):
        results = run(body, [*consts, *carry, *(each[i, ...] for each in rows)])
        carry = results[:num_carry]
        for row, result in zip(made, results[num_carry:], strict=True):
            row[i, ...] = result
    return [*carry, *made]


def _bind(equation: Any, inputs: list[Any]) -> Any:
    """One operation on vectors, or on scalars that all lanes share; on constants it is done at once."""
    if all(isinstance(each, np.generic) for each in inputs):
        with jax.ensure_compile_time_eval():
            return np.asarray(equation.primitive.bind(*inputs, **equation.params))[()]
    length = next((each.shape for each in inputs if np.ndim(each)), ())
    wide = [each if np.ndim(each) or not length else jnp.full(length, each) for each in inputs]
    return equation.primitive.bind(*wide, **equation.params)


def _identity(equation: Any) -> Any:
    """The result of a reduction of no numbers."""
    like = equation.invars[0].aval
    with jax.ensure_compile_time_eval():
        return equation.primitive.bind(jnp.zeros(like.shape, like.dtype), **equation.params)


def _reduced(combine: Callable[[Any, Any], Any], x: Lanes, axes: tuple[int, ...]) -> Lanes:
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    rows = x.transpose([*kept, *axes]).reshape([x.shape[axis] for axis in kept] + [-1])
    shape = rows.shape[:-1]
    return _objects([functools.reduce(combine, rows[index]) for index in np.ndindex(shape)], shape)


def _broadcast_in_dim(x: Lanes, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...], **_: Any) -> Lanes:
    wide = [1] * len(shape)
    for axis, into in enumerate(broadcast_dimensions):
        wide[into] = x.shape[axis]
    return np.broadcast_to(x.reshape(wide), shape)


def _slice(x: Lanes, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Lanes:
    steps = strides or [1] * x.ndim
    return x[tuple(slice(*each) for each in zip(start_indices, limit_indices, steps))]


_STRUCTURE: dict[str, Callable[..., Lanes]] = {
    "copy": lambda x, **_: x,
    "stop_gradient": lambda x, **_: x,
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda *parts, dimension: np.concatenate(parts, axis=dimension),
    "reshape": lambda x, *, new_sizes, **_: x.reshape(new_sizes),
    "rev": lambda x, *, dimensions: np.flip(x, dimensions),
    "slice": _slice,
    "stack": lambda *parts, axis: np.stack(parts, axis=axis),
    "squeeze": lambda x, *, dimensions: x.squeeze(dimensions),
    "transpose": lambda x, *, permutation: x.transpose(permutation),
}
