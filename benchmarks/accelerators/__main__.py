"""Compile programs for accelerators that are not there, and report what the programs do.

    python -m benchmarks.accelerators --save                # the record, and the tables of docs/launches.md
    python -m benchmarks.accelerators --targets h100 --cases ppo:CartPole-v1:64x128 dqn:CartPole-v1
    python -m benchmarks.accelerators --cases ppo:CartPole-v1:4x128:1024 --tree    # 1,024 agents, with all loops
    python -m benchmarks.accelerators --check                                  # compare counts with the last record

A case is ALGORITHM:ENV[:NUM_ENVSxROLLOUT_LENGTH[:POPULATION[:NUM_DEVICES]]]. Each target has an environment of its own,
which is made at the first use from the package registry (.venv-cuda, .venv-tpu): the compilers must not be seen by an
ordinary start of JAX.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
from importlib import metadata
from typing import Any

from benchmarks.accelerators import table
from benchmarks.accelerators.cases import Case
from purerl.accelerators.targets import TARGETS, Target

ROOT = pathlib.Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "results" / "accelerators.json"
PAGE = ROOT / "docs" / "launches.md"
CASES = (
    "ppo:CartPole-v1:4x128",
    "ppo:CartPole-v1:64x128",
    "ppo:CartPole-v1:2048x32",
    "ppo:CartPole-v1:4x128:1024",
    "plain-ppo:CartPole-v1:64x128",
    "plain-ppo:CartPole-v1:2048x32",
    "dqn:CartPole-v1",
    "dqn:CartPole-v1::64",
    "sac:Pendulum-v1",
    "td3:Pendulum-v1",
    "recurrent_ppo:CartPole-v1",
    "pqn:CartPole-v1",
    "actor_critic:CartPole-v1",
    "ppo:CartPole-v1:2048x32:1:8",
    "ppo:CartPole-v1:4x128:64:8",
)


def parse_case(text: str) -> Case:
    """`ppo:CartPole-v1:64x128:8` as a case.

    Raises:
      ValueError: it has another form.
    """
    algorithm, env, *rest = [*text.split(":"), ""]
    sizes, population, devices, *more = [*rest, "", "", ""]
    num_envs, _, rollout_length = sizes.partition("x")
    if any(more) or not env:
        raise ValueError(
            f"{text!r} is not of the form ALGORITHM:ENV[:NUM_ENVSxROLLOUT_LENGTH[:POPULATION[:NUM_DEVICES]]]"
        )
    return Case(algorithm, env, int(num_envs or 0), int(rollout_length or 0), int(population or 1), int(devices or 1))


def environment(target: Target) -> str:
    """The interpreter of the target's environment, which is made if it is missing."""
    directory = ROOT / f".venv-{target.platform}"
    python = directory / "bin" / "python"
    if (directory / "ready").is_file():
        return str(python)
    print(f"making {directory.name} (once)", file=sys.stderr, flush=True)
    jax = metadata.version("jax")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    install = [python, "-m", "pip", "install", "--quiet"]
    compiler = [name.format(jax=jax) for name in target.compiler]
    others = ("pytest", "distrax")  # for the agents of the coverage, which are those of the tests, and for plain-ppo
    wanted = [f"jax=={jax}", *others, *([] if target.bare else compiler)]
    subprocess.run([*install, *wanted, f"{ROOT}[planning]"], check=True)
    subprocess.run(
        [python, "-m", "pip", "uninstall", "--quiet", "--yes", "purerl"], check=True
    )  # the checkout's is used
    if target.bare:
        subprocess.run([*install, "--no-deps", *compiler], check=True)
    (directory / "ready").touch()
    return str(python)


def compile_on(target: Target, case: Case) -> dict[str, Any]:
    """The report of one case, or `{"label": ..., "error": ...}` if it does not compile."""
    case = case._replace(num_devices=min(case.num_devices, target.num_devices))
    asked = json.dumps({"target": target.name, "case": case._asdict()})
    variables = os.environ | target.variables | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [environment(target), "-m", "benchmarks.accelerators.compiling", asked]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return {"label": case.label, "error": done.stderr.strip().splitlines()[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Compile the cases, print a table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=["h100", "v5e"], choices=TARGETS)
    parser.add_argument("--cases", nargs="+", default=CASES, type=str)
    parser.add_argument("--tree", action="store_true", help="print the loops of each program")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a program launches or takes more than the record says"
    )
    parser.add_argument("--save", action="store_true", help="write these cases into the record and docs/launches.md")
    chosen = parser.parse_args()
    reports: dict[str, dict[str, Any]] = {}
    for name in chosen.targets:
        for text in chosen.cases:
            found = compile_on(TARGETS[name], parse_case(text))
            if chosen.tree and "tree" in found:
                print(found["tree"], flush=True)
            reports.setdefault(name, {})[text] = {key: value for key, value in found.items() if key != "tree"}
            print(table.line(found), flush=True)
            if chosen.save:
                save(name, text, reports[name][text])
    if chosen.check:
        raise SystemExit(table.regressions(json.loads(RECORD.read_text()), reports))
    for name, found in reports.items():
        print(f"\n{name}\n\n{table.markdown(found)}")


def save(target: str, case: str, report: dict[str, Any]) -> None:
    """Put a report into the record, beside those of other cases, and the whole of it into the page."""
    reports = json.loads(RECORD.read_text())["reports"] if RECORD.is_file() else {}
    reports.setdefault(target, {})[case] = report
    versions = {package: metadata.version(package) for package in ("jax", "jaxlib")}
    RECORD.write_text(json.dumps({"versions": versions, "reports": reports}, indent=1) + "\n")
    PAGE.write_text(table.fill(PAGE.read_text(), {TARGETS[name].label: found for name, found in reports.items()}))


if __name__ == "__main__":
    main()
