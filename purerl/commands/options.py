"""Options that several commands share, and the parsing of what is typed as `name=value`."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Optional

import tyro


class UsageError(ValueError):
    """A command line that cannot be done as asked: one line on the terminal, exit code 2."""


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Report what the library refuses while a command is set up as a `UsageError`."""
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError, ModuleNotFoundError) as error:
        raise UsageError(str(error)) from error


def parse_count(text: str) -> int:
    """A whole number as people write it: 500000, 500_000, 500k, 2M or 5e5.

    Raises:
      ValueError: it is none, or not positive.
    """
    match = re.fullmatch(r"([0-9][0-9_,]*(?:\.[0-9]+)?(?:e[0-9]+)?)([kmb]?)", text.strip().lower())
    if match:
        scale = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}[match[2]]
        number = float(re.sub("[_,]", "", match[1])) * scale
        if number == int(number) and number >= 1:
            return int(number)
    raise ValueError(f"{text!r} is not a positive whole number, such as 500_000, 500k or 5e5")


def parse_seed(text: str) -> int:
    """A seed: an integer from 0 to 2³² - 1.

    Raises:
      ValueError: it is none.
    """
    if re.fullmatch(r"[0-9][0-9_]*", text.strip()) and int(text) < 2**32:
        return int(text)
    raise ValueError(f"{text!r} is not an integer from 0 to 4294967295")


def _parsed_by(parse: Callable[[str], int], metavar: str) -> Any:
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda texts: parse(texts[0]),
        is_instance=lambda value: value is None or isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


Count = Annotated[int, _parsed_by(parse_count, "N")]
Seed = Annotated[int, _parsed_by(parse_seed, "INT")]
OptionalCount = Annotated[Optional[int], _parsed_by(parse_count, "N")]  # noqa: UP045 - tyro reads it at run time
OptionalSeed = Annotated[Optional[int], _parsed_by(parse_seed, "INT")]  # noqa: UP045


def hint(text: str) -> Any:
    """What the help says in place of the default of an option that is None until a preset fills it in."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


_Names = tuple[str, ...]
_Assignments = Annotated[_Names, tyro.conf.arg(metavar="NAME=VALUE ...", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is trained. Everything left out comes from a table of settings for the algorithm and the environment."""

    algorithm: Annotated[Optional[str], tyro.conf.arg(metavar="NAME"), hint("ppo")] = None  # noqa: UP045
    """The algorithm; `purerl envs` lists them."""
    env: Annotated[Optional[str], tyro.conf.arg(metavar="ID"), hint("CartPole-v1")] = None  # noqa: UP045
    """The environment; `purerl envs` lists them."""
    env_settings: _Assignments = ()
    """What the environment is built with, such as size=20."""
    dataset: Annotated[Optional[str], tyro.conf.arg(metavar="DIR"), hint("none")] = None  # noqa: UP045
    """Recorded steps, for algorithms that learn from those alone; `purerl evaluate RUN --record DIR` writes them."""
    num_envs: Annotated[OptionalCount, hint("the table's")] = None
    """Parallel environments of each agent."""
    rollout_length: Annotated[OptionalCount, hint("the table's")] = None
    """Steps in each of them between two updates."""
    hparams: _Assignments = ()
    """Hyperparameters, such as learning_rate=3e-4 gae_lambda=0.9."""
    agent: _Assignments = ()
    """Other settings of the algorithm, such as num_epochs=10 num_minibatches=8."""
    network: _Assignments = ()
    """Settings of the network, such as hidden=128,128 activation=relu."""


@dataclasses.dataclass(frozen=True)
class Output:
    """Where the results go."""

    name: Annotated[Optional[str], tyro.conf.arg(metavar="NAME"), hint("made from what is run")] = None  # noqa: UP045
    """Name of the run: its results are in <runs-dir>/<name>/."""
    runs_dir: str = "runs"
    """Directory of all runs."""


def parse_assignments(option: str, texts: tuple[str, ...]) -> dict[str, Any]:
    """`("a=1", "b=64,64", "c=relu")` to `{"a": 1, "b": (64, 64), "c": "relu"}`; errors as `split_assignments`."""
    return {name: parse_value(value) for name, value in split_assignments(option, texts).items()}


def split_assignments(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    """`("a=1", "b=x=2")` to `{"a": "1", "b": "x=2"}`.

    Raises:
      UsageError: no `=`, or a name that is given twice; the message names the option.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or not value.strip():
            raise UsageError(f"--{option}: {text!r} is not of the form name=value")
        if name in values:
            raise UsageError(f"--{option}: {name} is given twice")
        values[name] = value.strip()
    return values


def parse_value(text: str) -> Any:
    """A bool, an integer, a number, a tuple of such (`64,64`), or else the text itself."""
    text = text.strip()
    if "," in text:
        return tuple(parse_value(part) for part in text.strip("()[]").split(",") if part.strip())
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
