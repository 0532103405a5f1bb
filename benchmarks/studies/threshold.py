"""Time until PPO's training return on CartPole reaches 475: one agent, compile included and apart.

    python -m benchmarks.studies.threshold      results/threshold.json

A run has the preset's whole length, and its updates take equal time, so an agent that reaches 475 after a share of its
updates has taken that share of the run's time. It has reached it with the first update up to which the last ten updates
in which episodes ended have a mean return of 475. Compiling is what the first call takes longer than the next one. All
sides run in turn, seed by seed, with XLA's products on one core, where each of them is fastest.
"""

from __future__ import annotations

import json
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

import purerl
from purerl import distributed, presets

RESULTS = pathlib.Path(__file__).parents[1] / "results"
ENV, THRESHOLD, NUM_SEEDS, WINDOW = "CartPole-v1", 475.0, 16, 10


class Side(NamedTuple):
    """`returns(key)` are the mean returns [U] of the episodes that ended in each update, NaN where none did."""

    returns: Callable[[jax.Array], jax.Array]
    steps_per_update: int


def ours(preset: presets.Preset, env: purerl.types.Env) -> Side:
    """Purerl with a preset."""
    agent, hparams = presets.build(preset, env), presets.hparams(preset)
    sizes = {name: getattr(preset, name) for name in ("num_updates", "num_envs", "rollout_length")}
    run = lambda key: purerl.train(key, agent, env, hparams, **sizes)[1]["episode_return"]  # noqa: E731
    return Side(run, preset.num_envs * preset.rollout_length)


def single_file(preset: presets.Preset) -> Side:
    """The single file with a preset's sizes and hyperparameters; it does not anneal the learning rate."""
    from benchmarks.peers import plain_ppo  # gymnax asks for devices, whose number is fixed then

    sizes = plain_ppo.Sizes(preset.num_envs, preset.rollout_length, preset.num_updates)
    hparams = plain_ppo.Hparams(**preset.hparams)
    run = jax.jit(lambda key: plain_ppo.train(key, hparams, ENV, sizes)[1])
    return Side(run, preset.num_envs * preset.rollout_length)


def reached(returns: np.ndarray) -> int | None:
    """The number of updates until the threshold; None: never."""
    ended = np.flatnonzero(np.isfinite(returns))
    if ended.size < WINDOW:
        return None
    means = np.convolve(returns[ended], np.full(WINDOW, 1 / WINDOW), mode="valid")
    found = np.flatnonzero(means >= THRESHOLD)
    return int(ended[found[0] + WINDOW - 1]) + 1 if found.size else None


def measure(sides: dict[str, Side]) -> dict[str, Any]:
    """The record of each side."""
    compile_seconds = {name: timed(side, 0)[0] - timed(side, 0)[0] for name, side in sides.items()}
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for seed in range(NUM_SEEDS):
        for name, side in sides.items():
            seconds, returns = timed(side, seed)
            updates = reached(returns)
            share = None if updates is None else updates / returns.size
            steps = None if updates is None else updates * side.steps_per_update
            found[name].append((steps, None if share is None else share * seconds))
    return {name: record(found[name], compile_seconds[name]) for name in sides}


def timed(side: Side, seed: int) -> tuple[float, np.ndarray]:
    """The seconds of a run, and its returns."""
    begin = time.perf_counter()
    returns = np.asarray(side.returns(jax.random.key(seed)))
    return time.perf_counter() - begin, returns


def record(runs: list[tuple[int | None, float | None]], compile_seconds: float) -> dict[str, Any]:
    """Medians over the seeds; one that never reached the threshold counts as infinite."""
    steps, seconds = (np.array([np.inf if x is None else x for x in column], float) for column in zip(*runs))
    return {
        "steps": [None if x is None else int(x) for x, _ in runs],
        "median_steps": float(np.median(steps)),
        "median_seconds": float(np.median(seconds)),
        "seeds_that_reached_it": int(np.isfinite(steps).sum()),
        "compile_seconds": compile_seconds,
    }


def main() -> None:
    """Measure, print and write the record."""
    distributed.use_one_core()
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # importing may have asked already whether there is one
    env = purerl.envs.make(ENV)
    default, fast = (presets.find("ppo", ENV, env, fast=fast) for fast in (False, True))
    sides = {
        "purerl, fast preset": ours(fast, env),
        "purerl, default preset": ours(default, env),
        "single file, settings of the fast preset": single_file(fast),
        "single file, settings of the default preset": single_file(default),
    }
    found = measure(sides)
    for name, each in found.items():
        print(
            f"{name}: {each['median_steps']:,.0f} steps, {each['median_seconds']:.2f} s after compiling for "
            f"{each['compile_seconds']:.1f} s; {each['seeds_that_reached_it']} of {NUM_SEEDS} seeds"
        )
    machine = f"{jax.devices()[0].platform}, {platform.machine()}, jax {jax.__version__}"
    (RESULTS / "threshold.json").write_text(json.dumps({"machine": machine, "sides": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
