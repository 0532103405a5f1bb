"""Names of training programs on the command line of the benchmark of accelerators."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.accelerators.__main__ import parse_case
from benchmarks.accelerators.cases import Case


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("ppo:CartPole-v1", Case("ppo", "CartPole-v1")),
        ("dqn:CartPole-v1::64", Case("dqn", "CartPole-v1", population=64)),
        ("ppo:CartPole-v1:4x128:64:8", Case("ppo", "CartPole-v1", 4, 128, 64, 8)),
    ],
)
def test_cases_are_read(text, case):
    assert parse_case(text) == case


def test_a_case_of_another_form_is_named():
    with pytest.raises(ValueError, match="'ppo' is not of the form ALGORITHM:ENV"):
        parse_case("ppo")
