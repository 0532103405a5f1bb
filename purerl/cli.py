"""The `purerl` command: parse, run, and say in one line what is wrong.

Exit codes: 0; 1 for an error while running; 2 for a command line that cannot be done; 130 when interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import operator
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from purerl.commands import config_file
from purerl.commands.options import UsageError
from purerl.runtime import num_cores

_COMMANDS = ("train", "sweep", "evaluate", "report", "envs", "solve", "rlhf")
_CACHE_VARIABLE = "PURERL_COMPILE_CACHE"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; leaves by `SystemExit` unless all went well."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    modules = _modules()
    _refuse_repeats(arguments)
    try:
        arguments = config_file.expand(arguments)
    except UsageError as error:
        _leave(arguments[0], str(error), 2)
    parsed = tyro.cli(
        _schema(modules),
        prog="purerl",
        description="Reinforcement learning as pure functions: train, search and evaluate agents.",
        args=arguments,
        config=(
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.CascadeSubcommandArgs,
        ),
    )
    name = next(name for name, module in modules.items() if type(parsed.command) is module.Options)
    _use_compile_cache(parsed.compile_cache)
    _use_all_cores()
    try:
        modules[name].run(parsed.command)
    except UsageError as error:
        _leave(name, str(error), 2)
    except KeyboardInterrupt:
        _leave(name, "interrupted", 130)
    except Exception as error:
        if type(error).__name__ != "CheckpointError":
            raise
        _leave(name, str(error), 1)


def _refuse_repeats(arguments: list[str]) -> None:
    """An option given twice would silently lose what came with the first one."""
    options = [text.partition("=")[0].replace("_", "-") for text in arguments if text.startswith("--")]
    repeated = [option for option in options if options.count(option) > 1]
    if repeated:
        _leave(arguments[0], f"{repeated[0]} is given more than once: write all of it behind one {repeated[0]}", 2)


def _leave(command: str, message: str, code: int) -> None:
    print(f"purerl {command}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _modules() -> dict[str, Any]:
    """The commands that there are, by name."""
    found = {name: f"purerl.commands.{name}" for name in _COMMANDS}
    return {name: importlib.import_module(path) for name, path in found.items() if importlib.util.find_spec(path)}


def _schema(modules: dict[str, Any]) -> Any:
    """The command line as a dataclass: what all commands take, and one of their options."""
    options = [Annotated[module.Options, tyro.conf.subcommand(name)] for name, module in modules.items()]
    cache = Annotated[
        str,
        tyro.conf.arg(
            metavar="DIR|off",
            help=f"Where compiled programs are kept, or off. Also: {_CACHE_VARIABLE}.",
            help_behavior_hint=f"(default: {_short(default_cache_root())})",
        ),
    ]
    config = Annotated[
        str,
        tyro.conf.arg(metavar="FILE.toml", help="Options out of a file; what is typed wins.", help_behavior_hint=""),
    ]
    fields: list[tuple[str, Any, Any]] = [
        ("command", functools.reduce(operator.or_, options), dataclasses.field()),
        ("config", config, dataclasses.field(default="")),
        ("compile_cache", cache, dataclasses.field(default="")),
    ]
    return dataclasses.make_dataclass("Command", fields, frozen=True)


# --- The compile cache ------------------------------------------------------------------------------------------------


def default_cache_root() -> Path:
    """`PURERL_COMPILE_CACHE`, or `purerl/xla` in the user's cache directory."""
    named = os.environ.get(_CACHE_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache) / "purerl" / "xla"


def machine() -> str:
    """A name for this shape of machine: programs compiled for another one may be slower here, or not run at all."""
    features = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        wanted = ("flags", "Features", "model name")
        lines = {line for line in info.read_text(errors="replace").splitlines() if line.startswith(wanted)}
        features = "\n".join(sorted(lines))
    digest = hashlib.sha256(features.encode()).hexdigest()[:12]
    return f"{platform.system()}-{platform.machine()}-{num_cores()}cores-{digest}".lower()


def _use_compile_cache(choice: str) -> None:
    """Tell JAX, which is not imported yet, through its environment variables; they win where the user has set them."""
    root = choice or str(default_cache_root())
    if root.lower() == "off":
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(root).expanduser() / machine()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _use_all_cores() -> None:
    """Let JAX see every core as a device, so that a sweep spreads over them; a choice of the user's stands."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(num_cores()))


def _short(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home) else str(path)
