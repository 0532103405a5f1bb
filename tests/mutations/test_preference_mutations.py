"""Every classic mistake of learning from preferences, alone in the source, is seen by an oracle check.

`python tests/mutations/test_preference_mutations.py` (from the root, with tests/ on PYTHONPATH) writes the list and its
result.
"""

import functools
import pathlib

import checks_rlhf
import mutation_harness
import pytest
from checks_preferences import CASES, check_all
from preference_mutants import MUTANTS

CHECKS = {case.name: functools.partial(check_all, case.name) for case in CASES} | {
    name.removeprefix("check_"): check for name, check in vars(checks_rlhf).items() if name.startswith("check_")
}
RESULT = pathlib.Path(__file__).with_name("preference_result.md")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.module}: {mutant.mistake}")
def test_mistake_is_caught(mutant):
    assert mutation_harness.caught(mutant, CHECKS)


@pytest.mark.parametrize("module", sorted({mutant.module for mutant in MUTANTS}))
def test_without_a_mistake_the_same_checks_pass(module):
    mutation_harness.passes_unchanged(module, MUTANTS, CHECKS)


def test_the_recorded_list_is_this_one():
    mutation_harness.assert_recorded(RESULT, MUTANTS)


if __name__ == "__main__":
    mutation_harness.write(RESULT, MUTANTS, CHECKS)
