"""Functions that options name: called, checked, and their errors told in one line."""

import pytest

from purerl.commands import functions
from purerl.commands.functions import FunctionError
from purerl.commands.options import UsageError


def test_a_function_is_found_and_called():
    assert functions.load("--constraint", "operator:not_", "a dict")({}) is True


@pytest.mark.parametrize("name", ["math:pi", "cmath:isclose", "operator:add"])
def test_what_cannot_be_called_with_one_argument_is_refused(name):
    with pytest.raises(UsageError, match=f"--constraint {name} must be a function of a dict"):
        functions.load("--constraint", name, "a dict")


def test_an_error_of_the_function_names_the_option_and_the_line():
    with pytest.raises(FunctionError, match=r"--constraint json:loads raised TypeError: .* \(__init__.py, line \d+\)"):
        functions.load("--constraint", "json:loads", "a dict")({})


@pytest.mark.parametrize(("name", "answer"), [("operator:truth", True), ("operator:not_", False)])
def test_a_callback_says_whether_to_end(name, answer):
    assert functions.callbacks([name], "a chunk")[0]("chunk") is answer


def test_a_callback_that_answers_with_a_number_is_an_error():
    """One that returns what it has written would end the run."""
    with pytest.raises(
        FunctionError, match="--callbacks builtins:id raised TypeError: the callback id must return True"
    ):
        functions.callbacks(["builtins:id"], "a chunk")[0]("chunk")
