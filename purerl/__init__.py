"""Reinforcement learning as pure functions in JAX, from tabular methods to learning from preferences.

Names are imported on first use, so `import purerl` is instant and `from purerl.losses import dpo` loads no framework.
They are read from the stub beside this file, which type checkers and editors read too: a new name joins there alone.
"""

import ast
import importlib
from typing import Any

__version__ = "0.1.0"


def _read_stub() -> dict[str, str]:
    """The module that each public name comes from; "purerl" for the name of a module itself."""
    stub = ast.parse(__loader__.get_data(f"{__file__}i"))  # type: ignore[name-defined]
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_SOURCES = _read_stub()

__all__ = sorted(_SOURCES)


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'purerl' has no attribute {name!r}")
    if _SOURCES[name] == "purerl":
        return importlib.import_module(f"purerl.{name}")
    return getattr(importlib.import_module(_SOURCES[name]), name)


def __dir__() -> list[str]:
    return __all__
