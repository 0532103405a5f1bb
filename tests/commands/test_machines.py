"""How the processes of one command end; `tests/sweep/run/test_machines.py` starts some."""

import pytest

from purerl import distributed
from purerl.commands import machines
from purerl.commands.options import UsageError


@pytest.fixture
def waits(monkeypatch):
    """How often this process waited for the others."""
    calls = []
    monkeypatch.setattr(distributed, "initialize", lambda *address: calls.append(address))
    monkeypatch.setattr(distributed, "wait_for_all", lambda: calls.append("waited"))
    return calls


def test_a_process_ends_with_the_others(waits):
    """The main one evaluates and draws for longer, and JAX ends all that have waited for 5 minutes."""
    with machines.joined("localhost:1234,2,0"):
        assert waits == [("localhost:1234", 2, 0)]
    assert waits[1:] == ["waited"]


def test_a_mistake_of_all_processes_ends_each_by_itself(waits):
    with pytest.raises(UsageError), machines.joined("localhost:1234,2,0"):
        raise UsageError("a mistake")
    assert "waited" not in waits


def test_a_process_alone_waits_for_nobody(waits):
    with machines.joined(None):
        pass
    assert not waits
