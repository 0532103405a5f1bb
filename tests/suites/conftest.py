"""Shared by the tests of suites: the table of their last result, written when RECORD_SUITES is set."""

import datetime
import importlib.metadata
import os
import pathlib

import pytest

RECORD = pathlib.Path(__file__).with_name("result.md")
ROWS = []
HEAD = """# Suites beside their own API

1,000 steps of random actions: observations, rewards, terminated and truncated are those of the suite's own functions,
and `next_obs` is the true successor. In a fresh environment with the suites installed (see `docs/suites.md`):

    pip install -e '.[suites,test]' && RECORD_SUITES=1 pytest tests/suites

and the row of dm_control in another one, with `.[dm_control,test]`. Last recorded on {date}.

| family | version | steps | terminated | truncated |
|---|---|---|---|---|
"""


@pytest.fixture
def record(request):
    """Keep a row of the table: `record(family, (terminated, truncated))`."""
    return lambda family, ends: ROWS.append((family, *map(int, ends)))


def pytest_sessionfinish(session):
    """Put the rows of this session in place of older ones: not all suites can be installed together."""
    if not ROWS or not os.environ.get("RECORD_SUITES"):
        return
    old = RECORD.read_text().splitlines() if RECORD.exists() else []
    lines = {line.split("|")[1].strip(): line for line in old if line.startswith("| ") and "family" not in line}
    for family, ended, cut in ROWS:
        lines[family] = f"| {family} | {_version(family)} | 1,000 | {ended} | {cut} |"
    today = datetime.date.today().isoformat()
    RECORD.write_text(HEAD.format(date=today) + "\n".join(lines[family] for family in sorted(lines)) + "\n")


def _version(family):
    names = {"ale": "ale-py", "dm_control": "dm-control"}
    return importlib.metadata.version(names.get(family, family))
