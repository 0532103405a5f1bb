"""The parts: rates of programs against their models, populations up to the memory, a trace, the fused rollout."""

from __future__ import annotations

import functools
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from benchmarks.accelerators.cases import NUM_UPDATES, Case, build
from benchmarks.on_device import trace
from purerl import kernels, loops
from purerl.accelerators import hlo
from purerl.accelerators.programs import modelled_seconds
from purerl.accelerators.targets import H100, H200, TARGETS, Target
from purerl.hparams import cast
from purerl.sweep.run import memory

_REPEATS = 5


class Sizes(NamedTuple):
    """Whether sizes are those of the benchmark or tiny ones."""

    tiny: bool

    def cases(self) -> list[Case]:
        """The rows of the suite: each program of purerl beside the plain baseline where there is one."""
        if self.tiny:
            return [Case("ppo", "CartPole-v1", 4, 8, hidden=(16,)), Case("ppo", "CartPole-v1", 4, 8, 2, hidden=(16,))]
        both = [(64, 128), (2048, 32)]
        rows = [Case(name, "CartPole-v1", *sizes) for sizes in both for name in ("ppo", "plain-ppo")]
        rows += [Case(name, "CartPole-v1", 4, 128, 1024) for name in ("ppo", "plain-ppo")]
        return [*rows, Case("dqn", "CartPole-v1"), Case("sac", "Pendulum-v1"), Case("pqn", "CartPole-v1")]


def target() -> Target:
    """The constants of the device at hand, or of the one most like it."""
    kind = jax.devices()[0].device_kind
    named = next((each for each in TARGETS.values() if each.label in kind), None)
    return named or (H200 if "H200" in kind else H100)


def rates(sizes: Sizes, output: pathlib.Path) -> dict[str, Any]:
    """Environment steps per second, measured, and by the model."""
    return {case.label: _rate(case) for case in sizes.cases()}


def _rate(case: Case) -> dict[str, Any]:
    compiled, make, steps = _compiled(case)
    seconds = _median(lambda i: compiled(*make(i)))
    model = modelled_seconds(target(), compiled.as_text())
    total = hlo.read(compiled.as_text()).total
    return {
        "steps_per_second": round(steps / seconds),
        "modelled_steps_per_second": round(steps / model.total),
        "measured_over_modelled": round(seconds / model.total, 2),
        "launches": total.launches,
        "waits": total.waits,
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


def _compiled(case: Case) -> tuple[Any, Callable[[int], Any], int]:
    """The compiled program of a case, its arguments by number of the run, and its environment steps."""
    program = build(case)

    def arguments(i: int) -> Any:
        key, hparams = jax.random.key_data(jax.random.key(i)), cast(program.hparams)
        if case.population == 1:
            return key, hparams
        keys = jax.random.key_data(jax.random.split(jax.random.key(i), case.population))
        return keys, jax.tree.map(lambda x: jnp.broadcast_to(x, (case.population, *x.shape)), hparams)

    run = program.run if case.population == 1 else jax.vmap(program.run)
    compiled = jax.jit(run).lower(*arguments(0)).compile()
    return compiled, arguments, NUM_UPDATES * program.num_envs * program.rollout_length * case.population


def _median(run: Callable[[int], Any]) -> float:
    """Median seconds of a call, after one that does not count."""
    jax.block_until_ready(run(0))
    seconds = []
    for i in range(1, _REPEATS + 1):
        begun = time.perf_counter()
        jax.block_until_ready(run(i))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def widths(sizes: Sizes, output: pathlib.Path) -> dict[str, Any]:
    """The largest population that fits by the compiler's account, run once, and the memory that it took."""
    small = Case("ppo", "CartPole-v1", 4, 8 if sizes.tiny else 128, hidden=(16,) if sizes.tiny else ())
    limit = 4e6 if sizes.tiny else memory.device_limit()
    compiled = functools.cache(lambda width: _compiled(small._replace(population=width)))

    def measure(width: int) -> float:
        return memory.of_compiled(compiled(width)[0])

    width, taken = memory.widest(2**20, 1, limit, measure, first=8 if sizes.tiny else memory.FIRST_WIDTH)
    program, make, steps = compiled(width)
    seconds = _median(lambda i: program(*make(i)))
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        "width": width,
        "predicted_bytes": taken,
        "peak_bytes": stats.get("peak_bytes_in_use"),
        "limit": limit,
        "steps_per_second": round(steps / seconds),
    }


def gaps(sizes: Sizes, output: pathlib.Path) -> dict[str, Any]:
    """Time in kernels and between them, from a profiler's trace of one run."""
    compiled, make, _ = _compiled(sizes.cases()[0])
    jax.block_until_ready(compiled(*make(0)))
    arguments = jax.block_until_ready(make(1))
    with jax.profiler.trace(str(output / "trace")):
        jax.block_until_ready(compiled(*arguments))
    return {sizes.cases()[0].label: trace.split(trace.newest(output / "trace"))}


def fused_rollout(sizes: Sizes, output: pathlib.Path) -> dict[str, Any]:
    """Whether the fused kernel makes the steps of `loops.rollout`, and how long both take."""
    num_envs, length = (16, 8) if sizes.tiny else (2048, 128)
    env = purerl.envs.make("CartPole-v1")
    network = purerl.networks.actor_critic(env, hidden=(16, 16) if sizes.tiny else (64, 64))
    agent = purerl.ppo(network)
    begin = purerl.start(jax.random.key(0), agent, env, purerl.PPOHparams(), num_envs=num_envs)
    on_gpu = jax.default_backend() == "gpu"
    both = {"plain": loops.rollout, "fused": kernels.fused_rollout(network, interpret=not on_gpu)}

    def run(rollout: Any, i: int) -> Any:
        return rollout(jax.random.key(i), agent, env, begin.agent_state, begin.actors, length=length)[1]

    seconds = {name: _median(functools.partial(run, rollout)) for name, rollout in both.items()}
    plain, fused = (jax.tree.map(np.asarray, run(rollout, 1)) for rollout in both.values())
    return {
        "equal_actions": float(np.mean(plain.action == fused.action)),
        "largest_difference_of_first_log_prob": float(
            np.abs(plain.aux["log_prob"][0] - fused.aux["log_prob"][0]).max()
        ),
        "mean_reward": [float(plain.reward.mean()), float(fused.reward.mean())],
        "ended": [int(x.terminated.sum() + x.truncated.sum()) for x in (plain, fused)],
        "rollout_seconds": seconds,
    }


def precision(sizes: Sizes, output: pathlib.Path) -> dict[str, Any]:
    """Seconds of the second case under each precision of matrix products."""
    made = {}
    for name in ("float32", "tensorfloat32", "bfloat16"):
        with jax.default_matmul_precision(name):
            compiled, make, _ = _compiled(sizes.cases()[0 if sizes.tiny else 2])
            made[name] = _median(functools.partial(lambda compiled, make, i: compiled(*make(i)), compiled, make))
    return {"median_seconds": made}


PARTS: dict[str, Callable[[Sizes, pathlib.Path], dict[str, Any]]] = {
    "fused_rollout": fused_rollout, "gaps": gaps, "rates": rates, "widths": widths, "precision": precision,
}  # fmt: skip
