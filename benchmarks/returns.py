"""How fast `returns.gae` and `returns.lambda_returns` are beside rlax's, alternating in one process.

`python benchmarks/returns.py` prints a table and writes benchmarks/results/returns.json. It needs the `test` extra and
a quiet machine.
"""

import functools
import json
import os
import pathlib
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np
import rlax
from jax import lax

from purerl import returns

RESULT = pathlib.Path(__file__).parent / "results" / "returns.json"
LENGTH, NUM_ENVS, ROUNDS = 128, 4096, 600


def inputs():
    """reward, discount, value, next_value and trace_decay of endless episodes: rlax knows no other truncation."""
    key = jax.random.key(0)
    reward, row = jax.random.normal(key, (LENGTH, NUM_ENVS)), jax.random.normal(key, (LENGTH + 1, NUM_ENVS))
    discount, decay = jnp.full_like(reward, 0.99), jnp.full_like(reward, 0.95)
    return reward, discount, row, row[:-1] + 0, row[1:] + 0, decay


def associative_gae(reward, discount, value, next_value, trace_decay):
    """The same recursion as an associative scan of affine maps."""

    def join(later, earlier):
        return earlier[0] * later[0], earlier[1] + earlier[0] * later[1]

    delta = reward + discount * next_value - value
    return lax.associative_scan(join, (discount * trace_decay, delta), reverse=True)[1]


def unrolled_gae(reward, discount, value, next_value, trace_decay):
    """The same scan with its body four times in each iteration."""

    def body(a, x):
        r, d, v, w, k = x
        a = r + d * w - v + d * k * a
        return a, a

    xs = (reward, discount, value, next_value, trace_decay)
    return lax.scan(body, jnp.zeros_like(reward[0]), xs, reverse=True, unroll=4)[1]


def candidates():
    """Name to a compiled call without arguments. rlax works on one column, so it is vmapped over the second axis."""
    reward, discount, row, value, next_value, decay = inputs()
    columns = functools.partial(jax.vmap, in_axes=1, out_axes=1)
    calls = {
        "purerl.gae": (returns.gae, (reward, discount, value, next_value, decay)),
        "rlax.gae": (columns(rlax.truncated_generalized_advantage_estimation), (reward, discount, decay, row)),
        "associative scan": (associative_gae, (reward, discount, value, next_value, decay)),
        "scan, unroll 4": (unrolled_gae, (reward, discount, value, next_value, decay)),
        "purerl.lambda_returns": (returns.lambda_returns, (reward, discount, next_value, decay)),
        "rlax.lambda_returns": (columns(rlax.lambda_returns), (reward, discount, next_value, decay)),
    }
    return {name: functools.partial(jax.jit(function), *args) for name, (function, args) in calls.items()}


def measure():
    """Milliseconds of every candidate in every round; their order is random, as a predecessor may warm the cache."""
    calls = candidates()
    for call in calls.values():
        call().block_until_ready()
    seconds = {name: [] for name in calls}
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for name in rng.permutation(list(calls)):
            start = time.perf_counter()
            calls[name]().block_until_ready()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * np.array(times) for name, times in seconds.items()}


def main():
    times = measure()
    ratios = {
        f"rlax / purerl, {name}": float(np.median(times[f"rlax.{name}"]) / np.median(times[f"purerl.{name}"]))
        for name in ("gae", "lambda_returns")
    }
    result = {
        "T": LENGTH, "N": NUM_ENVS, "rounds": ROUNDS, "jax": jax.__version__, "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(), "machine": platform.machine(),
        "median_ms": {name: round(float(np.median(t)), 3) for name, t in times.items()},
        "fastest_tenth_ms": {name: round(float(np.quantile(t, 0.1)), 3) for name, t in times.items()},
        "ratio_of_medians": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
