"""Cost of replay: sampling by capacity, memory, and flashbax beside it.

    pip install flashbax
    python benchmarks/replay.py

Microseconds of one `add` of a step of 16 environments (CartPole's) and one `sample` of 128 windows, from 200 of them in
one compiled loop, the least of 9 runs taken in turn. Writes results/replay.json.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import purerl
from purerl import replay
from purerl.replay import priority
from purerl.types import Transition

RESULT = pathlib.Path(__file__).parent / "results" / "replay.json"
NUM_ENVS, BATCH, REPEATS = 16, 128, 200
Cycle = Callable[[jax.Array, Any], tuple[Any, jax.Array]]


def steps() -> Transition:
    """One step of every environment, [1, N]."""
    shape = (1, NUM_ENVS)
    obs, flag = jnp.ones((*shape, 4)), jnp.zeros(shape, bool)
    return Transition(obs, jnp.zeros(shape, jnp.int32), jnp.ones(shape), flag, flag, obs)


def example() -> Transition:
    return jax.tree.map(lambda x: x[0, 0], steps())


def uniform(capacity: int) -> tuple[Any, Cycle]:
    def cycle(key: jax.Array, ring: replay.Ring) -> tuple[Any, jax.Array]:
        ring = replay.add(ring, steps())
        window, _ = replay.sample(key, ring, BATCH)
        return ring, checksum(window)

    return replay.init(example(), capacity, NUM_ENVS), cycle


def prioritized(capacity: int) -> tuple[Any, Cycle]:
    def cycle(key: jax.Array, state: priority.PriorityRing) -> tuple[Any, jax.Array]:
        state = priority.add(state, steps(), 0.6)
        window, index, weight = priority.sample(key, state, BATCH, 0.4)
        state = priority.update(state, index, 1.0 + weight, 0.6)
        return state, checksum(window)

    return priority.init(example(), capacity, NUM_ENVS), cycle


def flashbax_uniform(capacity: int) -> tuple[Any, Cycle]:
    import flashbax

    buffer = flashbax.make_item_buffer(capacity, 1, BATCH, add_batches=True)

    def cycle(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        state = buffer.add(state, jax.tree.map(lambda x: x[0], steps()))
        return state, checksum(buffer.sample(state, key).experience)

    return buffer.init(example()), cycle


def flashbax_prioritized(capacity: int) -> tuple[Any, Cycle]:
    import flashbax

    buffer = flashbax.make_prioritised_flat_buffer(capacity, 1, BATCH, add_batch_size=NUM_ENVS, priority_exponent=0.6)

    def cycle(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        state = buffer.add(state, jax.tree.map(lambda x: x[0], steps()))
        sample = buffer.sample(state, key)
        state = buffer.set_priorities(state, sample.indices, 1.0 + sample.probabilities)
        return state, checksum(sample.experience.first)

    return buffer.init(example()), cycle


def checksum(tree: Any) -> jax.Array:
    return sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(tree))


def prepared(state: Any, cycle: Cycle) -> Callable[[], None]:
    """A compiled loop of cycles that owns its state, as a training loop does."""

    def loop(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(lambda s, k: cycle(k, s), state, jax.random.split(key, REPEATS))

    compiled = jax.jit(loop, donate_argnums=0)
    holder = [compiled(state, jax.random.key(0))[0]]

    def run() -> None:
        holder[0], out = compiled(holder[0], jax.random.key(1))
        jax.block_until_ready(out)

    return run


def timings() -> dict[str, float]:
    variants = {"purerl uniform": uniform, "purerl prioritized": prioritized}
    variants |= {"flashbax item": flashbax_uniform, "flashbax prioritised": flashbax_prioritized}
    best: dict[str, float] = {}
    for capacity in (10_000, 100_000, 1_000_000):
        runs = {f"{name}, {capacity:,}": prepared(*make(capacity)) for name, make in variants.items()}
        for _ in range(9):
            for name, run in runs.items():
                begin = time.perf_counter()
                run()
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - begin)
    return {name: round(seconds / REPEATS * 1e6, 1) for name, seconds in best.items()}


def memory(population: int, capacity: int) -> dict[str, float]:
    """Megabytes of a run of DQN on CartPole: the state, and what XLA needs beside it."""
    env = purerl.envs.make("CartPole-v1")
    agent = purerl.combinators.with_replay(
        purerl.dqn(purerl.networks.q_network(env, (120, 84))), capacity=capacity, batch_size=128
    )
    hparams = purerl.DQNHparams()

    def begin(key: jax.Array) -> Any:
        return purerl.start(key, agent, env, hparams, num_envs=10)

    def advance(state: Any) -> Any:
        return purerl.advance(state, agent, env, num_updates=10, rollout_length=1)

    if population:
        begin, advance = jax.vmap(begin), jax.vmap(advance)
    keys = jax.random.split(jax.random.key(0), population) if population else jax.random.key(0)
    state = jax.eval_shape(begin, keys)
    analysis = jax.jit(advance, donate_argnums=0).lower(state).compile().memory_analysis()
    return {
        "ring_mb": round(replay.nbytes(state.agent_state.ring) / 1e6, 1),
        "state_mb": round(analysis.argument_size_in_bytes / 1e6, 1),
        "temporary_mb": round(analysis.temp_size_in_bytes / 1e6, 1),
        "aliased_mb": round(analysis.alias_size_in_bytes / 1e6, 1),
    }


def main() -> None:
    results = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}",
        "microseconds": timings(),
        "memory, DQN with 1,000,000 steps": memory(0, 1_000_000),
        "memory, 64 DQNs with 10,000 steps each": memory(64, 10_000),
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
