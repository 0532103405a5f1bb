"""Writes docs/functions.md, the reference of every function that research code imports, from the docstrings.

Run it from the root of the repository after changing one: `python docs/make_functions.py`.
"""

import importlib
import inspect
import pathlib
import re
from collections.abc import Callable

PAGE = pathlib.Path(__file__).with_name("functions.md")
TITLES = {
    "returns": "Returns and advantages",
    "losses": "Losses and targets",
    "exploration": "Exploration and schedules",
    "exploration.noise": "Exploration noise that lasts over steps",
    "distributions": "Action distributions",
}
INTRODUCTION = """# Functions

Each function below takes and returns arrays, and works under `jit`, `vmap` and `grad`. The entries are taken from the
docstrings, which also explain the arguments and give an example: `help(purerl.returns.gae)`. This page is written by
`docs/make_functions.py`.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name, title in TITLES.items():
        module = importlib.import_module(f"purerl.{name}")
        functions = [function for _, function in sorted(public_functions(module).items())]
        introduction = paragraphs(module.__doc__ or "")[0]
        parts.append(f"## {title}: `purerl.{name}`\n\n{introduction}\n")
        parts += [entry(name, function) for function in functions]
    return "\n".join(parts)


def public_functions(module: object) -> dict[str, Callable[..., object]]:
    """The functions of a module that are in its `__all__`, or that it defines under a public name."""
    names = getattr(module, "__all__", None)
    found = inspect.getmembers(module, inspect.isfunction)
    if names is None:
        return {n: f for n, f in found if not n.startswith("_") and f.__module__ == module.__name__}
    return {n: f for n, f in found if n in names}


def entry(module: str, function: Callable[..., object]) -> str:
    """Signature, what is computed, what is stopped and the source of one function."""
    described = paragraphs(inspect.getdoc(function) or "")
    body = [p for p in described if not re.match(r"(Args|Returns|Raises|Gradient|Source|Examples):", p)]
    facts = [f"*{p.replace(':', ':*', 1)}" for p in described if re.match(r"(Gradient|Source):", p)]
    return f"### `{module}.{signature(function)}`\n\n" + "\n\n".join(body + facts) + "\n"


def signature(function: Callable[..., object]) -> str:
    """Name, arguments and their defaults, without annotations."""
    parameters = [
        p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(function).parameters.values()
    ]
    return f"{function.__name__}{inspect.Signature(parameters)}"


def paragraphs(text: str) -> list[str]:
    """The text's paragraphs, each on one line."""
    return [" ".join(p.split()) for p in inspect.cleandoc(text).split("\n\n")]


if __name__ == "__main__":
    PAGE.write_text(page())
