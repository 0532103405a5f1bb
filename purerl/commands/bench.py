"""`purerl bench`: steps per second, compile time and memory of training on this machine."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import distributed, loops, presets, replay
from purerl.accelerators import work
from purerl.accelerators.peak import peak_rate
from purerl.commands import console, cores, tasks
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.bench import Options
from purerl.hparams import cast
from purerl.presets.tasks import Task, check_update
from purerl.text import format_bytes, format_rate
from purerl.types import PyTree


class Figures(NamedTuple):
    """One row of the table.

    Attributes:
      num_envs, rollout_length, num_agents: the size.
      steps_per_second: environment steps of all agents, the median over calls of the program.
      quartiles: of the same.
      compile_seconds: tracing included.
      state_bytes, temporary_bytes: the state, and what the program needs beside it.
      operations_per_step: operations of matrix products and convolutions for each environment step.
      matrix_share: rate of those operations over that of [16384, 64] x [64, 64] products on the first device (a CPU's
        uses all cores); can exceed 1 on several accelerators, and where smaller products stay in a cache.
    """

    num_envs: int
    rollout_length: int
    num_agents: int
    steps_per_second: float
    quartiles: tuple[float, float]
    compile_seconds: float
    state_bytes: int
    temporary_bytes: int
    operations_per_step: float
    matrix_share: float


def run(options: Options) -> None:
    """Measure every size with every number of agents, and print the table.

    Raises:
      UsageError: the options cannot be carried out.
    """
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(f"--output {options.output}: there is no directory {options.output.parent}")
    with usage_errors():
        task = tasks.resolve(options.setup)
        preset = task.preset
        asked = [
            sized(task, *size, num_agents)
            for size in options.sizes or ((preset.num_envs, preset.rollout_length),)
            for num_agents in options.agents
        ]
    peak = peak_rate()
    devices = f"{jax.local_device_count()} x {jax.devices()[0].device_kind}{cores.told()}"
    console.prose(f"{task.describe()}, on {devices}; 64-wide matrix products run at {peak / 1e9:,.0f} GFLOP/s on one")
    rows: list[Figures] = []
    for sized_task, num_agents in asked:
        rows.append(measure(sized_task, num_agents, options.seconds, peak))
        console.say(line(rows[-1]))
    console.print_table("environment steps per second", COLUMNS, map(cells, rows))
    console.prose("matrix: rate of the agents' matrix products over that of 64-wide ones alone.")
    small = [each for each, num_agents in asked if num_agents == 1 and cores.is_small(each.env, each.preset)]
    if small and not cores.told():
        size = f"{small[0].preset.num_envs}x{small[0].preset.rollout_length}"
        console.prose(f"One agent at {size} may be faster on one core, where purerl train computes it: --cores one.")
    if options.output is not None:
        record = {"machine": platform.machine(), "devices": devices, "jax": jax.__version__, "task": task.to_json()}
        text = json.dumps(record | {"rows": [row._asdict() for row in rows]}, indent=1)
        options.output.write_text(text + "\n", encoding="utf-8")


def sized(task: Task, num_envs: int, rollout_length: int, num_agents: int) -> tuple[Task, int]:
    """The task at another size, long enough for two updates."""
    steps = max(task.preset.num_steps, 2 * num_envs * rollout_length)
    preset = task.preset._replace(num_envs=num_envs, rollout_length=rollout_length, num_steps=steps)
    return task._replace(preset=preset), num_agents


def measure(task: Task, num_agents: int, seconds: float, peak: float) -> Figures:
    """Train for some seconds and count.

    Raises:
      ValueError, TypeError: a setting that does not fit, by name.
    """
    preset = task.preset
    start, advance = programs(task, num_agents)
    states = jax.block_until_ready(jax.jit(start)(jnp.arange(num_agents)))
    begin = time.perf_counter()
    jitted = jax.jit(advance, donate_argnums=0)
    compiled = jitted.lower(states).compile()
    compile_seconds = time.perf_counter() - begin
    state_bytes = replay.nbytes(jax.eval_shape(lambda: states))
    steps = num_agents * preset.num_envs * preset.rollout_length
    rates = timed(compiled, states, seconds, steps)
    operations = work.operations(compiled.as_text() or "") / steps
    memory: Any = compiled.memory_analysis()
    rate = float(np.median(rates))
    low, high = (float(x) for x in np.quantile(rates, (0.25, 0.75)))
    return Figures(
        preset.num_envs, preset.rollout_length, num_agents, rate, (low, high), compile_seconds, state_bytes,
        int(memory.temp_size_in_bytes), operations, operations * rate / peak,
    )  # fmt: skip


def programs(task: Task, num_agents: int) -> tuple[Callable[[jax.Array], PyTree], Callable[[PyTree], PyTree]]:
    """`start(seeds [A]) -> states` and `advance(states) -> states`, one update of all agents."""
    tasks.check_in_jax(task, "bench")
    preset, env = task.preset, task.make_env()
    agent, rollout, hparams = presets.build(preset, env), presets.rollout(preset), cast(presets.hparams(preset))
    check_update(task, agent, env)

    def start(seed: jax.Array) -> loops.LoopState:
        return loops.start(jax.random.key(seed), agent, env, hparams, num_envs=preset.num_envs)

    def advance(state: loops.LoopState) -> loops.LoopState:
        sizes = {"num_updates": 1, "rollout_length": preset.rollout_length}
        return loops.advance(state, agent, env, rollout=rollout, **sizes)[0]  # type: ignore[arg-type]

    return (
        lambda seeds: distributed.over_devices(jax.vmap(start), (seeds,)),
        lambda states: distributed.over_devices(jax.vmap(advance), (states,)),
    )


def timed(advance: Callable[[PyTree], PyTree], states: PyTree, seconds: float, steps: int) -> list[float]:
    """Steps per second of calls that fill a twentieth of the time each; the first call is not counted."""
    states = jax.block_until_ready(advance(states))
    begin = time.perf_counter()
    states = jax.block_until_ready(advance(states))
    calls = max(1, round(seconds / 20 / (time.perf_counter() - begin)))
    rates: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rates) < 3:
        begin = time.perf_counter()
        for _ in range(calls):
            states = advance(states)
        jax.block_until_ready(states)
        rates.append(calls * steps / (time.perf_counter() - begin))
    return rates


COLUMNS = ("size", "agents", "steps/s", "quartiles", "compile", "state", "temporary", "matrix")


def line(row: Figures) -> str:
    """What is told as soon as a size is done."""
    agents = f", {row.num_agents} agents" if row.num_agents > 1 else ""
    return f"{row.num_envs}x{row.rollout_length}{agents}: {format_rate(row.steps_per_second)}"


def cells(row: Figures) -> tuple[str, ...]:
    """The row as text."""
    low, high = row.quartiles
    return (
        f"{row.num_envs}x{row.rollout_length}", f"{row.num_agents}", f"{row.steps_per_second:,.0f}",
        f"{low:,.0f} to {high:,.0f}", f"{row.compile_seconds:.1f} s",
        format_bytes(row.state_bytes), format_bytes(row.temporary_bytes), f"{row.matrix_share:.0%}",
    )  # fmt: skip
