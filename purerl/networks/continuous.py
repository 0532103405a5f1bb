"""Networks for real actions: a squashed Gaussian actor, a deterministic actor, and a critic of actions."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purerl import distributions
from purerl.networks.initializers import orthogonal
from purerl.networks.layers import Torso, check_hidden
from purerl.networks.observations import check_observation, encode
from purerl.spaces import Box, Space
from purerl.types import HasSpaces

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def gaussian_actor(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    layer_norm: bool = False,
    dtype: str | None = None,
) -> GaussianActor:
    """The actor of SAC: `apply(params, obs) -> distributions.TanhGaussian` over the bounds of the action space.

    Mean and deviation both depend on the observation: with h the last hidden layer,

        μ = W h + b,   log σ = −5 + 7 · sigmoid(V h + c + log(5/2)),

    so that −5 < log σ < 2 with a gradient everywhere, and σ is about 1, a nearly uniform action, at the start.

    Args:
      env: the environment, read for its spaces only.
      hidden: widths of the hidden layers.
      activation: one of tanh, relu, silu, gelu, elu.
      layer_norm: normalise every hidden layer before its activation.
      dtype: dtype of the hidden layers' computation, such as "bfloat16"; parameters and outputs stay float32.

    Raises:
      ValueError: an unknown activation, or a width that is not positive.
      TypeError: actions that are not a `Box` with finite bounds.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, appendix D, which clips log σ to [−20, 2].
    """
    return GaussianActor(env.observation_space, real_box(env), real_torso(hidden, activation, layer_norm, dtype))


def deterministic_actor(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    layer_norm: bool = False,
    dtype: str | None = None,
) -> DeterministicActor:
    """The actor of TD3 and DDPG: `apply(params, obs) -> action`, middle + half · tanh(W h + b) of the bounds.

    Arguments and errors are those of `gaussian_actor`.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 7.
    """
    return DeterministicActor(env.observation_space, real_box(env), real_torso(hidden, activation, layer_norm, dtype))


def critic(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    layer_norm: bool = False,
    dtype: str | None = None,
) -> Critic:
    """The critic of SAC, TD3 and DDPG: `apply(params, obs, action) -> q(s, a)`, a scalar.

    The action comes in the environment's units and enters the first layer as (a − middle) / half of the bounds, in
    [−1, 1], beside the observation; an image passes a convolution first.

    Arguments and errors are those of `gaussian_actor`.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, eq. 4; the action in the first layer as in Fujimoto et al. 2018.
    """
    return Critic(env.observation_space, real_box(env), real_torso(hidden, activation, layer_norm, dtype))


class GaussianActor(nn.Module):
    """See `gaussian_actor`."""

    observation_space: Space
    action_space: Box
    torso: Torso

    @nn.compact
    def __call__(self, obs: Any) -> distributions.TanhGaussian:
        """One observation to the distribution of the action."""
        check_observation(obs, self.observation_space)
        x = self.torso(encode(obs, self.observation_space))
        shape = self.action_space.shape
        mean, raw = (small_dense(shape, name)(x).reshape(shape) for name in ("mean", "log_std"))
        shift = math.log((0.0 - LOG_STD_MIN) / LOG_STD_MAX)
        log_std = LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * jax.nn.sigmoid(raw + shift)
        low, high = map(jnp.asarray, self.action_space.bounds())
        return distributions.tanh_gaussian(mean, log_std, low, high, event_ndims=len(shape))


class DeterministicActor(nn.Module):
    """See `deterministic_actor`."""

    observation_space: Space
    action_space: Box
    torso: Torso

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:
        """One observation to the action."""
        check_observation(obs, self.observation_space)
        x = self.torso(encode(obs, self.observation_space))
        shape = self.action_space.shape
        half, middle = scale(self.action_space)
        return middle + half * jnp.tanh(small_dense(shape, "mean")(x).reshape(shape))


class Critic(nn.Module):
    """See `critic`."""

    observation_space: Space
    action_space: Box
    torso: Torso

    @nn.compact
    def __call__(self, obs: Any, action: jax.Array) -> jax.Array:
        """One observation and one action to q, a scalar."""
        check_observation(obs, self.observation_space)
        check_observation(action, self.action_space, "action")
        x = encode(obs, self.observation_space)
        if x.ndim == 3:
            x = self.torso.copy(hidden=(), parent=self, name="image")(x).astype(jnp.float32)
        half, middle = scale(self.action_space)
        x = jnp.concatenate([x, ((action - middle) / half).reshape(-1)])
        return nn.Dense(1, kernel_init=orthogonal(1.0), name="q")(self.torso(x))[0]


def scale(space: Box) -> tuple[jax.Array, jax.Array]:
    """Half the width and the middle of the finite bounds of a box."""
    low, high = map(jnp.asarray, space.bounds())
    return (high - low) / 2, (high + low) / 2


def small_dense(shape: tuple[int, ...], name: str) -> nn.Dense:
    """A last layer that says about the same of every observation at the start."""
    return nn.Dense(int(np.prod(shape, dtype=int)), kernel_init=orthogonal(0.01), name=name)


def real_box(env: HasSpaces) -> Box:
    """The action space, where it is a `Box` with finite bounds; a TypeError otherwise."""
    space = env.action_space
    if not isinstance(space, Box) or not np.isfinite(space.bounds()).all():
        raise TypeError(f"action_space must be a Box with finite bounds, got {space}")
    return space


def real_torso(hidden: tuple[int, ...], activation: str, layer_norm: bool, dtype: str | None) -> Torso:
    """The hidden layers, once their widths and activation are found to be possible."""
    check_hidden(hidden, activation)
    return Torso(tuple(hidden), activation, layer_norm, dtype=dtype)
