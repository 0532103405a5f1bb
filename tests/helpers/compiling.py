"""Set how tests compile; to be imported before JAX.

Their programs are small, so most of the time goes to compiling. Less optimized programs compile in half the time, and
the persistent cache lets the workers and later runs share them.
"""

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
