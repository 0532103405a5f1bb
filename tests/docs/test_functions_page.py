"""The reference page is what the docstrings say now, and every function there has a formula, and names its source."""

import importlib.util
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "docs" / "make_functions.py"
spec = importlib.util.spec_from_file_location("make_functions", SCRIPT)
make_functions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_functions)
FUNCTIONS = [
    function
    for name in make_functions.TITLES
    for function in make_functions.public_functions(importlib.import_module(f"purerl.{name}")).values()
]


def test_the_page_is_fresh():
    written = make_functions.PAGE.read_text()
    assert written == make_functions.page(), "run: python docs/make_functions.py"


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_docstring_is_complete(function):
    indexing = function.__module__ == "purerl.losses.sequence"  # no paper stands behind a gather
    for part in ("Args:", "Returns:") + ("Source:",) * (not indexing):
        assert part in function.__doc__, f"{function.__name__} has no {part}"
    assert set(function.__annotations__) >= set(function.__code__.co_varnames[: function.__code__.co_argcount])
