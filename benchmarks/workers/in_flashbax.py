"""Worker of flashbax's side, in an environment of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import flashbax
import jax
import pieces
from serving import Built, serve


class Step(NamedTuple):
    """One step of an environment."""

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: jax.Array


def replayed(workload: dict[str, Any]) -> Built:
    """The item buffer, or the flat buffer with priorities."""
    steps = jax.tree.map(lambda x: x[0], Step(*pieces.steps()))
    example = jax.tree.map(lambda x: x[0], steps)
    if not workload["priority"]:
        items = flashbax.make_item_buffer(workload["capacity"], 1, pieces.BATCH, add_batches=True)

        def uniform(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            state = items.add(state, steps)
            return state, pieces.checksum(items.sample(state, key).experience)

        return pieces.repeated(uniform, items.init(example))
    flat = flashbax.make_prioritised_flat_buffer(
        workload["capacity"], 1, pieces.BATCH, add_batch_size=pieces.NUM_ENVS, priority_exponent=0.6
    )

    def prioritized(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        state = flat.add(state, steps)
        sample = flat.sample(state, key)
        state = flat.set_priorities(state, sample.indices, 1.0 + sample.probabilities)
        return state, pieces.checksum(sample.experience.first)

    return pieces.repeated(prioritized, flat.init(example))


if __name__ == "__main__":
    serve({"replay": replayed})
