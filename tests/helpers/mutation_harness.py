"""Mutations: one piece of a module's source replaced, the module executed anew, and a check that must then fail."""

import importlib
import pathlib
import sys
import types

from checking import precision

USERS = {  # the modules through which the checks reach a mutated one
    "returns.recursion": ["returns.importance_sampling", "returns.off_policy", "returns.estimators", "returns"],
    "returns.importance_sampling": ["returns"],
    "returns.off_policy": ["returns"],
    "returns.estimators": ["returns"],
    "distributions.discrete": ["distributions"],
    "distributions.gaussian": ["distributions"],
    "schedules": ["exploration.selection", "exploration.bandits", "exploration"],
    "exploration.selection": ["exploration.bandits", "exploration"],
    "exploration.bandits": ["exploration"],
    "losses.log_ratios": ["losses.preference"],
    "losses.centering": ["losses.groups"],
    "losses.ratios": ["losses.divergences"],
    "rlhf.texts": ["rlhf.policy"],
    "rlhf.columns": ["rlhf.supervised"],
}


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
    if hasattr(original, "__path__"):
        copy.__path__ = original.__path__
    sys.modules[original.__name__] = copy
    exec(compile(source, original.__file__, "exec"), copy.__dict__)
    return copy


def caught(mutant, checks):
    """Whether the mutant's check fails on it; anything but a failed assertion is an error of the mutant itself."""
    wrong = load(mutant.module, mutant.right, mutant.wrong)
    try:
        with precision("float64"):
            checks[mutant.check](wrong)
    except AssertionError:
        return True
    return False


def passes_unchanged(module, mutants, checks):
    """Run a check of a module's mutants on the module as it is: what is caught is the mistake and not the loading."""
    check = next(mutant.check for mutant in mutants if mutant.module == module)
    with precision("float64"):
        checks[check](load(module))


def row(mutant, seen):
    return f"| purerl.{mutant.module} | {mutant.mistake} | check_{mutant.check} | {'caught' if seen else 'MISSED'} |"


def write(path, mutants, checks):
    """Run all and write the table to `path`."""
    rows = [row(mutant, caught(mutant, checks)) for mutant in mutants]
    count = sum(line.endswith("| caught |") for line in rows)
    head = (
        f"# Mutation check\n\n{count} of {len(rows)} mistakes caught, each by the check named beside it, in float64.\n"
    )
    table = ["| module | mistake | check | result |", "|---|---|---|---|", *rows]
    path.write_text("\n".join([head, *table]) + "\n")


def assert_recorded(path, mutants):
    """The recorded table lists these mutants, once each, and none was missed."""
    assert len({mutant[:4] for mutant in mutants}) == len(mutants)
    recorded = [line.split(" | ")[1:3] for line in path.read_text().splitlines() if line.startswith("| purerl.")]
    assert recorded == [row(mutant, True).split(" | ")[1:3] for mutant in mutants]
    assert "MISSED" not in path.read_text()
