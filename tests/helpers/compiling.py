"""Set how tests compile; to be imported before JAX.

Their programs are small, so most of the time goes to compiling. Less optimized programs compile in half the time, and
the persistent cache lets the workers and later runs share them.
"""

import functools
import gc
import os
import pathlib
import tempfile
from collections.abc import Callable
from importlib import metadata
from typing import Any

_FLAGS = ["--xla_backend_optimization_level=0"]
if metadata.version("jaxlib").startswith("0.10."):  # later versions do not know it, and end the process
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
_DEFAULTS = {
    "XLA_FLAGS": " ".join(_FLAGS),
    "JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(tempfile.gettempdir()) / "purerl-test-programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
os.environ.update({name: value for name, value in _DEFAULTS.items() if name not in os.environ})


@functools.cache
def _make_ir_context() -> Callable[[], Any]:
    from jax._src.interpreters import mlir

    return mlir.make_ir_context


@functools.cache
def _context() -> Any:
    return _make_ir_context()()


def share_one_context() -> None:
    """Lower programs in one context of MLIR; to be called once JAX is imported.

    JAX makes a new one for each, which takes a quarter of the time of a small program; tests have tens of thousands.
    A program that is lowered while another one is still gets its own.
    """
    from jax._src.interpreters import mlir
    from jaxlib.mlir import ir

    _make_ir_context()

    def make_ir_context() -> Any:
        try:
            nested = ir.Context.current is not None
        except ValueError:
            nested = False
        return _make_ir_context()() if nested else _context()

    mlir.make_ir_context = make_ir_context


def unload() -> None:
    """Forget all programs, and the context that has their constants."""
    import jax

    jax.clear_caches()
    _context.cache_clear()
    gc.collect()
