"""Functions of the user's that options name by `module:function`, with errors of one line that name the option."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from purerl.commands.options import UsageError
from purerl.envs import references
from purerl.loops.chunked import call_all


class FunctionError(RuntimeError):
    """A function of the user's raised an error."""


def load(option: str, reference: str, takes: str) -> Callable[[Any], Any]:
    """A function of one argument.

    Args:
      option: where it is named, such as "--constraint".
      reference: `module:function`.
      takes: its argument in words, such as "a dict of what is searched".

    Returns:
      The function; what it raises becomes a `FunctionError`.

    Raises:
      UsageError: it does not exist, or cannot be called with one argument.
    """
    return _guarded(f"{option} {reference}", _found(option, reference, takes))


def callbacks(names: Sequence[str], takes: str) -> tuple[Callable[[Any], bool], ...]:
    """The functions that --callbacks names, which must return True, False or None; otherwise as `load`."""

    def one(name: str) -> Callable[[Any], bool]:
        function = _found("--callbacks", name, takes)
        return _guarded(f"--callbacks {name}", lambda chunk: call_all((function,), chunk))

    return tuple(map(one, names))


def _found(option: str, reference: str, takes: str) -> Callable[[Any], Any]:
    try:
        function: Callable[[Any], Any] = references.load(reference)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from error
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise UsageError(f"{option} {reference} must be a function of {takes}: {error}") from error
    except ValueError:  # a built-in function whose arguments are unknown
        pass
    return function


def _guarded(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(argument: Any) -> Any:
        try:
            return function(argument)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(last.filename)}, line {last.lineno}"
            raise FunctionError(f"{name} raised {type(error).__name__}: {error} ({place})") from error

    return call
