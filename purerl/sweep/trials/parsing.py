"""Search spaces as text: `log_uniform:1e-4,1e-2`, or `log_uniform(1e-4, 1e-2)`.

Nothing is evaluated as code: names are looked up and numbers are parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from purerl.hparams import suggestion
from purerl.sweep.trials import spaces
from purerl.sweep.trials.spaces import Choice, Space
from purerl.text import parse_value

_KINDS: dict[str, Callable[..., Space]] = {
    "uniform": spaces.uniform,
    "log_uniform": spaces.log_uniform,
    "integers": spaces.integers,
    "log_integers": spaces.log_integers,
    "choice": lambda *values: spaces.choice(values),
}


def parse_spaces(texts: Mapping[str, str]) -> dict[str, Any]:
    """Spaces and constants by name, from their texts.

    Raises:
      ValueError: a text that is neither; the message starts with its name.

    Examples:
      >>> list(parse_spaces({"discount": "0.9", "learning_rate": "log_uniform:1e-4,1e-2"}))
      ['discount', 'learning_rate']
    """
    parsed = {}
    for name, text in texts.items():
        try:
            parsed[name] = _parse_static(name, text) if is_static(name) else parse_space(text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}={text}: {error}") from error
    return parsed


def parse_space(text: str) -> Any:
    """A space, such as `uniform:0.9,1`, `choice:16,32,64` or `log_uniform:1e-4,1e-2,points=5`, or a number.

    `uniform:0.01,0.1 if clip_epsilon=0.2|0.3` is searched only in trials with one of these values.

    Raises:
      ValueError: the text is neither.
      TypeError: another number of arguments than the space takes.

    Examples:
      >>> parse_space("choice:16,32").values
      (16, 32)
    """
    inner, given, condition = text.partition(" if ")
    if given:
        parent, equals, values = condition.partition("=")
        if not equals or not values.strip():
            raise ValueError(f"{condition.strip()!r} is not of the form NAME=VALUE|VALUE")
        return spaces.when(parent.strip(), map(parse_value, values.split("|")), parse_space(inner))
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


def split_static(space: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Choice]]:
    """The spaces of hyperparameters and environment parameters, and the choices that shape the program.

    Raises:
      ValueError: one of the latter is not a choice; the message starts with its name.
    """
    static = {name: each for name, each in space.items() if is_static(name)}
    for name, each in static.items():
        if not isinstance(each, Choice):
            raise ValueError(f"{name}: each value is a separate program: write {name}=choice:A,B")
    return {name: each for name, each in space.items() if name not in static}, static


def is_static(name: str) -> bool:
    """Whether a name stands for a choice that shapes the program, such as `num_envs` or `network.hidden`."""
    return name in ("algorithm", "num_envs", "rollout_length") or name.startswith(("agent.", "network."))


def _parse_static(name: str, text: str) -> Choice:
    """`choice:4,16`, or `choice:64,64|256` if the values are tuples."""
    kind, _, values = text.partition(":")
    if kind.strip() != "choice" or not values.strip():
        raise ValueError("each value is a separate program: write choice:A,B, or choice:64,64|256,256 for tuples")
    tuples = "|" in values
    parts = values.split("|") if tuples else values.split(",")
    return spaces.choice(_as_tuple(part) if tuples or name == "network.hidden" else parse_value(part) for part in parts)


def _as_tuple(text: str) -> tuple[Any, ...]:
    value = parse_value(text)
    return value if isinstance(value, tuple) else (value,)


def _number(text: str) -> Any:
    value = parse_value(text) if text.strip() else ""
    if isinstance(value, str | tuple):
        raise ValueError(f"{text.strip()!r} is not a number, nor a space such as uniform:0.9,1 or choice:16,32")
    return value
