"""Search spaces as they are typed: `log_uniform:1e-4,1e-2`, or `log_uniform(1e-4, 1e-2)`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from purerl import sweep
from purerl.commands.options import UsageError, parse_value
from purerl.hparams import suggestion

_KINDS: dict[str, Callable[..., Any]] = {
    "uniform": sweep.uniform,
    "log_uniform": sweep.log_uniform,
    "integers": sweep.integers,
    "choice": lambda *values: sweep.choice(values),
}


def parse_spaces(texts: Mapping[str, str]) -> dict[str, Any]:
    """Spaces and constants by hyperparameter, from their texts.

    Raises:
      UsageError: a text that is none; the message names the hyperparameter.
    """
    spaces = {}
    for name, text in texts.items():
        try:
            spaces[name] = _parse_static(text) if _is_static(name) else parse_space(text)
        except (ValueError, TypeError) as error:
            raise UsageError(f"--space {name}={text}: {error}") from error
    return spaces


def parse_space(text: str) -> Any:
    """A space, such as `uniform:0.9,1`, `choice:16,32,64` or `log_uniform:1e-4,1e-2,points=5`, or a number.

    Nothing is evaluated: names are looked up and numbers are read.

    Raises:
      ValueError: it is neither.
      TypeError: another number of arguments than the space takes.
    """
    match = re.fullmatch(r"\s*([a-z_]+)\s*(?::\s*([^()]*)|\(([^()]*)\))\s*", text)
    if not match:
        return _number(text)
    kind, arguments = match[1], match[2] if match[2] is not None else match[3]
    if kind not in _KINDS:
        raise ValueError(f"there is no space {kind!r}{suggestion(kind, _KINDS)}")
    numbers, points = [], {}
    for argument in arguments.strip().strip("[]").split(","):
        name, equals, value = argument.partition("=")
        if equals and name.strip() == "points":
            points = {"points": _number(value)}
        else:
            numbers.append(_number(argument))
    if kind != "choice" and len(numbers) != 2:
        raise ValueError(f"{kind} takes two numbers, low and high, such as {kind}:1,2")
    return _KINDS[kind](*numbers, **points)


def split_static(spaces: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spaces of hyperparameters and environment parameters, and the choices that shape the program.

    Raises:
      UsageError: one of the latter is no choice; the message names it.
    """
    static = {name: each for name, each in spaces.items() if _is_static(name)}
    for name, each in static.items():
        if not hasattr(each, "values"):
            raise UsageError(f"--space {name}: each value is a program of its own: write {name}=choice:A,B")
    return {name: each for name, each in spaces.items() if name not in static}, static


def _is_static(name: str) -> bool:
    return name in ("num_envs", "rollout_length") or name.startswith(("agent.", "network."))


def _parse_static(text: str) -> Any:
    """`choice:4,16`, or `choice:64,64|256` where values are lists."""
    kind, _, values = text.partition(":")
    if kind.strip() != "choice" or not values.strip():
        raise ValueError("each value is a program of its own: write choice:A,B, or choice:64,64|256,256 for lists")
    parts = values.split("|") if "|" in values else values.split(",")
    return sweep.choice(parse_value(part) if "|" not in values else _listed(part) for part in parts)


def _listed(text: str) -> tuple[Any, ...]:
    value = parse_value(text)
    return value if isinstance(value, tuple) else (value,)


def _number(text: str) -> Any:
    value = parse_value(text) if text.strip() else ""
    if isinstance(value, str | tuple):
        raise ValueError(f"{text.strip()!r} is no number, nor a space such as uniform:0.9,1 or choice:16,32")
    return value
