"""Options from a TOML file: `purerl sweep --config search.toml`.

num_trials = 1024            # as on the command line, with _ for -
num_steps = "400k"
schedule = "halving"

[space]                      # a table for what is typed as NAME=VALUE
learning_rate = "log_uniform:1e-4,1e-2"
clip_epsilon = "choice:0.1,0.2"
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from purerl.commands.options import UsageError

_OPTION = "--config"


def expand(arguments: list[str], several: Collection[str] = ()) -> list[str]:
    """The command line with the options of the file that `--config` names. What is typed wins.

    The values of an option that takes NAME=VALUE pairs are merged name by name.

    Args:
      arguments: what follows the name of the command.
      several: names of the options that take several values.

    Raises:
      UsageError: the file does not exist, is not TOML, or holds a value that cannot be an option.
    """
    place = next((i for i, text in enumerate(arguments) if text.partition("=")[0] == _OPTION), None)
    if place is None:
        return arguments
    _, equals, name = arguments[place].partition("=")
    used = 1 if equals else 2
    name = name if equals else next(iter(arguments[place + 1 : place + 2]), "")
    if not name or name.startswith("--"):
        raise UsageError(f"{_OPTION} needs a value: a TOML file")
    typed = arguments[:place] + arguments[place + used :]
    options = _read(name)
    twice = [option for option in options if "-" in option and option.replace("-", "_") in options]
    if twice:
        raise UsageError(f"{_OPTION} {name} has both {twice[0]} and {twice[0].replace('-', '_')}: leave out one")
    for option, value in options.items():
        flag = "--" + option.replace("_", "-")
        values = _as_typed(name, option, value)
        at = next((i for i, text in enumerate(typed) if text.partition("=")[0].replace("_", "-") == flag), None)
        if at is None:
            typed += [flag, *values] if values is not None else []
        elif option.replace("-", "_") in several and values:
            names = {text.partition("=")[0] for text in typed[at + 1 :] if not text.startswith("--")}
            typed[at + 1 : at + 1] = [text for text in values if text.partition("=")[0] not in names]
    return typed


def _read(name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{_OPTION} {name}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{_OPTION} {name} is not a TOML file: {error}") from error
    except RecursionError:
        raise UsageError(f"{_OPTION} {name} is nested too deeply") from None


def _as_typed(name: str, option: str, value: Any) -> list[str] | None:
    """The values of an option as they would be typed; None for a flag that is off."""
    if isinstance(value, bool):
        return [] if value else None
    if isinstance(value, dict):
        return [f"{key}={_text(name, f'{option}.{key}', each)}" for key, each in _flat(value).items()]
    if isinstance(value, list):
        return [_text(name, option, each) for each in value]
    return [_text(name, option, value)]


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"network": {"hidden": 1}}` to `{"network.hidden": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _text(name: str, option: str, value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(name, option, each) for each in value)
    if not isinstance(value, str | int | float):
        raise UsageError(f"{_OPTION} {name}: {option} = {value!r} is neither text nor a number")
    return str(value).lower() if isinstance(value, bool) else str(value)
