"""Names of training programs on the command line of the benchmark of accelerators."""

import pathlib
import subprocess
import sys

import agent_cases
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.accelerators import coverage, table
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


def test_tables_replace_what_follows_the_marker():
    page = f"text\n\n{table.MARKER}\n\n## old\n"
    filled = table.fill(page, {"H100": {"a": {"label": "ppo", "error": "does not compile"}}})
    assert filled.startswith(f"text\n\n{table.MARKER}\n\n## H100\n")
    assert "old" not in filled
    assert "| ppo | does not compile |" in filled


def _report(launches=10, temporary_bytes=1000):
    return {"h100": {"a": {"total": {"launches": launches, "waits": 0}, "temporary_bytes": temporary_bytes}}}


@pytest.mark.parametrize(
    ("now", "worse"),
    [(_report(), 0), (_report(launches=11), 1), (_report(temporary_bytes=1005), 0), (_report(temporary_bytes=1020), 1)],
    ids=["the same", "launches", "memory within the packing", "memory"],
)
def test_a_program_that_launches_or_takes_more_than_recorded_is_a_regression(now, worse):
    assert table.regressions({"reports": _report()}, now) == worse


def test_a_program_that_is_not_recorded_is_named(capsys):
    assert table.regressions({"reports": {}}, _report()) == 1
    assert "not in the record" in capsys.readouterr().out


def test_every_agent_is_a_program_of_the_coverage_once_for_each_mode():
    names = [job.name for job in coverage.jobs()]
    assert len(set(names)) == len(names)
    assert {f"{name}: {mode}" for name in agent_cases.CASES for mode in ("single", "population")} <= set(names)


@pytest.mark.slow
def test_launches_on_an_h100_are_those_of_the_record():
    """Makes an environment with the compiler at its first run. Last result: benchmarks/results/accelerators.json."""
    cases = ["ppo:CartPole-v1:64x128", "ppo:CartPole-v1:4x128:1024", "dqn:CartPole-v1", "sac:Pendulum-v1"]
    cases += ["td3:Pendulum-v1", "recurrent_ppo:CartPole-v1", "pqn:CartPole-v1"]
    command = [sys.executable, "-m", "benchmarks.accelerators", "--check", "--targets", "h100", "--cases", *cases]
    done = subprocess.run(command, cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
