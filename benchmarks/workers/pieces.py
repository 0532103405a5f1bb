"""The inputs of what is measured by itself, the same on every side."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from serving import Built

BATCH, CYCLES, NUM_ENVS = 128, 200, 16
DISCOUNT, SWEEPS, SOLVES = np.float32(0.99), 10, 20
Q_LEARNING = {"step_size": 0.1, "discount": 0.99, "epsilon": 0.1}
VOCAB, TRANSFORMERS = 256, {"small": {"width": 64, "depth": 2}, "large": {"width": 128, "depth": 4}}


def steps() -> tuple[jax.Array, ...]:
    """One step of 16 CartPoles, leaves [1, N]: obs, action, reward, terminated, truncated, next_obs."""
    shape = (1, NUM_ENVS)
    obs, flag = jnp.ones((*shape, 4)), jnp.zeros(shape, bool)
    return obs, jnp.zeros(shape, jnp.int32), jnp.ones(shape), flag, flag, obs


def trajectory() -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """reward, discount, the row of values [T + 1, N], and trace decay, of episodes without an end."""
    key, shape = jax.random.key(0), (128, 4096)
    reward, row = jax.random.normal(key, shape), jax.random.normal(key, (shape[0] + 1, shape[1]))
    return reward, jnp.full_like(reward, 0.99), row, jnp.full_like(reward, 0.95)


def checksum(tree: Any) -> jax.Array:
    """A number that depends on every entry, so that nothing is left out."""
    return sum((jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(tree)), jnp.float32(0))


def repeated(cycle: Callable[[Any, jax.Array], tuple[Any, jax.Array]], state: Any) -> Built:
    """A compiled loop of 200 cycles that owns its state, as a training loop does."""
    keys = jax.random.split(jax.random.key(0), CYCLES)
    begin = time.perf_counter()
    loop = jax.jit(lambda state, keys: jax.lax.scan(cycle, state, keys), donate_argnums=0).lower(state, keys).compile()
    facts = {
        "compile_seconds": time.perf_counter() - begin,
        "argument_bytes": float(loop.memory_analysis().argument_size_in_bytes),
    }
    holder = [state]

    def run(seed: int) -> jax.Array:
        holder[0], out = loop(holder[0], jax.random.split(jax.random.key(seed), CYCLES))
        return jax.block_until_ready(out)

    return Built(run, CYCLES, None, facts)


def last_returns(returns: jax.Array) -> float:
    """Mean return of the episodes that ended in the last fifth of a run [..., updates]; NaN if none did."""
    curve = np.asarray(returns)
    last = curve[..., -max(1, curve.shape[-1] // 5) :]
    return float(np.nanmean(last)) if np.isfinite(last).any() else float("nan")
