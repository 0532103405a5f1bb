"""The `purerl` command in this process, and small settings for it."""

import csv
import os
from pathlib import Path
from unittest import mock

import pytest

from purerl import cli

TINY = ("--num-envs", "2", "--rollout-length", "8", "--agent", "num_epochs=1", "num_minibatches=2")
TINY += ("--network", "hidden=4,4", "--eval-episodes", "2", "--env", "CartPole-v1")


def purerl(*argv: object) -> None:
    with mock.patch.dict(os.environ):
        cli.main([str(arg) for arg in argv])


def fails(capsys, *argv: object) -> str:
    """The one line that a command line which cannot be done ends with."""
    with pytest.raises(SystemExit) as error:
        purerl(*argv)
    assert error.value.code == 2
    text = capsys.readouterr().err.strip()
    assert text.count("\n") == 0, text
    return text


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def said(capsys):
    """What was printed since the last call, in one line: sentences wrap where a path is long."""
    return " ".join(capsys.readouterr().out.split())
