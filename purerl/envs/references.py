"""Objects of the user by name: `module:function`, as in `--agent policy_loss=my_losses:clipped`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from purerl.hparams import suggestion

TRUSTED_VARIABLE = "PURERL_TRUSTED_MODULES"
_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_reference(value: Any) -> bool:
    """Whether a value is a text of the form `module:name`.

    Examples:
      >>> is_reference("my_losses:clipped"), is_reference("relu"), is_reference(3)
      (True, False, False)
    """
    return isinstance(value, str) and bool(_PATTERN.fullmatch(value))


def load(reference: str) -> Any:
    """The object that `module:name` names. Modules of the working directory are found too.

    Nothing but the import of the module and the look-up of the name is executed.

    Raises:
      ValueError: it is not of this form, or the module cannot be imported or has no such name.

    Examples:
      >>> load("math:sqrt")(4.0)
      2.0
    """
    if not is_reference(reference):
        raise ValueError(f"{reference!r} is not of the form module:function")
    module_name, _, path = reference.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{reference}: cannot import {module_name} ({error}), searched from {here}") from error
    except Exception as error:  # of the module's own code
        raise ValueError(f"{reference}: importing {module_name} raised {type(error).__name__}: {error}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            known = [other for other in dir(found) if not other.startswith("_")]
            raise ValueError(f"{reference}: {module_name} has no {name!r}{suggestion(name, known)}")
        found = getattr(found, name)
    return found


def check_saved(data: Any) -> None:
    """Reject data read from a file if a `module:name` in it could run somebody else's code, such as `os:system`.

    A saved policy names the functions that make its environment and losses, and using it calls them. Modules of the
    user are called: those that are neither part of Python nor installed, nor of purerl. Others must be listed in the
    environment variable `PURERL_TRUSTED_MODULES`, as `my_lab,envs_of_others`.

    Raises:
      ValueError: names the reference, and says what to do.

    Examples:
      >>> check_saved({"env": "CartPole-v1", "agent": {"num_epochs": 4}})
      >>> check_saved({"env": "os:system"})
      Traceback (most recent call last):
      ValueError: the file names os:system, whose module os is not yours; if you trust it, set PURERL_TRUSTED_MODULES=os
    """
    for reference in _references(data):
        module = reference.partition(":")[0].partition(".")[0]
        owners = [module]
        if _is_own(module):  # only now is it safe to import; `my_module:os.system` is not the user's either
            owners.append(str(getattr(load(reference), "__module__", None)).partition(".")[0])
        for owner in owners:
            if not _is_own(owner):
                raise ValueError(
                    f"the file names {reference}, whose module {owner} is not yours; if you trust it, "
                    f"set {TRUSTED_VARIABLE}={owner}"
                )


def _references(data: Any) -> Iterator[str]:
    if is_reference(data):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _references(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _references(value)


def _is_own(module: str) -> bool:
    """Whether a top-level module is the user's, or trusted."""
    if module in os.environ.get(TRUSTED_VARIABLE, "").split(","):
        return True
    if module in sys.builtin_module_names or module in sys.stdlib_module_names or module == "purerl":
        return False
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return True  # `load` says that it does not exist
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places = [*(spec.submodule_search_locations or []), *([spec.origin] if spec.origin else [])]
    return not any(Path(place).is_relative_to(folder) for place in places for folder in installed)


def loaded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every `module:name` replaced by the object that it names."""
    return {name: load(value) if is_reference(value) else value for name, value in settings.items()}
