"""Programs with their choices by platform already made, for converters that know nothing of platforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

_CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr", "checkpoint": "jaxpr",
}  # fmt: skip


def as_primitives(function: Callable[..., Any], shapes: Sequence[jax.ShapeDtypeStruct]) -> Callable[..., list[Any]]:
    """A function as plain primitives, with the branches for CPUs in place of `jax.lax.platform_dependent`.

    Calls that hold such a choice are written out, so derivatives of their own are lost: for inference only.

    Args:
      function: of arrays.
      shapes: of its arguments.

    Returns:
      A function from arrays of these shapes to the list of the results.

    Examples:
      >>> import jax.numpy as jnp
      >>> double = lambda x: jax.lax.platform_dependent(x, cpu=lambda x: 2 * x, default=lambda x: x + x)
      >>> x = jnp.ones(3)
      >>> plain = as_primitives(jax.jit(double), [x])
      >>> "platform_index" in str(jax.make_jaxpr(plain)(x)), plain(x)[0].tolist()
      (False, [2.0, 2.0, 2.0])
    """
    closed = jax.make_jaxpr(function)(*shapes)
    return (lambda *args: _run(closed, args)) if _chooses(closed.jaxpr) else jaxpr_as_fun(closed)


def _run(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
    """The results of a program, equation by equation."""
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        if equation.primitive.name == "platform_index":
            values[equation.outvars[0]] = None  # read by the choices that follow alone
        else:
            inputs = [read(atom) for atom in equation.invars]
            values.update(zip(equation.outvars, _results(equation, inputs)))
    return [read(atom) for atom in jaxpr.outvars]


def _results(equation: JaxprEqn, inputs: list[Any]) -> list[Any]:
    """The results of one equation; the input of a choice by platform, its index, is not used."""
    params, name = equation.params, equation.primitive.name
    if platforms := params.get("branches_platforms"):
        chosen = next(i for i, known in enumerate(platforms) if known is None or "cpu" in known)
        return _run(params["branches"][chosen], inputs[1:])
    if name in _CALLS and _chooses(inner := params[_CALLS[name]]):
        return _run(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), inputs)
    bound: Any = equation.primitive.get_bind_params(params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # of older and newer versions of JAX
    result = equation.primitive.bind(*functions, *inputs, **params)
    return list(result) if equation.primitive.multiple_results else [result]


def _chooses(jaxpr: Jaxpr | ClosedJaxpr) -> bool:
    """Whether a program chooses by platform, in a call within it or outside."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        inner = equation.params.get(_CALLS.get(equation.primitive.name, ""))
        if equation.primitive.name == "platform_index" or (inner is not None and _chooses(inner)):
            return True
    return False
