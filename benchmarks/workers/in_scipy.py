"""Worker of the backup as a product with a SciPy CSR matrix."""

from __future__ import annotations

from typing import Any

import checkout  # noqa: F401  isort: skip
import jax
import numpy as np
import pieces
import scipy.sparse
from serving import Built, serve

from purerl import mdp


def value_iteration(workload: dict[str, Any]) -> Built:
    """Sweeps over the random MDP of a million states."""
    model = mdp.random_mdp(jax.random.key(0), 1_000_000, 4, 3, termination=0.01)
    weight = np.asarray(model.probability * ~model.terminated)
    reward = np.asarray(model.probability * model.reward).sum(-1)
    num_states, num_actions, num_outcomes = weight.shape
    starts = np.arange(num_states * num_actions + 1, dtype=np.int32) * num_outcomes
    arrays = (weight.ravel(), np.asarray(model.next_state).ravel(), starts)
    matrix = scipy.sparse.csr_matrix(arrays, shape=(num_states * num_actions, num_states))

    def run(seed: int) -> np.ndarray:
        value = np.zeros(num_states, np.float32)
        for _ in range(pieces.SWEEPS):
            value = (reward + pieces.DISCOUNT * (matrix @ value).reshape(reward.shape)).max(1)
        return value

    return Built(run, pieces.SWEEPS)


if __name__ == "__main__":
    serve({"value_iteration": value_iteration})
