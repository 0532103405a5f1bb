"""The options of the commands as frozen dataclasses, one module for each command. They import nothing heavy.

@dataclasses.dataclass(frozen=True)
class Options:
    num_steps: int | None = option("Environment steps.", parse=parse_count, metavar="N", shown="the preset's")
    resume: bool = flag("Resume.")
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from purerl.text import parse_count, parse_seed, parse_value

Parsed = TypeVar("Parsed")


class UsageError(ValueError):
    """A command line that cannot be carried out: one line on the terminal, exit code 2."""


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Report what the library rejects while a command is being set up as a `UsageError`."""
    try:
        yield
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        if type(error).__name__ == "CheckpointError":
            raise
        raise UsageError(str(error)) from error


def option(
    help: str,
    default: Any = None,
    *,
    parse: Callable[[str], Any] = str,
    metavar: str = "TEXT",
    shown: str | None = None,
    positional: bool = False,
    optional_value: str | None = None,
) -> Any:
    """An option with one value.

    Args:
      help: a sentence or two.
      default: value if the option is not given.
      parse: from text to value; raises `ValueError` with a message that quotes the text.
      metavar: name of the value in the help.
      shown: default as the help shows it; None: the default itself, "": nothing.
      positional: an argument without a name, which can be left out.
      optional_value: value of the bare option; None: the option needs one.
    """
    shown = (f"{default}" if default is not None else "") if shown is None else shown
    about = {"help": help, "parse": parse, "metavar": metavar, "shown": shown, "positional": positional}
    return dataclasses.field(default=default, metadata=about | {"optional_value": optional_value})


def flag(help: str) -> Any:
    """An option without a value."""
    return dataclasses.field(default=False, metadata={"help": help, "flag": True})


def several(
    help: str, default: tuple[Any, ...] = (), *, parse: Callable[[str], Any] = str, metavar: str, shown: str = ""
) -> Any:
    """An option with any number of values."""
    about = {"help": help, "parse": parse, "metavar": metavar, "shown": shown, "several": True}
    return dataclasses.field(default=default, metadata=about)


def nearest(text: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown word: the most similar known one, if there is one."""
    near = difflib.get_close_matches(text.lower(), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that accepts these words only."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}{nearest(text, choices)}")
        return text

    return parse


def parse_count_or_zero(text: str) -> int:
    """0, or a count as `parse_count` reads it."""
    return 0 if text.strip() == "0" else parse_count(text)


def parse_number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """A parser of finite numbers between two bounds, both included."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            number = float(text)
            if math.isfinite(number) and low <= number <= high:
                return number
        bounds = [f"at least {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
        raise ValueError(f"{text!r} is not a finite number" + (f" of {' and '.join(bounds)}" if bounds else ""))

    return parse


def count(help: str, default: int | None = None, *, shown: str | None = None) -> Any:
    """A positive whole number, such as 500k."""
    return option(help, default, parse=parse_count, metavar="N", shown=shown)


def seed(help: str, default: int | None = 0, *, shown: str | None = None) -> Any:
    """A random seed."""
    return option(help, default, parse=parse_seed, metavar="N", shown=shown)


def cores(shown: str) -> Any:
    """How many CPU cores one agent is computed on."""
    return option(
        "CPU cores to compute on, one or all: one is faster where minibatches have a few hundred rows.", None,
        parse=one_of("one", "all"), metavar="CORES", shown=shown,
    )  # fmt: skip


def services(what: str = "Also log", files: tuple[str, ...] = ("jsonl", "terminal")) -> Any:
    """Where metrics are logged beside metrics.csv."""
    *others, last = names = ("tensorboard", "wandb", "mlflow", *files)
    return several(
        f"{what} to {', '.join(others)} or {last}, under the names that Stable-Baselines3 uses. W&B is offline without "
        "an API key.",
        parse=one_of(*names),
        metavar="SERVICE",
    )


def _assignments(help: str) -> Any:
    return several(help, metavar="NAME=VALUE")


@dataclasses.dataclass(frozen=True)
class Setup:
    """Algorithm and environment. Anything left out comes from the preset of the algorithm for the environment."""

    algorithm: str | None = option("The algorithm; `purerl envs` lists them.", metavar="NAME", shown="ppo")
    env: str | None = option(
        "The environment; `purerl envs` lists them. Those of other libraries are family/name, such as brax/ant; "
        "module:function calls a function of yours that returns one.",
        metavar="ID",
        shown="CartPole-v1",
    )
    preset: str = option(
        "Settings for what is left out: default, or fast, which reaches the environment's threshold in the least time "
        "where there is one (PPO on CartPole-v1).",
        "default",
        parse=one_of("default", "fast"),
        metavar="PRESET",
    )
    env_settings: tuple[str, ...] = _assignments("Settings of the environment, such as size=20.")
    dataset: str | None = option(
        "Recorded steps, for the algorithms that learn from those alone; `purerl evaluate RUN --record DIR` records.",
        metavar="DIR",
    )
    num_envs: int | None = count("Parallel environments of each agent.", shown="the preset's")
    rollout_length: int | None = count("Steps in each environment between two updates.", shown="the preset's")
    hparams: tuple[str, ...] = _assignments("Hyperparameters, such as learning_rate=3e-4 gae_lambda=0.9.")
    agent: tuple[str, ...] = _assignments(
        "Other settings of the algorithm, such as num_epochs=10 num_minibatches=8. A function of yours is named by "
        "module:function, as in policy_loss=my_losses:clipped."
    )
    network: tuple[str, ...] = _assignments("Settings of the network, such as hidden=128,128 activation=relu.")
    precision: str | None = option(
        "Precision of matrix products on GPUs and TPUs: float32, tensorfloat32 or bfloat16.",
        parse=one_of("float32", "tensorfloat32", "bfloat16"),
        metavar="PRECISION",
        shown="the device's",
    )


@dataclasses.dataclass(frozen=True)
class Output:
    """Where the results are saved."""

    name: str | None = option(
        "Name of the run. Its results are saved in RUNS_DIR/NAME.",
        metavar="NAME",
        shown="the algorithm and environment",
    )
    runs_dir: str = option("Directory of all runs.", "runs", metavar="RUNS_DIR")


def parse_assignments(name: str, texts: tuple[str, ...]) -> dict[str, Any]:
    """`("a=1", "b=64,64", "c=relu")` to `{"a": 1, "b": (64, 64), "c": "relu"}`; errors as `split_assignments`."""
    return {key: parse_value(value) for key, value in split_assignments(name, texts).items()}


def split_assignments(name: str, texts: tuple[str, ...]) -> dict[str, str]:
    """`("a=1", "b=x=2")` to `{"a": "1", "b": "x=2"}`.

    Raises:
      UsageError: a text without `=`, or a name that is given twice; the message starts with the option.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key or not value.strip():
            raise UsageError(f"--{name}: {text!r} is not of the form name=value")
        if key in values:
            raise UsageError(f"--{name}: {key} is given twice")
        values[key] = value.strip()
    return values
