"""From a dataclass of options to a command-line parser with errors of one line, and from arguments to the dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator
from typing import Any, NoReturn

from purerl.commands.options import UsageError

_EVERYWHERE = "options of every command"
_NEGATIVE_NUMBER = re.compile(r"-(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[-+]?\d+)?[kmg]?|-inf|-nan", re.IGNORECASE)
"""Words that are values and not options: argparse itself knows no exponents."""


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `UsageError` instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (?:-h/)?", "", message)
        raise UsageError(message.replace(": expected one argument", " needs a value"))


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help of at most 80 columns that breaks lines between words only."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=_width())

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _wrap(text, width)


def parse(command: str, options: type, arguments: list[str]) -> Any:
    """The options of a command, and `config` and `compile_cache`, which every command takes.

    Args:
      command: its name.
      options: its dataclass.
      arguments: what follows the name on the command line.

    Returns:
      An `options`, and the choice of the compile cache.

    Raises:
      UsageError: the arguments cannot be parsed; the message names the option.
      SystemExit: after printing the help.
    """
    parser = _Parser(
        prog=f"purerl {command}", formatter_class=_Help, description=_description(options), allow_abbrev=False,
        usage=f"purerl {command} {_positional(options)}[OPTIONS]",
    )  # fmt: skip
    parser._negative_number_matcher = _NEGATIVE_NUMBER
    _add_all(parser, parser, options)
    common = parser.add_argument_group(_EVERYWHERE)
    common.add_argument("--config", metavar="FILE", help="TOML file of options; what is typed wins.")
    common.add_argument(
        "--compile-cache", metavar="DIR|off", default="",
        help="Directory of compiled programs, or off (default: the variable PURERL_COMPILE_CACHE, or "
        "~/.cache/purerl/xla).",
    )  # fmt: skip
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(_unknown(command, unknown[0], option_names(options)))
    return _build(options, vars(known)), known.compile_cache


def as_typed(options: Any, leave_out: Collection[str] = ()) -> list[str]:
    """The words that `parse` would read as these options: those that differ from their defaults.

    Args:
      options: of a command.
      leave_out: names of fields to skip.
    """
    words: list[str] = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            words += as_typed(value, leave_out)
        elif field.name not in leave_out and value != field.default:
            words += [typed(field)] * (not field.metadata.get("positional"))
            words += [] if field.metadata.get("flag") else map(str, value if isinstance(value, tuple) else [value])
    return words


def option_names(options: type) -> list[str]:
    """The options of a command as they are typed, such as --num-steps."""
    return [typed(field) for field in fields(options) if not field.metadata.get("positional")] + [
        "--config", "--compile-cache", "--help",
    ]  # fmt: skip


def several_names(options: type) -> set[str]:
    """Names of the options that take any number of values."""
    return {field.name for field in fields(options) if field.metadata.get("several")}


def fields(options: type) -> Iterator[dataclasses.Field[Any]]:
    """All options of a command, those of its groups too."""
    for field in dataclasses.fields(options):
        if dataclasses.is_dataclass(field.default_factory):
            yield from dataclasses.fields(field.default_factory)
        else:
            yield field


def _add_all(parser: argparse.ArgumentParser, where: Any, options: type) -> None:
    for field in dataclasses.fields(options):
        group = field.default_factory
        if dataclasses.is_dataclass(group):
            about = "\n".join(_wrap(inspect.getdoc(group) or "", _width() - 4))
            _add_all(parser, parser.add_argument_group(f"{field.name} options", about), group)  # type: ignore[arg-type]
        else:
            _add(where, field)


def _add(where: Any, field: dataclasses.Field[Any]) -> None:
    about = field.metadata
    if about.get("flag"):
        where.add_argument(typed(field), action="store_true", help=about["help"])
        return
    shown = f" (default: {about['shown']})" if about["shown"] else ""
    settings: dict[str, Any] = {"help": (about["help"] + shown).replace("%", "%%"), "metavar": about["metavar"]}
    settings |= {"type": _readable(about["parse"]), "default": field.default}
    if about.get("several"):
        where.add_argument(typed(field), nargs="*", **settings)
    elif about["positional"]:
        where.add_argument(field.name, nargs="?", **settings)
    elif about["optional_value"] is not None:
        where.add_argument(typed(field), nargs="?", const=about["optional_value"], **settings)
    else:
        where.add_argument(typed(field), **settings)


def _readable(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The parser with errors that argparse passes on word for word."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _build(options: type, values: dict[str, Any]) -> Any:
    made: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        if dataclasses.is_dataclass(field.default_factory):
            made[field.name] = _build(field.default_factory, values)  # type: ignore[arg-type]
        else:
            value = values[field.name]
            made[field.name] = tuple(value) if field.metadata.get("several") else value
    return options(**made)


def typed(field: dataclasses.Field[Any]) -> str:
    """An option as it is typed, such as --num-steps."""
    return "--" + field.name.replace("_", "-")


# --- Unknown options --------------------------------------------------------------------------------------------------

# Names from other libraries.
_SYNONYMS = {
    "algo": "--algorithm", "env-id": "--env", "environment": "--env", "gym-id": "--env",
    "total-timesteps": "--num-steps", "n-timesteps": "--num-steps", "timesteps": "--num-steps", "steps": "--num-steps",
    "n-envs": "--num-envs", "n-steps": "--rollout-length", "n-trials": "--num-trials", "trials": "--num-trials",
    "seeds": "--num-seeds", "tensorboard": "--log", "track": "--log", "eval-freq": "--eval-every",
    "exp-name": "--name", "n-eval-episodes": "--eval-episodes", "episodes": "--num-episodes", "out": "--output",
}  # fmt: skip
_SETTINGS = {
    "lr": "learning_rate", "gamma": "discount", "gae-lambda": "gae_lambda", "clip-coef": "clip_epsilon",
    "clip-range": "clip_epsilon", "ent-coef": "entropy_coef", "vf-coef": "value_coef", "n-epochs": "num_epochs",
    "update-epochs": "num_epochs", "batch-size": "num_minibatches",
}  # fmt: skip


def _unknown(command: str, text: str, known: list[str]) -> str:
    """The error about an argument that no option takes, and what to write instead."""
    if not text.startswith("-"):
        return f"unexpected argument {text!r}"
    name = text.partition("=")[0]
    bare = name.lstrip("-").replace("_", "-").lower()
    if _SYNONYMS.get(bare) in known:
        return f"unknown option {name}; did you mean {_SYNONYMS[bare]}?"
    if "--hparams" in known and (option := _setting(_SETTINGS.get(bare, bare.replace("-", "_")))):
        setting = _SETTINGS.get(bare, bare.replace("-", "_"))
        return f"unknown option {name}; {setting} is set with --{option} {setting}=VALUE"
    others = [other for other in ("train", "sweep", "evaluate") if name in option_names(_options_of(other))]
    if others:
        return f"{name} is an option of purerl {others[0]}, not of purerl {command}"
    near = difflib.get_close_matches(f"--{bare}", known, n=2, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else "--help lists all options"
    return f"unknown option {name}; {hint}"


def _options_of(command: str) -> type:
    return importlib.import_module(f"purerl.commands.options.{command}").Options


def _setting(name: str) -> str | None:
    """The option that sets a hyperparameter, a setting of an algorithm or of a network; None for another name."""
    from purerl import presets

    for entry in presets.ALGORITHMS.values():
        if name in entry.hparams()._fields:  # type: ignore[attr-defined]
            return "hparams"
        for preset in entry.presets.values():
            if name in preset.agent:
                return "agent"
    return "network" if name in ("hidden", "activation") else None


# --- Help -------------------------------------------------------------------------------------------------------------


def overview(commands: dict[str, str], examples: tuple[str, ...], description: str) -> str:
    """The help of `purerl` itself."""
    rows = [
        textwrap.indent("\n".join(_wrap(text, _width() - 13)), " " * 13).replace(" " * 13, f"  {name:<11}", 1)
        for name, text in commands.items()
    ]
    parts = [
        "usage: purerl COMMAND [OPTIONS]",
        description,
        _block("examples", examples),
        "commands:\n" + "\n".join(rows),
    ]
    parts.append("options:\n  -h, --help   show this help; purerl COMMAND --help shows that of a command")
    return "\n\n".join(parts) + "\n  --version    show the version\n"


def _description(options: type) -> str:
    """The docstring of the options, with the examples after its first paragraph."""
    first, *rest = (inspect.getdoc(options) or "").split("\n\n")
    examples = _block("examples", options.EXAMPLES)  # type: ignore[attr-defined]
    return "\n\n".join([_paragraph(first), examples, *map(_paragraph, rest)])


def _block(title: str, lines: tuple[str, ...]) -> str:
    return f"{title}:\n" + "\n".join(f"  {line}" for line in lines)


def _paragraph(text: str) -> str:
    """A paragraph of running text; lines such as `name: explanation` stay apart."""
    lines = text.split("\n")
    listed = all(re.match(r"[a-z_]+: ", line) for line in lines)
    return "\n".join("\n".join(_wrap(part, _width())) for part in (lines if listed else [" ".join(lines)]))


def _positional(options: type) -> str:
    """The arguments without a name, as the usage shows them; in brackets if they can be left out."""
    wanted = [field for field in fields(options) if field.metadata.get("positional")]
    names = [field.metadata["metavar"] for field in wanted]
    return "".join(f"{name} " if field.default == "" else f"[{name}] " for name, field in zip(names, wanted))


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


def _width() -> int:
    return max(40, min(80, shutil.get_terminal_size().columns))
