"""Worker of the single-file baseline, `benchmarks/peers/plain_ppo.py`."""

from __future__ import annotations

from typing import Any

import checkout  # noqa: F401  isort: skip
import jax
import pieces
from compiling import compiled
from serving import Built, serve

from benchmarks.peers import plain_ppo


def train(workload: dict[str, Any]) -> Built:
    """Training from the start: one agent, or `jax.vmap` over learning rates."""
    sizes = plain_ppo.Sizes(workload["num_envs"], workload["rollout_length"], workload["num_updates"])
    steps = sizes.num_envs * sizes.rollout_length * sizes.num_updates

    def one(key: jax.Array, rate: jax.Array) -> Any:
        return plain_ppo.train(key, plain_ppo.Hparams(learning_rate=rate), workload["env"], sizes)

    population = workload["population"]
    if population:
        rates = jax.numpy.geomspace(1e-4, 1e-3, population)
        run, facts = compiled(jax.vmap(one), lambda seed: (jax.random.split(jax.random.key(seed), population), rates))
    else:
        run, facts = compiled(one, lambda seed: (jax.random.key(seed), jax.numpy.float32(2.5e-4)))
    return Built(run, steps * max(population, 1), lambda result: pieces.last_returns(result[1]), facts)


if __name__ == "__main__":
    serve({"train": train})
