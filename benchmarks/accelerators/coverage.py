"""Which programs compile for accelerators: every agent in every mode, and PPO or DQN in every environment.

    python -m benchmarks.accelerators.coverage --target h100                 # compile what the record lacks
    python -m benchmarks.accelerators.coverage --target v5e --seconds 500    # as much of it as fits in this time
    python -m benchmarks.accelerators.coverage --page                        # the records as a page

Run it with the interpreter of the target's environment, which `python -m benchmarks.accelerators` makes. Agents are
those of the tests of the contract, on environments of their own and with tiny networks: the compiler's work hardly
depends on sizes. Each result is written down when it is there, so it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MODES = ("single", "population over devices", "environments over devices", "population")
POPULATION = 64
SIZES = {"num_updates": 1, "num_envs": 8, "rollout_length": 4}
MORE_ENVS = {"recurrent_ppo": 16}  # of which a minibatch is 8 whole environments, one for each device
Run = Callable[[Any, Any], Any]


class Job(NamedTuple):
    """One program: what it trains, how, and a function that builds `(run(key, hparams), hparams)`."""

    subject: str
    mode: str
    build: Callable[[], tuple[Run, Any]]

    @property
    def name(self) -> str:
        """Its name in the record."""
        return f"{self.subject}: {self.mode}"


def jobs() -> Iterator[Job]:
    """All programs, those of most interest first."""
    import agent_cases

    import purerl

    for mode in MODES:
        for name, case in agent_cases.CASES.items():
            env = agent_cases.built(name)[1]
            if mode != "environments over devices" or (isinstance(env, purerl.Env) and "bandit" not in name):
                yield Job(name, mode, lambda name=name, case=case: (_agent(name, case), case.hparams))
        if mode == "single":
            for env_id in purerl.envs.IDS:
                algorithm = "dqn" if env_id.endswith(("bsuite", "MinAtar")) else "ppo"
                yield Job(f"{algorithm} on {env_id}", mode, lambda a=algorithm, e=env_id: _environment(a, e))


def _agent(name: str, case: Any) -> Run:
    import agent_cases

    import purerl

    agent, env, _ = agent_cases.built(name)
    if isinstance(env, purerl.Env):
        sizes = SIZES | {"num_envs": MORE_ENVS.get(name, SIZES["num_envs"])}
        return lambda key, hparams: purerl.train(key, agent, env, hparams, **sizes, rollout=case.rollout)
    return lambda key, hparams: purerl.fit(key, agent, env, hparams, num_updates=1)


def _environment(algorithm: str, env_id: str) -> tuple[Run, Any]:
    import purerl
    from purerl import presets

    env = purerl.envs.make(env_id)
    preset = presets.find(algorithm, env_id, env)
    preset = preset._replace(network=dict(preset.network) | {"hidden": (16,)})
    agent, hparams = presets.build(preset, env), presets.hparams(preset)
    return lambda key, hparams: purerl.train(key, agent, env, hparams, **SIZES), hparams


def compile_job(job: Job, target: Any) -> dict[str, Any]:
    """Counts of the compiled program, or the error."""
    begin = time.perf_counter()
    try:
        text, temporary = _compile(job, target)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
    from purerl.accelerators import hlo

    total = hlo.read(text).total
    found = {"launches": total.launches, "waits": total.waits, "collectives": dict(total.collectives)}
    return found | {"temporary_bytes": temporary, "seconds": round(time.perf_counter() - begin, 1)}


def _compile(job: Job, target: Any) -> tuple[str, int]:
    import jax
    import numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

    from purerl import branches
    from purerl.accelerators.targets import devices
    from purerl.distributed.mesh import AXIS
    from purerl.hparams import cast

    run, hparams = job.build()
    many, spread = job.mode.startswith("population"), job.mode.endswith("over devices")
    chosen = devices(target)[: target.num_devices if spread else 1]
    axis = "population" if many else AXIS
    mesh = Mesh(np.array(chosen), (axis,), axis_types=(AxisType.Auto,))
    place = NamedSharding(mesh, PartitionSpec(axis) if many else PartitionSpec())

    def function(key: Any, hparams: Any) -> Any:
        return run(jax.random.wrap_key_data(key), hparams)

    specs = jax.eval_shape(lambda: (jax.random.key_data(jax.random.key(0)), cast(hparams)))
    if many:
        specs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((POPULATION, *leaf.shape), leaf.dtype), specs)
        function = jax.vmap(function)
        if spread:
            part = PartitionSpec(axis)
            function = jax.shard_map(function, mesh=mesh, in_specs=part, out_specs=part, check_vma=False)
    context = jax.sharding.set_mesh(mesh) if spread and not many else contextlib.nullcontext()
    with context, branches.for_any_platform():
        jitted = jax.jit(function, in_shardings=place, out_shardings=place)
        compiled = jitted.trace(*specs).lower(lowering_platforms=(target.platform,)).compile()
    return compiled.as_text(), compiled.memory_analysis().temp_size_in_bytes


def compile_missing(target_name: str, seconds: float, only: str) -> None:
    """Compile what the record lacks, for about so long; a program that ends the process is named at the next start.

    What the record holds of programs that no longer exist is dropped.
    """
    from purerl.accelerators.targets import TARGETS

    end, wanted = time.perf_counter() + seconds, list(jobs())
    found = read(target_name)
    done = {job.name: found[job.name] for job in wanted if job.name in found}
    for job in wanted:
        if job.name in done or only not in job.name:
            continue
        if time.perf_counter() > end:
            print("time is over: start it again for the rest")
            return
        _write(target_name, done | {job.name: {"error": "the compiler ended the process"}})
        done[job.name] = compile_job(job, TARGETS[target_name])
        _write(target_name, done)
        print(job.name, done[job.name], flush=True)


def read(target_name: str) -> dict[str, Any]:
    """The record of a target: what was found, by the names of the programs."""
    path = _path(target_name)
    return json.loads(path.read_text()) if path.is_file() else {}


def _write(target_name: str, done: dict[str, Any]) -> None:
    part = _path(target_name).with_suffix(".part")
    part.write_text(json.dumps(done, indent=1) + "\n")
    part.replace(_path(target_name))


def _path(target_name: str) -> pathlib.Path:
    return RESULTS / f"accelerators_coverage_{target_name}.json"


def page(records: dict[str, dict[str, Any]]) -> str:
    """The records as a page of two tables: agents in every mode, and environments."""
    names = list(dict.fromkeys(name for found in records.values() for name in found))
    subjects = list(dict.fromkeys(name.rsplit(": ", 1)[0] for name in names))
    agents = [each for each in subjects if " on " not in each]
    modes = [mode for mode in MODES if any(name.endswith(f": {mode}") for name in names)]
    return _PAGE.format(
        population=POPULATION,
        agents=_table(records, agents, modes),
        environments=_table(records, [each for each in subjects if each not in agents], ["single"]),
    )


_PAGE = """# Which programs compile for accelerators

Written by `python -m benchmarks.accelerators.coverage --page` from the records beside it. A number is the launches of a
whole program of one update, its initialisation included; what moves data between devices follows in brackets.
"population" is {population} agents in one program; "over devices" is 8 H100 or 4 TPU v5e. Agents are those of
`tests/helpers/agent_cases.py`, with tiny networks. An empty cell was not compiled.

## Agents

{agents}

## Environments

One agent with its preset.

{environments}
"""


def _table(records: dict[str, dict[str, Any]], subjects: list[str], modes: list[str]) -> str:
    """Subjects as rows, targets and modes as columns: launches, or what is wrong."""
    columns = [(target, mode) for target in records for mode in modes]
    heads = [f"{target}, {mode}" for target, mode in columns]
    rows = [["", *heads], ["---"] * (len(columns) + 1)]
    for subject in subjects:
        rows.append([subject, *(_cell(records[target].get(f"{subject}: {mode}")) for target, mode in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if "error" in found:
        return found["error"].split(" in /")[0][:100]
    moved = ", ".join(f"{count} {name}" for name, count in found["collectives"].items())
    return f"{found['launches']:,}" + f" ({moved})" * bool(moved)


def main() -> None:
    """Compile, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="h100")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--page", action="store_true", help="write the page from the records")
    chosen = parser.parse_args()
    if chosen.page:
        (RESULTS / "accelerators_coverage.md").write_text(page({name: read(name) for name in ("h100", "v5e")}))
        return
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    os.environ["JAX_PLATFORMS"] = "cpu"
    compile_missing(chosen.target, chosen.seconds, chosen.only)


if __name__ == "__main__":
    main()
