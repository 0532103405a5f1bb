"""Modules that a library imports only for its pictures, executed when a picture is drawn and not before."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def defer(*names: str) -> None:
    """Let each of these modules be executed at its first use rather than when it is imported.

    gymnax imports seaborn and with it pandas, `scipy.stats` and pyplot to draw two of its 26 environments, which is
    more than half of the time until the first environment is made. A module that is loaded already, or cannot be
    found, is left alone. `importlib.util.LazyLoader` would not do: it executes a module that `inspect` asks for its
    file.

    Args:
      names: full names, such as "matplotlib.pyplot"; the package around a module is imported.
    """
    for name in names:
        if name not in sys.modules:
            spec = _spec(name)
            if spec is not None:
                _place(name, spec)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:  # of the package around it
        return None


def _place(name: str, spec: ModuleSpec) -> None:
    """The module without its contents, which its `__getattr__` (PEP 562) fetches."""
    module = importlib.util.module_from_spec(spec)

    def fetch(attribute: str) -> Any:
        if attribute.startswith("__") and attribute not in ("__all__", "__version__"):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")  # a tool looks at all modules
        _execute(module, spec)
        return getattr(module, attribute)

    module.__dict__["__getattr__"] = fetch
    sys.modules[name] = module
    package, _, child = name.rpartition(".")
    if package:
        setattr(sys.modules[package], child, module)


def _execute(module: ModuleType, spec: ModuleSpec) -> None:
    del module.__dict__["__getattr__"]
    assert spec.loader is not None
    try:
        spec.loader.exec_module(module)
    except BaseException:  # as an import does: no module is left that looks whole
        del sys.modules[spec.name]
        raise
