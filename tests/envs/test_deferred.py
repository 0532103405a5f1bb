"""Modules that are executed at their first use."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from purerl.envs.deferred import defer


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one good module, one that fails, and a note of each execution."""
    folder = tmp_path / "painted"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "good.py").write_text("import painted\npainted.executed = True\n__version__ = '2'\nred = 1\n")
    (folder / "bad.py").write_text("raise OSError('no screen')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "painted"]:
        del sys.modules[name]


def test_a_module_is_executed_at_its_first_use(package):
    defer("painted.good")
    good, around = importlib.import_module("painted.good"), importlib.import_module("painted")

    assert good is around.good
    assert good.__file__.endswith("good.py")
    assert not hasattr(good, "__wrapped__")  # what tools ask of every module
    assert not hasattr(around, "executed")
    assert (good.red, around.executed, good.__version__) == (1, True, "2")
    with pytest.raises(AttributeError, match="blue"):
        _ = good.blue


def test_a_module_that_fails_is_not_left_half_done(package):
    defer("painted.bad")
    bad = importlib.import_module("painted.bad")

    with pytest.raises(OSError, match="no screen"):
        _ = bad.red
    with pytest.raises(OSError, match="no screen"):
        importlib.import_module("painted.bad")


def test_what_is_loaded_or_missing_is_left_alone(package):
    defer("sys", "painted.none", "nowhere", "nowhere.child")
    assert sys.modules["sys"] is sys
    assert not {"painted.none", "nowhere", "nowhere.child"} & set(sys.modules)


def test_an_environment_is_made_without_the_libraries_that_draw_it():
    program = "import purerl, sys; purerl.envs.make('Breakout-MinAtar'); print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
