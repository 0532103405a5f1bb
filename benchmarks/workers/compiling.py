"""A function compiled ahead of its first run, and the compiler's account of it; for every side that uses JAX."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import checkout  # noqa: F401  isort: skip
import jax

Run = Callable[[int], Any]


def compiled(function: Callable[..., Any], arguments: Callable[[int], tuple[Any, ...]]) -> tuple[Run, dict[str, float]]:
    """The function as a run with a seed, which waits for its end, and what the compiler says of it."""
    first = arguments(0)
    begin = time.perf_counter()
    program = jax.jit(function).lower(*first).compile()
    seconds = time.perf_counter() - begin
    memory = program.memory_analysis()
    facts = {
        "compile_seconds": seconds,
        "temporary_bytes": float(memory.temp_size_in_bytes),
        **_work(program.as_text()),
    }
    return lambda seed: jax.block_until_ready(program(*arguments(seed))), facts


def _work(optimized: str) -> dict[str, float]:
    """Operations of the matrix products and convolutions in a run, and this machine's rate of products.

    A checkout that is measured beside this one may be older than the modules that tell; then nothing is told.
    """
    try:
        from purerl.accelerators import work
        from purerl.accelerators.peak import peak_rate
    except ImportError:
        return {}
    return {"operations": work.operations(optimized), "peak_rate": peak_rate()}
