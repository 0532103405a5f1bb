"""Run the tests that must see each bug of `search_mutants.py`, on a copy of the package that has it.

`python tests/mutations/search_mutations.py [WORD]` (from the root, tests/mutations on PYTHONPATH) takes minutes and
writes search_result.md; a run that was cut goes on where it stopped. With a word only the mutants whose module or
mistake has it are run, or with `unchanged` all tests of the mutants on the package as it is, which must pass: in the
copy nothing else may fail. Each runs in a fork of a process that has loaded JAX; one that loops counts as caught.
"""

import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile

from search_mutants import MUTANTS

ROOT = pathlib.Path(__file__).parents[2]
RESULT = pathlib.Path(__file__).with_name("search_result.md")
LONGEST = 240  # seconds of a processor: a machine that is busy makes no mutant look caught


def main(word=""):
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for name in ("purerl", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        _load()
        if word == "unchanged":
            checks = dict.fromkeys(each for mutant in MUTANTS for each in mutant.check.split())
            sys.exit(_status(" ".join(checks), copy, longest=10 * LONGEST))
        for mutant in MUTANTS:
            if word in f"{mutant.module} {mutant.mistake}" and not (word == "" and was_caught(mutant)):
                rows[mutant.module, mutant.mistake] = row(mutant, caught(mutant, copy))
                print(rows[mutant.module, mutant.mistake], flush=True)
                write(rows)


def caught(mutant, copy):
    """Whether one of the mutant's tests fails on it."""
    path = copy / "purerl" / (mutant.module.replace(".", "/") + ".py")
    source = path.read_text()
    assert source.count(mutant.right) == 1, f"{mutant.module} has {mutant.right!r} {source.count(mutant.right)} times"
    path.write_text(source.replace(mutant.right, mutant.wrong))
    try:
        status = _status(mutant.check, copy)
    finally:
        path.write_text(source)
    assert status in (0, 1, 2, -signal.SIGXCPU), f"{mutant.mistake}: {status}"
    return status != 0


def _status(check, copy, longest=LONGEST):
    """How a process that runs these tests in the copy ends: its exit code, or minus the number of a signal."""
    child = os.fork()
    if child == 0:
        _run_tests(check, copy, longest)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run_tests(check, copy, longest):
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (longest, longest + 60))
    os.chdir(copy)
    sys.path[:] = [str(copy), *(each for each in sys.path if pathlib.Path(each or ".").resolve() != ROOT)]
    sys.dont_write_bytecode = True
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    tests = [str(copy / ("" if each.startswith("purerl/") else "tests") / each) for each in check.split()]
    os._exit(pytest.main(["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests]))


def _load():
    """What takes long to import and is no part of the package, with the settings of tests/conftest.py."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import compiling  # noqa: F401 (before JAX)

    for name in ("chex", "jax.numpy", "matplotlib.figure", "optax", "pytest", "scipy.stats", "sklearn.ensemble"):
        __import__(name)


def was_caught(mutant):
    """Whether the record has it, so that a run that was cut goes on where it stopped; delete the record to run all."""
    return RESULT.exists() and row(mutant, True) in RESULT.read_text().splitlines()


def row(mutant, seen):
    return f"| purerl.{mutant.module} | {mutant.mistake} | {mutant.check} | {'caught' if seen else 'MISSED'} |"


def write(rows):
    """The record with these rows in place of the earlier ones; bugs that were never run are left out."""
    before = RESULT.read_text().splitlines() if RESULT.exists() else []
    earlier = {tuple(line[2:].split(" | ")[:2]): line for line in before if line.startswith("| purerl.")}
    every = [rows.get(mutant[:2], earlier.get((f"purerl.{mutant.module}", mutant.mistake))) for mutant in MUTANTS]
    every = [line for line in every if line is not None]
    count = sum(line.endswith("| caught |") for line in every)
    head = f"# Bugs planted in the search engine\n\n{count} of {len(every)} caught by the tests named beside them.\n"
    RESULT.write_text("\n".join([head, "| module | mistake | tests | result |", "|---|---|---|---|", *every]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
