"""A trajectory with every kind of ending, for learners with tables."""

import jax.numpy as jnp
import numpy as np

from purerl.types import Transition


def trajectory(num_states, num_actions, length=60, seed=0):
    """Steps in one environment with terminated and truncated episodes, whose successors follow on: leaves [T, 1]."""
    rng = np.random.default_rng(seed)
    obs = rng.integers(0, num_states, length + 1)
    terminated = rng.random(length) < 0.1
    truncated = ~terminated & (rng.random(length) < 0.1)
    next_obs = np.where(terminated | truncated, rng.integers(0, num_states, length), obs[1:])
    columns = (obs[:-1], rng.integers(0, num_actions, length), rng.normal(size=length), terminated, truncated, next_obs)
    kinds = (jnp.int32, jnp.int32, jnp.float32, bool, bool, jnp.int32)
    return Transition(*(jnp.asarray(x, kind)[:, None] for x, kind in zip(columns, kinds)))


def rows(data):
    """(state, action, reward, terminated, truncated, successor) of each step, as plain numbers."""
    columns = (data.obs, data.action, data.reward, data.terminated, data.truncated, data.next_obs)
    return list(zip(*(np.asarray(x)[:, 0].tolist() for x in columns)))


def split(data):
    """Lists of `rows`, one an episode, the last one unfinished."""
    found = [[]]
    for row in rows(data):
        found[-1].append(row)
        if row[3] or row[4]:
            found.append([])
    return found
