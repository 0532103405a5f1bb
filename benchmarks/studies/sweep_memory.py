"""How much memory a block of agents takes: what is predicted from two small widths, against what is measured.

    python -m benchmarks.studies.sweep_memory

The prediction is the line through the compiler's account of two widths (`purerl.sweep.run.memory`). The measurement is
the peak resident memory of a process that runs such a block, less what it had before, the programs compiled already.
Then a search that would take ten times a limit as one block runs within it. Linux only.
Writes results/sweep_memory.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import pathlib
import re
from typing import Any

import jax
import numpy as np

import purerl
from purerl import presets, sweep
from purerl.sweep.run import memory, programs
from purerl.sweep.run.programs import MemberData, Program
from purerl.sweep.trials import draws

RESULTS = pathlib.Path(__file__).parents[1] / "results"
FITTED, MEASURED = (2, 6), (16, 32, 64)
NUM_ENVS, ROLLOUT_LENGTH = 256, 128


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    line = memory.fit(*[x for width in FITTED for x in (width, alone(predicted, width))])
    rows = []
    for width in MEASURED:
        expected, taken = line.bytes(width), alone(measured, width)
        rows.append({"width": width, "predicted": expected, "measured": taken, "ratio": taken / expected})
        print(f"width {width:3}: predicted {expected / 1e6:7.1f} MB, measured {taken / 1e6:7.1f} MB", flush=True)
    limit = line.bytes(160) / 10
    width, taken = alone(search_within, limit)
    print(f"160 agents within {limit / 1e6:.0f} MB: blocks of {width}, {taken / 1e6:.0f} MB measured")
    record = {"rows": rows, "limited": {"limit": limit, "width": width, "measured": taken}}
    (RESULTS / "sweep_memory.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def alone(function: Any, argument: Any) -> Any:
    """The result of a function in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (argument,))


def predicted(width: int) -> float:
    """Bytes by the compiler's account."""
    program = make_program()
    return programs.block_bytes(program, make_members(width), width, 1)


def measured(width: int) -> float:
    """Bytes by which the resident memory grows at its peak while a block is trained."""
    program, members = make_program(), make_members(width)
    programs.block_bytes(program, members, width, 1)
    jax.block_until_ready(programs.start(program, make_members(1)))
    before = reset_peak()
    states = programs.start(program, members)
    for _ in range(2):
        states, curve = programs.advance(program, states, 1)
        np.asarray(curve)
    return peak() - before


def search_within(limit: float) -> tuple[int, float]:
    """Width of the blocks, and peak growth, of a search under a limit; its first run compiles."""
    program, notes = make_program(), []
    options = {"num_updates": 1, "num_envs": NUM_ENVS, "rollout_length": ROLLOUT_LENGTH, "num_seeds": 1, "keep": 1}
    options |= {"eval_episodes": 4, "eval_max_steps": 50, "block_size": 160, "memory_limit": limit}
    space = {"learning_rate": sweep.log_uniform(1e-4, 1e-2)}
    run = functools.partial(
        sweep.search, jax.random.key(0), program.agent, program.env, purerl.PPOHparams(), space, num_trials=160
    )
    run(**options, progress=lambda progress: progress.note and notes.append(progress.note))
    before = reset_peak()
    result = run(**options)
    return result.settings["width"], peak() - before


@functools.cache
def make_program() -> Program:
    env = purerl.envs.make("CartPole-v1")
    preset = presets.find("ppo", "CartPole-v1", env)
    return Program(presets.build(preset, env), env, NUM_ENVS, ROLLOUT_LENGTH, presets.rollout(preset), 4, 50)


def make_members(width: int) -> MemberData:
    space = {"learning_rate": sweep.log_uniform(1e-4, 1e-2)}
    table = draws.sample(jax.random.key(0), purerl.PPOHparams(), space, width)
    return MemberData(np.asarray(jax.random.key_data(jax.random.split(jax.random.key(1), width))), table, None)


def reset_peak() -> float:
    """Start the peak of this process's memory anew; bytes that it has now."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> float:
    return status("VmHWM")


def status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    assert found, name
    return float(found[1]) * 1024


if __name__ == "__main__":
    main()
