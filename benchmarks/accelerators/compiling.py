"""Compile one case for a target and say what the program is. Runs in the target's environment:

python -m benchmarks.accelerators.compiling '{"target": "h100", "case": {...}}'
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks.accelerators.cases import NUM_UPDATES, Case, Program, build
from purerl import branches
from purerl.accelerators import hlo, targets, work
from purerl.accelerators.programs import modelled_seconds


def compile_case(case: Case, target: targets.Target) -> Any:
    """The compiled program."""
    program = build(case)
    devices = targets.devices(target)[: case.num_devices]
    function, sharding, mesh = _placed(case, program, devices)
    with mesh, branches.for_any_platform():
        jitted = jax.jit(function, in_shardings=sharding, out_shardings=sharding)
        return jitted.trace(*_specs(case, program)).lower(lowering_platforms=(target.platform,)).compile()


def report(case: Case, target: targets.Target) -> dict[str, Any]:
    """Counts, memory, work and modelled time of the case's program."""
    program, begin = build(case), time.perf_counter()
    compiled = compile_case(case, target)
    text = compiled.as_text()
    root = hlo.read(text)
    steps = NUM_UPDATES * program.num_envs * program.rollout_length
    operations, _ = work.totals(text)
    memory, seconds = compiled.memory_analysis(), modelled_seconds(target, text)
    gradient = hlo.gradient_step(root)
    return {
        "label": case.label,
        "rollout_step": hlo.rollout_step(root, program.rollout_length),
        "gradient_step": gradient.total_each._asdict() if gradient else None,
        "total": root.total._asdict(),
        "launches_per_env_step": root.total.launches / steps,
        "operations_per_env_step": operations / (steps * case.population),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "modelled_seconds": seconds._asdict(),
        "modelled_env_steps_per_second": steps * case.population / seconds.total,
        "compile_seconds": time.perf_counter() - begin,
        "tree": hlo.tree(root),
    }


def _specs(case: Case, program: Program) -> Any:
    from purerl.hparams import cast

    def inputs() -> Any:
        return jax.random.key_data(jax.random.key(0)), cast(program.hparams)

    specs = jax.eval_shape(inputs)
    if case.population == 1:
        return specs
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((case.population, *leaf.shape), leaf.dtype), specs)


def _placed(case: Case, program: Program, devices: list[Any]) -> tuple[Any, Any, Any]:
    """The function to compile, the sharding of its arguments and results, and the mesh to set while tracing."""
    if case.population == 1:
        from purerl.distributed.mesh import AXIS

        mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
        context = jax.sharding.set_mesh(mesh) if case.num_devices > 1 else contextlib.nullcontext()
        return program.run, NamedSharding(mesh, PartitionSpec()), context
    mesh = Mesh(np.array(devices), ("population",), axis_types=(AxisType.Auto,))
    members = PartitionSpec("population")
    function = jax.vmap(program.run)
    if case.num_devices > 1:
        function = jax.shard_map(function, mesh=mesh, in_specs=members, out_specs=members, check_vma=False)
    return function, NamedSharding(mesh, members), contextlib.nullcontext()


def main() -> None:
    """Print the report as the last line."""
    asked = json.loads(sys.argv[1])
    case = Case(**{**asked["case"], "hidden": tuple(asked["case"].get("hidden", ()))})
    print(json.dumps(report(case, targets.TARGETS[asked["target"]])))


if __name__ == "__main__":
    main()
