"""Trajectories whose steps are numbered, for tests of replay."""

import jax
import jax.numpy as jnp
import numpy as np

from purerl.types import Transition

NUM_ENVS = 3


def trajectory(start, length, width=NUM_ENVS):
    """Steps numbered from `start`: obs is the number times 10 plus the environment, as bytes and as a float."""
    number = np.arange(start, start + length)[:, None] * 10 + np.arange(width)
    obs = {"image": jnp.asarray(number[..., None] % 250, jnp.uint8), "number": jnp.asarray(number, jnp.float32)}
    flags = jnp.zeros(number.shape, bool)
    return Transition(obs, jnp.asarray(number, jnp.int32), jnp.asarray(number, jnp.float32), flags, flags, obs)


def example():
    return jax.tree.map(lambda x: x[0, 0], trajectory(0, 1))
