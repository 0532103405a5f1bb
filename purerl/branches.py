"""Branches by the platform that a program is lowered for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Result = TypeVar("Result")

# True: whatever is traced is for CPUs alone; False: it is for any platform, whatever this process has.
_only_cpu = jax.make_user_context(default_value=None)


def dependent(*args: Any, cpu: Callable[..., Result], default: Callable[..., Result]) -> Result:
    """`jax.lax.platform_dependent`, without the branch for other platforms in a program that is for CPUs alone.

    Both branches are traced otherwise, and at every level of nested ones, which is a third of the time to trace.

    Examples:
      >>> def double(x):
      ...     return dependent(x, cpu=lambda x: 2 * x, default=lambda x: x + x)
      >>> with for_this_process():  # that of these examples has CPUs alone
      ...     print("mul" in str(jax.make_jaxpr(double)(1.0)), "add" in str(jax.make_jaxpr(double)(1.0)))
      True False
    """
    if only_cpu():
        return cpu(*args)
    return jax.lax.platform_dependent(*args, cpu=cpu, default=default)


def only_cpu() -> bool:
    """Whether what is traced now is for CPUs alone."""
    return bool(_only_cpu.value)


def for_this_process() -> contextlib.AbstractContextManager[Any]:
    """A context in which programs are for CPUs alone if this process has no other devices, as the loops trace theirs.

    They can still be lowered for another platform, and then compute what they do on a CPU; see `for_any_platform`.
    """
    if _only_cpu.value is None and jax.default_backend() == "cpu":
        return _only_cpu(True)
    return contextlib.nullcontext()


def for_any_platform() -> contextlib.AbstractContextManager[Any]:
    """A context in which programs have the branches of all platforms: for `lowering_platforms` and `jax.export`.

    Examples:
      >>> with for_any_platform(), for_this_process():
      ...     "platform_index" in str(jax.make_jaxpr(lambda x: dependent(x, cpu=abs, default=abs))(1.0))
      True
    """
    return _only_cpu(False)
