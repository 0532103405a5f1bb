"""The rate of bare matrix products."""

from purerl.accelerators.peak import peak_rate


def test_a_core_makes_between_a_billion_and_many_trillion_operations_a_second():
    assert 1e9 < peak_rate(repeats=2) < 1e16
