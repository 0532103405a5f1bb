"""`purerl bench`: figures of a small agent, and sizes that cannot be measured."""

import contextlib
import io
import json

import pytest
from commanding import fails, purerl

SMALL = ("--network", "hidden=8", "--seconds", "0.1")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The rows of 2x4 with one agent and with two, and what was printed."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        purerl("bench", "--sizes", "2x4", "--agents", "1", "2", *SMALL, "--output", str(path))
    return json.loads(path.read_text())["rows"], printed.getvalue()


def test_every_size_is_measured_with_every_number_of_agents(measured):
    rows, printed = measured
    assert [(row["num_envs"], row["rollout_length"], row["num_agents"]) for row in rows] == [(2, 4, 1), (2, 4, 2)]
    assert all(row["steps_per_second"] > 0 and row["temporary_bytes"] > 0 for row in rows)
    assert f"2x4, 2 agents: {rows[1]['steps_per_second']:,.0f} steps/s" in printed
    assert "One agent at 2x4 may be faster on one core" in printed


# CartPole, two towers 4-8 and 8-2 or 8-1. Acting takes the actor, 2 (4 8 + 8 2) = 96 operations. Values of the rollout
# and of its last successor take the critic, 80 (1 + 1 / 4); four epochs of both towers forwards, and backwards for
# weights and for the hidden layers: 4 (176 + 112 + 64 + 48).
def test_operations_are_those_of_the_matrix_products(measured):
    (row, _), _ = measured
    assert 1500 < row["operations_per_step"] < 2600


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench --sizes 64", "'64' is not of the form ENVSxSTEPS"),
        ("bench --agents 0", "'0'"),
        ("bench --output nowhere/bench.json", "there is no directory nowhere"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(capsys, line, message):
    assert message in fails(capsys, *line.split())
