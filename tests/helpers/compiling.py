"""Set how tests compile; to be imported before JAX.

Their programs are small, so most of the time goes to compiling. Less optimized programs compile in half the time, and
the persistent cache lets the workers and later runs share them.
"""

import functools
import gc
import os
import pathlib
import tempfile
from importlib import metadata

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


def share_one_context() -> None:
    """Lower all programs in one context of MLIR; to be called once JAX is imported.

    JAX makes a new one for each, which takes a quarter of the time of a small program; tests have tens of thousands.
    """
    from jax._src.interpreters import mlir

    mlir.make_ir_context = functools.cache(mlir.make_ir_context)


def unload() -> None:
    """Forget all programs, and the context that has their constants."""
    import jax
    from jax._src.interpreters import mlir

    jax.clear_caches()
    mlir.make_ir_context.cache_clear()
    gc.collect()
