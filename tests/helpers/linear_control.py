"""Linear actors and critics of two features and one action in [-2, 2], with windows, in JAX and in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from purerl import distributions
from purerl.spaces import Box
from purerl.types import Transition

SIZE, LOW, HIGH = 6, -2.0, 2.0


class GaussianActor:
    """params [2, 2]: mean and log deviation of the squashed Gaussian, each linear in the observation."""

    action_space = Box(LOW, HIGH, (1,))

    def init(self, key, obs):
        return 0.5 * jax.random.normal(key, (2, 2))

    def apply(self, params, obs):
        return distributions.tanh_gaussian(obs @ params[:, :1], obs @ params[:, 1:], LOW, HIGH)


class DeterministicActor:
    """params [2]: the action is 2 tanh of a linear function of the observation."""

    action_space = Box(LOW, HIGH, (1,))

    def init(self, key, obs):
        return 0.5 * jax.random.normal(key, (2,))

    def apply(self, params, obs):
        return HIGH * jnp.tanh(obs @ params)[None]


class Critic:
    """params [5], linear in the features below."""

    def init(self, key, obs, action):
        return jax.random.normal(key, (5,))

    def apply(self, params, obs, action):
        return jnp.array([obs[0], obs[1], action[0], action[0] ** 2, obs[0] * action[0]]) @ params


def features(obs, action):
    """[B, 5] float64 from [B, 2] and [B]."""
    return np.stack([obs[:, 0], obs[:, 1], action, action**2, obs[:, 0] * action], axis=1)


def sampled(actor, obs, epsilon):
    """Actions [B] of `GaussianActor` with standard normal noise [B], and their log-densities once scaled to [-1, 1]."""
    log_std = obs @ actor[:, 1]
    squashed = np.tanh(obs @ actor[:, 0] + np.exp(log_std) * epsilon)
    log_prob = -0.5 * epsilon**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log(1 - squashed**2)
    return 2 * squashed, log_prob


def window(length=2):
    """Windows [length, SIZE] with ends of both kinds within, and weights."""
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, length, SIZE, 2)).astype(np.float32)
    reward = rng.normal(size=(length, SIZE)).astype(np.float32)
    terminated, truncated = rng.random((2, length, SIZE)) < 0.3
    action = rng.uniform(LOW, HIGH, (length, SIZE, 1)).astype(np.float32)
    weight = np.broadcast_to(rng.uniform(0.2, 1.0, SIZE).astype(np.float32), (length, SIZE))
    fields = (obs, action, reward, terminated, truncated, next_obs)
    return Transition(*map(jnp.asarray, fields), mask=jnp.asarray(weight))


def read(data, gamma):
    """Observation, action, two-step return, bootstrap factor, successor and weight of each window, by hand."""
    x = jax.tree.map(lambda leaf: np.asarray(leaf, bool if leaf.dtype == bool else float), data)
    ended = x.terminated[0] | x.truncated[0]
    reward = np.where(ended, x.reward[0], x.reward[0] + gamma * x.reward[1])
    factor = np.where(ended, gamma * ~x.terminated[0], gamma**2 * ~x.terminated[1])
    successor = np.where(ended[:, None], x.next_obs[0], x.next_obs[1])
    return x.obs[0], x.action[0, :, 0], reward, factor, successor, x.mask[0]


def slope(function, x, width=1e-6):
    """The gradient of a scalar function of float64 numbers, by central differences."""
    moved = [width * np.eye(x.size)[i].reshape(x.shape) for i in range(x.size)]
    return np.array([(function(x + d) - function(x - d)) / (2 * width) for d in moved]).reshape(x.shape)


def normals(key, *shape):
    """The standard normal numbers that an agent draws with this key, float64."""
    return np.asarray(jax.random.normal(key, shape), float)


def to_numpy(tree):
    """Every leaf in float64."""
    return jax.tree.map(lambda x: np.asarray(x, float), tree)
