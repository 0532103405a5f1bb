"""The `purerl` command: parse the command line, run the command, and report in one line what is wrong.

Exit codes: 0; 1 for an error while running; 2 for a command line that cannot be carried out; 130 after Ctrl-C.

The options of a command are light to import; the command itself is imported once its options are parsed, after the
environment variables that JAX reads are set.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import purerl
from purerl import runtime
from purerl.commands import config_file, cores, parser
from purerl.commands.options import UsageError, nearest

COMMANDS = {
    "train": "train an agent, or several seeds of it, and save the policy",
    "sweep": "search hyperparameters, many agents in one compiled program",
    "evaluate": "play a saved policy",
    "watch": "see a saved policy play: a GIF, an MP4, or in the terminal",
    "export": "write a saved policy for other programs: StableHLO, ONNX, safetensors, Hugging Face Hub",
    "report": "write a finished search as one HTML page",
    "bench": "measure how fast agents train on this machine",
    "envs": "list the environments and algorithms, or the presets for one environment",
    "solve": "solve a textbook MDP exactly",
    "rlhf": "learn from preferences on a task whose true reward is known",
    "lm": "make a small language model, or complete a prompt",
    "sft": "fine-tune a language model on completions",
    "dpo": "align a language model with preferences, by DPO or another direct loss",
    "reward": "fit a reward model to preferences",
    "grpo": "reinforce a language model by a reward of its completions",
}
_EXAMPLES = ("purerl train --env CartPole-v1 --num-steps 100k", "purerl sweep --num-trials 64")
_DESCRIPTION = "Reinforcement learning as pure functions: train, search and evaluate agents."
# Errors that say all there is to say in their message.
_PLAIN_ERRORS = (OSError, MemoryError, ModuleNotFoundError, FloatingPointError)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exits by `SystemExit` unless all went well."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = _command(arguments)
    try:
        if name is None:
            return _without_command(arguments)
        arguments.remove(name)
        with warnings.catch_warnings():
            warnings.showwarning = _in_one_line
            _run(name, arguments)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except UsageError as error:
        _leave(name, str(error), 2)
    except KeyboardInterrupt:
        _leave(name, "interrupted", 130)
    except Exception as error:
        kind = type(error).__name__
        if kind == "RunError":
            _leave(name, str(error), 2)
        if not (isinstance(error, _PLAIN_ERRORS) or kind in ("CheckpointError", "FunctionError", "JaxRuntimeError")):
            raise
        _leave(name, str(error) or kind, 1)


def _command(arguments: list[str]) -> str | None:
    """The command that is called; options such as --compile-cache may precede it."""
    if not arguments or arguments[0] in ("-h", "--help", "--version"):
        return None
    candidates = arguments if arguments[0].startswith("-") else arguments[:1]
    return next((text for text in candidates if text in COMMANDS), None)


def _run(name: str, arguments: list[str]) -> None:
    options = importlib.import_module(f"purerl.commands.options.{name}").Options
    _reject_repeats(arguments)
    arguments = config_file.expand(arguments, parser.several_names(options))
    parsed, cache = parser.parse(name, options, arguments)
    runtime.use_compile_cache(cache)
    runtime.show_all_cores()
    if getattr(parsed, "plan", None):
        runtime.use_cpu_only()
    command = importlib.import_module(f"purerl.commands.{name}")
    runtime.write_programs_whole()
    cores.choose(parsed)
    command.run(parsed)


def _without_command(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(parser.overview(COMMANDS, _EXAMPLES, _DESCRIPTION))
    elif arguments[0] == "--version":
        print(f"purerl {purerl.__version__}")
    else:
        hint = nearest(arguments[0], COMMANDS) or f"; the commands are {', '.join(COMMANDS)}"
        raise UsageError(f"unknown command {arguments[0]!r}{hint}")


def _reject_repeats(arguments: list[str]) -> None:
    """An option given twice would silently lose the values of the first one."""
    options = [text.partition("=")[0].replace("_", "-") for text in arguments if text.startswith("--")]
    repeated = [option for option in options if options.count(option) > 1]
    if repeated:
        raise UsageError(f"{repeated[0]} is given more than once: write all of its values after one {repeated[0]}")


def _in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning as a sentence, without the line of code that it comes from."""
    print(f"purerl: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def _leave(name: str | None, message: str, code: int) -> None:
    print(f"purerl{f' {name}' if name else ''}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    raise SystemExit(code)
