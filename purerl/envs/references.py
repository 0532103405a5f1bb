"""Objects of the user by name: `module:function`, as in `--agent policy_loss=my_losses:clipped`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from purerl.hparams import suggestion

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
      ValueError: the module cannot be imported or has no such name.

    Examples:
      >>> load("math:sqrt")(4.0)
      2.0
    """
    module_name, _, path = reference.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{reference}: cannot import {module_name} ({error}), searched from {here}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            known = [other for other in dir(found) if not other.startswith("_")]
            raise ValueError(f"{reference}: {module_name} has no {name!r}{suggestion(name, known)}")
        found = getattr(found, name)
    return found


def loaded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every `module:name` replaced by the object that it names."""
    return {name: load(value) if is_reference(value) else value for name, value in settings.items()}
