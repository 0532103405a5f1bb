"""The bugs planted in the search engine are those of the record, which `search_mutations.py` writes in its own time."""

import collections
import pathlib

from search_mutants import MUTANTS

import purerl

PACKAGE = pathlib.Path(purerl.__file__).parent
RESULT = pathlib.Path(__file__).with_name("search_result.md")


def test_each_bug_can_be_planted():
    sources = {}
    for mutant in MUTANTS:
        path = PACKAGE / (mutant.module.replace(".", "/") + ".py")
        source = sources.setdefault(path, path.read_text())
        assert source.count(mutant.right) == 1, f"{mutant.module}: bring {mutant.mistake!r} up to date"


def test_the_record_has_each_bug_once_and_all_were_caught():
    recorded = collections.Counter(
        tuple(line.split(" | ")[:2]) for line in RESULT.read_text().splitlines() if line.startswith("| purerl.")
    )
    assert recorded == collections.Counter((f"| purerl.{mutant.module}", mutant.mistake) for mutant in MUTANTS)
    assert "MISSED" not in RESULT.read_text()
