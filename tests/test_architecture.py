"""Who may import whom, and what an import costs."""

import ast
import pathlib
import subprocess
import sys
import time

import pytest

import purerl

PACKAGE = pathlib.Path(purerl.__file__).parent

# The parts of the package that each part may import. What is not named here may import nothing of ours.
ALLOWED = {
    "off_policy": {"_recursion"},
    "returns": {"_recursion", "off_policy"},
    "losses": {"_recursion", "returns"},
    "exploration": {"schedules", "types"},
    "noise": set(),
    "distributions": {"losses", "types"},
    "mdp": {"types"},
    "replay": {"prng", "shuffle", "types"},
    "minibatch": {"_mesh", "prng", "shuffle", "types"},
    "policies": {"types"},
    "gradient": {"minibatch", "types"},
    "critics": {"gradient", "noise", "replay", "types"},
    "prng": set(),
    "tabular": {"types"},
    "planning": {"policies", "returns", "types"},
    "networks": {"distributions", "initializers", "noise", "types"},
    "agents": {
        "critics", "distributions", "exploration", "gradient", "losses", "mdp", "minibatch", "networks", "noise",
        "off_policy", "planning", "policies", "replay", "returns", "schedules", "shuffle", "tabular", "types",
    },
    "combinators": {"minibatch", "noise", "replay", "schedules", "shuffle", "types"},
    "envs": {"_suggestion", "mdp", "types"},
    "collect": {"_mesh", "prng", "types"},
    "loops": {"collect", "types"},
    "host_loop": {"envs", "loops", "types"},
    "datasets": {"checkpoint", "loops", "types"},
    "distributed": {"_machine", "_mesh", "types"},
    "checkpoint": {"types"},
    "sweep": {"_suggestion", "checkpoint", "distributed", "loops", "types"},
    "rlhf": {
        "agents", "checkpoint", "collect", "combinators", "distributions", "envs", "exploration", "gradient", "loops",
        "losses", "minibatch", "networks", "returns", "shuffle", "types",
    },
    "plots": {"sweep", "types"},
    "reports": {"plots", "sweep", "types"},
    "presets": {"_suggestion", "types"},
}  # fmt: skip
FREE = {"cli", "commands", "__init__"}
HEAVY = {"flax", "gymnax", "distrax", "matplotlib", "orbax", "tensorflow_probability", "tyro", "rich", "pandas"}
LIGHT = [
    "types",
    "returns",
    "off_policy",
    "losses",
    "exploration",
    "distributions",
    "mdp",
    "minibatch",
    "loops",
    "envs",
]


def imported_parts(path):
    """Parts of the package and foreign packages that a file imports anywhere."""
    ours, foreign = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first == "purerl":
                ours.update(rest[:1])
            else:
                foreign.add(first)
    return ours, foreign


def part_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_layers(path):
    part = part_of(path)
    ours, foreign = imported_parts(path)
    if part not in FREE:
        assert ours - {part} <= ALLOWED.get(part, set())
    if part in ("losses", "returns", "off_policy", "_recursion"):
        assert foreign <= {"jax", "chex", "optax", "numpy", "__future__", "typing", "collections", "functools", "math"}


def test_no_agent_imports_another():
    for path in (PACKAGE / "agents").glob("*.py"):
        tree = ast.parse(path.read_text())
        modules = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not [m for m in modules if m and m.startswith("purerl.agents")], path


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
