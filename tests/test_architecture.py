"""Who may import whom, and what an import costs."""

import ast
import pathlib
import subprocess
import sys
import time

import pytest

import purerl

PACKAGE = pathlib.Path(purerl.__file__).parent
STUB = PACKAGE / "__init__.pyi"

# The parts of the package that each part may import, from the bottom up. A part that is missing may import none.
BASE = {
    "ahead",
    "branches",
    "calls",
    "files",
    "hparams",
    "numerics",
    "once",
    "orthonormal",
    "packing",
    "prng",
    "reductions",
    "runtime",
    "spaces",
    "text",
    "types",
}
PIECES = {"distributions", "exploration", "losses", "mdp", "networks", "replay", "returns", "schedules"}
ALLOWED = {
    "ahead": {"types"},
    "types": {"hparams", "spaces"},
    "hparams": {"prng", "types"},
    "prng": {"branches", "calls"},
    "orthonormal": {"branches", "prng"},
    "packing": {"prng", "types"},
    "reductions": {"branches"},
    "numerics": {"hparams", "types"},
    "losses": {"returns"},
    "exploration": BASE | {"schedules"},
    "distributions": BASE | {"losses"},
    "networks": BASE | {"distributed", "distributions", "exploration"},
    "mdp": BASE,
    "replay": BASE,
    "distributed": BASE | {"runtime"},
    "accelerators": BASE,
    "agents": BASE | PIECES | {"distributed"},
    "combinators": BASE | PIECES | {"agents", "distributed"},
    "envs": BASE | {"mdp"},
    "loops": BASE | {"distributed", "envs"},
    "kernels": BASE | {"envs", "loops", "networks"},
    "checkpoint": BASE,
    "callbacks": BASE | {"checkpoint", "envs", "logging", "loops"},
    "datasets": BASE | {"checkpoint", "loops"},
    "sweep": BASE | {"accelerators", "checkpoint", "distributed", "loops"},
    "pbt": BASE | {"checkpoint", "distributed", "loops", "sweep"},
    "plots": BASE | {"pbt", "sweep"},
    "reports": BASE | {"pbt", "plots", "sweep"},
    "runs": BASE | {"checkpoint", "files", "loops", "presets"},
    "films": BASE | {"envs", "loops"},
    "export": BASE | {"checkpoint", "envs", "loops", "presets", "runs", "sweep"},
    "logging": {"files", "runtime", "text"},
    "presets": BASE | {"agents", "combinators", "datasets", "envs", "loops", "networks"},
    "rlhf": BASE | PIECES | {"agents", "checkpoint", "combinators", "envs", "loops"},
    "lm": BASE | {"checkpoint", "logging", "losses", "rlhf"},
    "preferences": BASE | PIECES | {"agents", "combinators", "envs", "loops"},
    "experiments": BASE | PIECES | {"agents", "combinators", "envs", "loops", "preferences", "rlhf"},
}
FREE = {"cli", "commands", "__init__", "__main__"}
HEAVY = {"flax", "gymnax", "distrax", "matplotlib", "orbax", "tensorflow_probability", "tyro", "rich", "pandas"}
HEAVY |= {"brax", "mujoco", "navix", "xminigrid", "craftax", "jumanji", "pgx", "jaxmarl", "gymnasium", "envpool"}
LIGHT = [
    "types",
    "spaces",
    "hparams",
    "prng",
    "returns",
    "losses",
    "exploration",
    "distributions",
    "mdp",
    "agents.common.minibatches",
    "loops",
    "envs",
]


def imported_parts(path):
    """Parts of the package and foreign packages that a file uses: by import, or through an attribute of `purerl`."""
    ours, foreign = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        for name in used_names(node, path):
            first, *rest = name.split(".")
            if first == "purerl":
                ours.update(part_of_public(rest[0]) for _ in rest[:1])
            else:
                foreign.add(first)
    return ours - {None}, foreign


def used_names(node, path):
    """Dotted names that a node of a syntax tree brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path} has a relative import"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "purerl":
        return [f"purerl.{node.attr}"]
    return []


def part_of_public(name):
    """The part that a name of `purerl` belongs to: `ppo` is in `agents`; None for dunder names."""
    if purerl._SOURCES.get(name, "purerl") != "purerl":
        return purerl._SOURCES[name].split(".")[1]
    return None if name.startswith("__") else name


def part_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_layers(path):
    part = part_of(path)
    ours, foreign = imported_parts(path)
    if part not in FREE:
        assert ours - {part} <= ALLOWED.get(part, set())
    if part in ("losses", "returns"):
        assert foreign <= {"jax", "chex", "optax", "numpy", "__future__", "typing", "collections", "functools", "math"}


def test_no_agent_imports_another():
    shared = ("purerl.agents.common", "purerl.agents.tabular.tables")
    for path in (PACKAGE / "agents").rglob("*.py"):
        names = [name for node in ast.walk(ast.parse(path.read_text())) for name in used_names(node, path)]
        others = [name for name in names if name.startswith("purerl.agents")]
        others = [name for name in others if not f"{name}.".startswith(tuple(f"{each}." for each in shared))]
        assert not [name for name in others if name != "purerl.agents.tabular.tables"], path


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_no_jax_and_is_instant():
    program = (
        "import time; t = time.process_time(); import purerl, sys; print(time.process_time() - t, 'jax' in sys.modules)"
    )
    results = [run(program).split() for _ in range(3)]
    assert {loaded for _, loaded in results} == {"False"}
    assert min(float(seconds) for seconds, _ in results) < 0.05


def test_light_parts_load_no_framework():
    modules = ", ".join(f"purerl.{name}" for name in LIGHT)
    loaded = run(f"import sys, {modules}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))").split()
    assert not HEAVY & set(loaded), HEAVY & set(loaded)


def test_every_public_name_resolves():
    begin = time.perf_counter()
    for name in purerl.__all__:
        assert getattr(purerl, name) is not None, name
    assert time.perf_counter() - begin < 60
    assert set(purerl.__all__) <= set(dir(purerl))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        purerl.nothing  # noqa: B018


def test_stub_lists_what_it_imports_as_public():
    body = ast.parse(STUB.read_text()).body
    [public] = [ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)]
    assert sorted(public) == purerl.__all__


def test_names_of_modules_in_the_stub_are_modules():
    modules = {name for name, source in purerl._SOURCES.items() if source == "purerl"}
    found = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.glob("*.py")}
    found |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert modules <= found
