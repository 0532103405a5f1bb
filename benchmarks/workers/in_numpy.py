"""Worker of the loops that someone would write in NumPy."""

from __future__ import annotations

from typing import Any

import checkout  # noqa: F401  isort: skip
import jax
import numpy as np
import pieces
from serving import Built, serve

from purerl import mdp


def q_learning(workload: dict[str, Any]) -> Built:
    """The textbook's loop on the slippery 4 x 4 lake, with its random numbers drawn beforehand."""
    lake = mdp.from_gymnasium("FrozenLake-v1")
    next_state, reward, terminated = (np.asarray(x).tolist() for x in (lake.next_state, lake.reward, lake.terminated))
    cumulative = np.cumsum(np.asarray(lake.probability), -1).tolist()
    step_size, discount, epsilon = pieces.Q_LEARNING.values()
    num_steps = 50_000

    def run(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        explore, outcome = rng.random((2, num_steps)).tolist()
        random_action = rng.integers(0, 4, num_steps).tolist()
        q, s, t = np.zeros((16, 4)), 0, 0
        for i in range(num_steps):
            row = q[s]
            a = random_action[i] if explore[i] < epsilon or row.max() == row.min() else int(row.argmax())
            k = sum(c <= outcome[i] for c in cumulative[s][a][:-1])
            after, done, t = next_state[s][a][k], terminated[s][a][k], t + 1
            target = reward[s][a][k] + discount * (0.0 if done else q[after].max())
            row[a] += step_size * (target - row[a])
            s, t = (0, 0) if done or t >= 100 else (after, t)
        return q

    return Built(run, num_steps)


def value_iterations(workload: dict[str, Any]) -> Built:
    """The backup of one MDP after another, for a hundred of them."""
    keys = jax.random.split(jax.random.key(0), 10_000)[:100]
    many = jax.jit(jax.vmap(lambda key: mdp.random_mdp(key, 64, 4, 3)))(keys)
    next_state, probability, reward = (np.asarray(field) for field in many[:3])
    expected = (probability * reward).sum(-1)

    def run(seed: int) -> np.ndarray:
        values = np.zeros((len(keys), 64), np.float32)
        for i in range(len(keys)):
            for _ in range(pieces.SWEEPS):
                following = (probability[i] * values[i][next_state[i]]).sum(-1)
                values[i] = (expected[i] + pieces.DISCOUNT * following).max(-1)
        return values

    return Built(run, len(keys) * pieces.SWEEPS)


def policy_iteration(workload: dict[str, Any]) -> Built:
    """Howard's algorithm in float64 on the 8 x 8 lake: `np.linalg.solve`, then argmax, until no action changes."""
    lake = mdp.from_gymnasium("FrozenLake8x8-v1")
    weight = np.asarray(lake.probability, np.float64) * ~np.asarray(lake.terminated)
    transition = np.einsum("sak,sakt->sat", weight, np.eye(64)[np.asarray(lake.next_state)])
    reward = np.asarray(lake.probability * lake.reward, np.float64).sum(-1)

    def run(seed: int) -> list[np.ndarray]:
        return [howard(transition, reward, 0.99) for _ in range(pieces.SOLVES)]

    return Built(run, pieces.SOLVES)


def howard(transition: np.ndarray, reward: np.ndarray, discount: float) -> np.ndarray:
    """Optimal values [S] by policy iteration."""
    states, action = np.arange(len(reward)), np.zeros(len(reward), int)
    while True:
        value = np.linalg.solve(np.eye(len(reward)) - discount * transition[states, action], reward[states, action])
        q = reward + discount * transition @ value
        better = np.where(q.max(1) > q[states, action] + 1e-10, q.argmax(1), action)
        if (better == action).all():
            return value
        action = better


if __name__ == "__main__":
    serve({"q_learning": q_learning, "value_iterations": value_iterations, "policy_iteration": policy_iteration})
