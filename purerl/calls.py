"""Calls that stay calls in a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from jax.experimental.xla_metadata import set_xla_metadata

Result = TypeVar("Result")


def not_inlined(function: Callable[..., Result], *args: Any) -> Result:
    """A call of a function under `jax.jit` that XLA does not inline: nothing is fused across it.

    On a CPU, XLA compiles it once for all calls in a program that have the same shapes. Inlined, it would be compiled,
    and computed, again by whatever uses the result. On an accelerator each call is a kernel at least.

    Examples:
      >>> import jax
      >>> lowered = jax.jit(lambda x: not_inlined(jax.jit(jax.numpy.sin), x)).lower(1.0)
      >>> "call(" in lowered.compile().as_text()
      True
    """
    with set_xla_metadata(inlineable="false"):
        return function(*args)
