"""Set-up that all tests share."""

import gc
import os
import pathlib

import compiling  # before JAX
import pytest

import purerl
from purerl import runtime

compiling.share_one_context()
runtime.write_programs_whole()  # several workers share a cache

# Tracing makes so many objects that looking for cycles after every 700 of them takes a fifth of its time.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def cartpole():
    return purerl.envs.make("CartPole-v1")


MOST_MAPPINGS = 45_000  # of 65,530, beyond which Linux kills a process; each program is mapped into memory
MAPPINGS = pathlib.Path("/proc/self/maps")


@pytest.fixture(autouse=True, scope="module")
def _leave_as_found():
    """Unload programs once there are many, and restore the environment variables, which commands set for children.

    Unloading after every file would take a twentieth of all the time, and later files would trace and load again what
    they share with earlier ones.
    """
    found = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(found)
    if not MAPPINGS.exists() or MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        compiling.unload()


collect_ignore = ["processes", "faults"]  # programs, which set JAX up for themselves

# Files of `pytest -m quick`: nothing in them compiles an agent.
QUICK = ("exploration", "losses", "returns", "sweep/trials", "benchmarks")


def pytest_collection_modifyitems(items):
    """Mark the quick tests."""
    root = pathlib.Path(__file__).parent
    for item in items:
        place = item.path.parent.relative_to(root).as_posix() if item.path.is_relative_to(root) else ""
        if place in QUICK or item.path.name in ("test_architecture.py", "test_packing.py", "test_types.py"):
            item.add_marker("quick")
