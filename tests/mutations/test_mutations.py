"""Every classic mistake, applied alone to the source and executed as a module of its own, is seen by an oracle check.

`python tests/mutations/test_mutations.py` (from the root, with tests/ on PYTHONPATH) writes the list and its result.
"""

import importlib
import pathlib
import sys
import types

import checks_distributions
import checks_exploration
import checks_losses
import checks_returns
import pytest
from checking import precision
from mutants import MUTANTS

CHECKS = {
    name.removeprefix("check_"): check
    for module in (checks_returns, checks_losses, checks_exploration, checks_distributions)
    for name, check in vars(module).items()
    if name.startswith("check_")
}
USERS = {"_recursion": ["off_policy", "returns"], "schedules": ["exploration"]}  # through which the checks reach them
RESULT = pathlib.Path(__file__).with_name("result.md")


def load(module, right="", wrong=""):
    """A fresh copy of a module of purerl with one piece of its source replaced, as its users see it."""
    chain = [module, *USERS.get(module, [])]
    saved = {f"purerl.{name}": importlib.import_module(f"purerl.{name}") for name in chain}
    try:
        for name in chain:
            loaded = execute(saved[f"purerl.{name}"], right if name == module else "", wrong)
    finally:
        sys.modules.update(saved)
    return loaded


def execute(original, right, wrong):
    source = pathlib.Path(original.__file__).read_text()
    if right:
        assert right in source, f"{original.__name__} has no {right!r}: bring the mutant up to date"
        source = source.replace(right, wrong)
    copy = types.ModuleType(original.__name__)
    copy.__file__, copy.__package__ = original.__file__, original.__package__
    sys.modules[original.__name__] = copy
    exec(compile(source, original.__file__, "exec"), copy.__dict__)
    return copy


def caught(mutant):
    """Whether the mutant's check fails on it; anything but a failed assertion is an error of the mutant itself."""
    wrong = load(mutant.module, mutant.right, mutant.wrong)
    try:
        with precision("float64"):
            CHECKS[mutant.check](wrong)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.module}: {mutant.mistake}")
def test_mistake_is_caught(mutant):
    assert caught(mutant)


@pytest.mark.parametrize("module", sorted({mutant.module for mutant in MUTANTS}))
def test_without_a_mistake_the_same_checks_pass(module):
    """One check a module, loaded in the same way: what is caught above is the mistake and not the loading."""
    check = next(mutant.check for mutant in MUTANTS if mutant.module == module)
    with precision("float64"):
        CHECKS[check](load(module))


def test_the_recorded_list_is_this_one():
    assert len(MUTANTS) >= 40
    assert len({mutant[:4] for mutant in MUTANTS}) == len(MUTANTS)
    recorded = [line.split(" | ")[1:3] for line in RESULT.read_text().splitlines() if line.startswith("| purerl.")]
    assert recorded == [row(mutant, True).split(" | ")[1:3] for mutant in MUTANTS]
    assert "MISSED" not in RESULT.read_text()


def row(mutant, seen):
    return f"| purerl.{mutant.module} | {mutant.mistake} | check_{mutant.check} | {'caught' if seen else 'MISSED'} |"


def write():
    rows = [row(mutant, caught(mutant)) for mutant in MUTANTS]
    count = sum(line.endswith("| caught |") for line in rows)
    head = (
        f"# Mutation check\n\n{count} of {len(rows)} mistakes caught, each by the check named beside it, in float64.\n"
    )
    table = ["| module | mistake | check | result |", "|---|---|---|---|", *rows]
    RESULT.write_text("\n".join([head, *table]) + "\n")


if __name__ == "__main__":
    write()
