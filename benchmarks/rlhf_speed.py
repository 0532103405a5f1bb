"""Tokens a second of cached and uncached generation at batch 64, and DPO steps a second at two sizes.

    python benchmarks/rlhf_speed.py [--sizes small large] [--repeats 3] [--output benchmarks/results/rlhf_speed.json]

Runs alternate; figures are medians, ratios those of the medians. The sizes that are not run keep their record.
"""

import argparse
import functools
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from purerl import rlhf

SIZES = {"small": {"width": 64, "depth": 2}, "large": {"width": 128, "depth": 4}}
BATCH, PROMPT, LENGTH, VOCAB = 64, 16, 64, 256


def timed(function, *arguments):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def generation(size, repeats):
    network = rlhf.transformer(VOCAB + 2, **SIZES[size])
    prompts = jax.random.randint(jax.random.key(0), (BATCH, PROMPT), 0, VOCAB)
    params = network.init(jax.random.key(1), prompts[0], jnp.ones(PROMPT, bool))
    networks = {"cached": network, "uncached": rlhf.Network(network.init, network.apply)}
    runs = {
        name: jax.jit(functools.partial(rlhf.generate, network=n, max_length=LENGTH, eos_id=-1, pad_id=VOCAB + 1))
        for name, n in networks.items()
    }
    times = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            seconds = timed(functools.partial(run, jax.random.key(repeat), params=params, prompts=prompts))
            times[name] += [seconds] * (repeat > 0)
    rates = {name: BATCH * LENGTH / statistics.median(t) for name, t in times.items()}
    return {f"{name}_tokens_per_second": round(rate) for name, rate in rates.items()} | {
        "speedup": round(rates["cached"] / rates["uncached"], 2)
    }


def dpo(size, repeats):
    network = rlhf.transformer(VOCAB + 2, **SIZES[size])
    shape = (BATCH, 2, PROMPT + LENGTH)
    data = {
        "tokens": jax.random.randint(jax.random.key(0), shape, 0, VOCAB),
        "mask": jnp.ones(shape, bool),
        "completion": jnp.broadcast_to(jnp.arange(shape[2]) >= PROMPT, shape),
        "ref_log_prob": jnp.full(shape[:2], -LENGTH * 5.0),
    }
    agent = rlhf.direct_alignment(network, "dpo")
    state = agent.init(jax.random.key(1), rlhf.LearnerHparams(), data)
    update = jax.jit(agent.update)
    times = [timed(update, jax.random.key(2), state, data) for _ in range(repeats + 1)][1:]
    return {"dpo_steps_per_second": round(1 / statistics.median(times), 3), "pairs": BATCH, "tokens": shape[2]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    kept = json.loads(options.output.read_text())["results"] if options.output and options.output.exists() else {}
    results = kept | {"device": jax.devices()[0].device_kind, "batch": BATCH, "prompt": PROMPT, "length": LENGTH}
    for size in options.sizes:
        results[size] = (
            SIZES[size] | {"repeats": options.repeats} | generation(size, options.repeats) | dpo(size, options.repeats)
        )
        print(size, results[size], flush=True)
    if options.output:
        record = {"command": "python benchmarks/rlhf_speed.py", "results": results}
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
