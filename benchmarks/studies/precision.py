"""Does PPO learn CartPole as well when its matrix products are rounded? On a CPU, with the rounding emulated.

    python benchmarks/studies/precision.py                    # all; or names: tf32 bf16 dtype
    python benchmarks/studies/precision.py --num-seeds 16

Emulated TF32 rounds both factors of every matrix product, forward and backward, to 10 bits of mantissa, bfloat16
products to 7; sums stay float32, as on a GPU or a TPU. "dtype" is `networks.actor_critic(env, dtype="bfloat16")`:
hidden layers compute and store in bfloat16. Seed s is the same key in all, so differences are paired.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import presets
from purerl.sweep import interquartile_mean

RECORD = pathlib.Path(__file__).parents[1] / "results" / "precision.json"
MANTISSA = {"float32": 23, "tf32": 10, "bf16": 7, "dtype": 23}
ENV, ALGORITHM = "CartPole-v1", "ppo"


def rounded(bits: int) -> Any:
    """`jax.lax.dot_general` with factors, and cotangents, of so many bits of mantissa."""
    exact = jax.lax.dot_general

    def fewer(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_precision(x, 8, bits) if x.dtype == jnp.float32 else x

    @jax.custom_vjp
    def factor(x: jax.Array) -> jax.Array:
        return fewer(x)

    factor.defvjp(lambda x: (fewer(x), None), lambda _, g: (g,))

    @jax.custom_vjp
    def result(x: jax.Array) -> jax.Array:
        return x

    result.defvjp(lambda x: (x, None), lambda _, g: (fewer(g),))  # a factor of both products of the backward pass

    def dot_general(a: jax.Array, b: jax.Array, *rest: Any, **keywords: Any) -> jax.Array:
        return result(exact(factor(a), factor(b), *rest, **keywords))

    return dot_general


def train(name: str, num_seeds: int, num_steps: int) -> np.ndarray:
    """Mean greedy return of every seed after training."""
    env = purerl.envs.make(ENV)
    preset = presets.find(ALGORITHM, ENV, env)._replace(num_steps=num_steps)
    preset = preset._replace(network=dict(preset.network) | ({"dtype": "bfloat16"} if name == "dtype" else {}))
    agent, hparams = presets.build(preset, env), presets.hparams(preset)
    sizes = {"num_envs": preset.num_envs, "rollout_length": preset.rollout_length}

    def run(key: jax.Array) -> jax.Array:
        train_key, eval_key = jax.random.split(key)
        state, _ = purerl.train(train_key, agent, env, hparams, num_updates=preset.num_updates, **sizes)
        played = purerl.evaluate(eval_key, agent, env, state, num_episodes=32, max_steps=500)
        return played.episode_return.mean()

    with mock.patch("jax.lax.dot_general", rounded(MANTISSA[name])):  # flax looks it up in every call
        return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), num_seeds)))


def main() -> None:
    """Train under each precision and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MANTISSA))
    parser.add_argument("--num-seeds", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=200_000)
    chosen = parser.parse_args()
    for name in chosen.names:
        begun = time.perf_counter()
        returns = train(name, chosen.num_seeds, chosen.num_steps)
        record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
        record[name] = {
            "returns": np.round(returns.astype(float), 2).tolist(),
            "interquartile_mean": float(interquartile_mean(returns)),
            "num_steps": chosen.num_steps,
            "seconds": round(time.perf_counter() - begun, 1),
        }
        if "float32" in record:
            pairs = returns - np.array(record["float32"]["returns"][: len(returns)])
            draws = np.random.default_rng(0).choice(pairs, (10_000, len(pairs))).mean(axis=1)
            record[name]["minus_float32"] = [float(pairs.mean()), *np.percentile(draws, [2.5, 97.5]).tolist()]
        print(name, record[name], flush=True)
        RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
