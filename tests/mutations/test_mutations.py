"""Every classic mistake, applied alone to the source and executed as a module of its own, is seen by an oracle check.

`python tests/mutations/test_mutations.py` (from the root, with tests/ on PYTHONPATH) writes the list and its result.
"""

import pathlib

import checks_distributions
import checks_exploration
import checks_losses
import checks_returns
import mutation_harness
import pytest
from mutants import MUTANTS

CHECKS = {
    name.removeprefix("check_"): check
    for module in (checks_returns, checks_losses, checks_exploration, checks_distributions)
    for name, check in vars(module).items()
    if name.startswith("check_")
}
RESULT = pathlib.Path(__file__).with_name("result.md")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.module}: {mutant.mistake}")
def test_mistake_is_caught(mutant):
    assert mutation_harness.caught(mutant, CHECKS)


@pytest.mark.parametrize("module", sorted({mutant.module for mutant in MUTANTS}))
def test_without_a_mistake_the_same_checks_pass(module):
    mutation_harness.passes_unchanged(module, MUTANTS, CHECKS)


def test_the_recorded_list_is_this_one():
    assert len(MUTANTS) >= 40
    mutation_harness.assert_recorded(RESULT, MUTANTS)


if __name__ == "__main__":
    mutation_harness.write(RESULT, MUTANTS, CHECKS)
