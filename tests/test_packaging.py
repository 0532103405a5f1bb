"""The package as a user installs it: what it declares, what is in it, and what it is called."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import purerl

ROOT = Path(purerl.__file__).parents[1]
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("this is an installed package and not a checkout", allow_module_level=True)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"orbax-checkpoint": "orbax", "scikit-learn": "sklearn", "tfp-nightly": "tensorflow_probability"}
IMPORTED_AS |= {"pillow": "PIL", "mlflow-skinny": "mlflow"}


def names_of(requirements):
    """Distribution names of requirements such as `jax>=0.10,<0.12`."""
    return {re.match(r"[A-Za-z0-9_.-]+", text)[0] for text in requirements}


REQUIRED = names_of(PROJECT["dependencies"])
OPTIONAL = names_of(text for extra in PROJECT["optional-dependencies"].values() for text in extra)


def imports_of(text):
    """Top-level packages that a module imports, at its head or in a function."""
    for node in ast.walk(ast.parse(text)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (module.partition(".")[0] for module in modules)


def test_every_package_that_is_imported_is_declared():
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in REQUIRED | OPTIONAL}
    # Parts of packages that are declared under another name.
    declared |= {"mujoco_playground", "tensorboardX", "Box2D", "google", "absl", "dm_env"}
    declared |= set(sys.stdlib_module_names) | {"purerl"}
    unknown = set()
    for path in (ROOT / "purerl").rglob("*.py"):
        text = path.read_text()
        suspected = set(re.findall(r"^\s*(?:from|import) (\w+)", text, flags=re.MULTILINE)) - declared
        if suspected:  # perhaps in a docstring
            unknown |= {(name, path.name) for name in suspected & set(imports_of(text))}
    assert not unknown


def test_every_dependency_has_a_lower_bound_and_a_nightly_one_an_upper():
    assert all(">=" in text for text in PROJECT["dependencies"])
    assert all("<" in text for text in PROJECT["dependencies"] if "nightly" in text or text.startswith("jax"))


def test_the_licence_of_every_dependency_is_listed():
    listed = re.findall(r"^\| ([^|]+) \|", (ROOT / "THIRD_PARTY.md").read_text(), flags=re.MULTILINE)
    listed = {name.strip() for cell in listed for name in cell.split(",")}
    tools = names_of(PROJECT["optional-dependencies"]["test"] + PROJECT["optional-dependencies"]["docs"])
    assert {*REQUIRED, *(OPTIONAL - tools - {"purerl"})} <= listed


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["dynamic"]
    assert f"version: {purerl.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    program = "import sys; from hatchling import build; build.build_wheel(sys.argv[1]); build.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(out)], cwd=ROOT, check=True, capture_output=True, timeout=100)
    return out


def package_files():
    """What of the package belongs into it."""
    paths = [path for path in (ROOT / "purerl").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in paths}


def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"purerl-{purerl.__version__}.dist-info"
    licences = {f"{info}/licenses/LICENSE", f"{info}/licenses/THIRD_PARTY.md"}
    expected = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")} | licences
    assert names == package_files() | expected
    assert {"purerl/py.typed", "purerl/__init__.pyi"} <= names


def test_the_source_distribution_holds_the_package_and_its_documents(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    names = {member.name.partition("/")[2] for member in members}
    documents = {"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "THIRD_PARTY.md"}
    assert names == package_files() | documents | {"pyproject.toml", "PKG-INFO", ".gitignore"}
