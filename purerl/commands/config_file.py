"""Options out of a TOML file: `purerl sweep --config search.toml`.

num_trials = 1024            # as on the command line, with _ for -
num_steps = "400k"
schedule = "halving"

[space]                      # a table for what is typed as NAME=VALUE
learning_rate = "log_uniform:1e-4,1e-2"
clip_epsilon = "choice:0.1,0.2"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from purerl.commands.options import UsageError

_OPTION = "--config"


def expand(arguments: list[str]) -> list[str]:
    """The command line with the options of the file that `--config` names; those that are typed too stay as typed.

    Raises:
      UsageError: the file is not there, is no TOML, or holds what cannot be an option.
    """
    place = next((i for i, text in enumerate(arguments) if text.partition("=")[0] == _OPTION), None)
    if place is None:
        return arguments
    _, equals, name = arguments[place].partition("=")
    used = 1 if equals else 2
    name = name if equals else next(iter(arguments[place + 1 : place + 2]), "")
    rest = arguments[:place] + arguments[place + used :]
    typed = {text.partition("=")[0].lstrip("-").replace("-", "_") for text in rest if text.startswith("--")}
    options = {option: value for option, value in _read(name).items() if option.replace("-", "_") not in typed}
    return rest + [text for option, value in options.items() for text in _as_typed(name, option, value)]


def _read(name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{_OPTION} {name}: {error.strerror or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{_OPTION} {name} is no TOML: {error}") from error


def _as_typed(name: str, option: str, value: Any) -> list[str]:
    """An option and its value, as they would be typed."""
    flag = "--" + option.replace("_", "-")
    if isinstance(value, bool):
        return [flag] if value else []
    if isinstance(value, dict):
        return [flag, *(f"{key}={_text(name, f'{option}.{key}', each)}" for key, each in _flat(value).items())]
    if isinstance(value, list):
        return [flag, *(_text(name, option, each) for each in value)]
    return [flag, _text(name, option, value)]


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
