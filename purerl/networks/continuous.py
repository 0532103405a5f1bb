"""Networks for real actions: a squashed Gaussian actor, a deterministic actor, and a critic of actions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purerl import distributions
from purerl.hparams import check_positive
from purerl.networks.images import Convolution, check_convolution
from purerl.networks.initializers import orthogonal
from purerl.networks.layers import ACTIVATIONS, Torso, check_hidden
from purerl.networks.observations import batched_features, check_batch, check_observation, features
from purerl.networks.products import thin_product
from purerl.networks.towers import layers_of, one_by_one, towers
from purerl.spaces import Box, Space, check_bounded, check_spaces
from purerl.types import HasSpaces, Key, Params, PyTree

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def gaussian_actor(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    layer_norm: bool = False,
    convolution: Convolution = True,
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
      convolution: how images enter: "minatar", "nature" or "impala", True for the one of their size, False to flatten
        them. See `networks.Torso`.
      dtype: dtype of the hidden layers' computation, such as "bfloat16"; parameters and outputs stay float32.

    Raises:
      ValueError: an unknown activation or convolution, a width that is not positive, images too small for the
        convolution, or an action with low == high.
      TypeError: actions that are not a `Box` with finite bounds.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, appendix D, which clips log σ to [−20, 2].

    Examples:
      >>> from purerl import envs
      >>> gaussian_actor(envs.probe(continuous=True), hidden=(32,)).torso.hidden
      (32,)
    """
    torso = real_torso(env, hidden, activation, layer_norm, convolution, dtype)
    return GaussianActor(env.observation_space, real_box(env), torso)


def deterministic_actor(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    layer_norm: bool = False,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> DeterministicActor:
    """The actor of TD3 and DDPG: `apply(params, obs) -> action`, middle + half · tanh(W h + b) of the bounds.

    Arguments and errors are those of `gaussian_actor`.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 7.

    Examples:
      >>> from purerl import envs
      >>> deterministic_actor(envs.probe(continuous=True)).action_space.shape
      (1,)
    """
    torso = real_torso(env, hidden, activation, layer_norm, convolution, dtype)
    return DeterministicActor(env.observation_space, real_box(env), torso)


def critic(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    layer_norm: bool = False,
    convolution: Convolution = True,
    dtype: str | None = None,
    num_quantiles: int | None = None,
    dropout: float = 0.0,
) -> Critic:
    """The critic of SAC, TD3 and DDPG: `apply(params, obs, action) -> q(s, a)`, a scalar.

    The action comes in the environment's units and enters the first layer as (a − middle) / half of the bounds, in
    [−1, 1], beside the observation; an image passes a convolution first.

    Args:
      env, hidden, activation, layer_norm, convolution, dtype: as for `gaussian_actor`.
      num_quantiles: outputs, [num_quantiles], as TQC needs; None: one value, a scalar.
      dropout: probability with which an output of a hidden layer is 0 in `apply(params, obs, action, key)`, as DroQ
        needs; without a key, and with `dropout=0`, nothing is random.

    Raises:
      ValueError, TypeError: as for `gaussian_actor`; `num_quantiles` is not positive, or `dropout` not in [0, 1).

    Source: Lillicrap et al. 2016, arXiv:1509.02971, eq. 4; the action in the first layer as in Fujimoto et al. 2018.

    Examples:
      >>> from purerl import envs
      >>> critic(envs.probe()).torso
      Traceback (most recent call last):
      ...
      TypeError: action_space must be a Box with finite bounds, got Discrete(n=2, dtype='int32')
    """
    check_positive(num_quantiles=1 if num_quantiles is None else num_quantiles)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    torso = real_torso(env, hidden, activation, layer_norm, convolution, dtype).clone(dropout=float(dropout))
    return Critic(env.observation_space, real_box(env), torso, num_quantiles)


class GaussianActor(nn.Module):
    """See `gaussian_actor`."""

    observation_space: Space
    action_space: Box
    torso: Torso

    @nn.compact
    def __call__(self, obs: PyTree) -> distributions.TanhGaussian:
        """One observation to the distribution of the action."""
        check_observation(obs, self.observation_space)
        x = self.torso(features(obs, self.observation_space))
        return self._distribution(*(small_dense(self.action_space.shape, name)(x) for name in ("mean", "log_std")))

    @nn.nowrap
    def apply_batch(self, params: Params, obs: PyTree) -> distributions.TanhGaussian:
        """`apply` for observations [B]."""
        x = batched_features(obs, self.observation_space) if self.torso.is_plain else None
        if x is None:
            return one_by_one(self, params, obs)
        return jax.vmap(self._distribution)(*_heads(params, ("mean", "log_std"), x, self.torso))

    def _distribution(self, mean: jax.Array, raw: jax.Array) -> distributions.TanhGaussian:
        """The distribution from the outputs of both heads."""
        shape = self.action_space.shape
        mean, raw = mean.reshape(shape), raw.reshape(shape)
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
    def __call__(self, obs: PyTree) -> jax.Array:
        """One observation to the action."""
        check_observation(obs, self.observation_space)
        x = self.torso(features(obs, self.observation_space))
        return self._action(small_dense(self.action_space.shape, "mean")(x))

    @nn.nowrap
    def apply_batch(self, params: Params, obs: PyTree) -> jax.Array:
        """`apply` for observations [B]."""
        x = batched_features(obs, self.observation_space) if self.torso.is_plain else None
        if x is None:
            return one_by_one(self, params, obs)
        return jax.vmap(self._action)(*_heads(params, ("mean",), x, self.torso))

    def _action(self, raw: jax.Array) -> jax.Array:
        """The action from the head's output."""
        half, middle = scale(self.action_space)
        return middle + half * jnp.tanh(raw.reshape(self.action_space.shape))


class Critic(nn.Module):
    """See `critic`."""

    observation_space: Space
    action_space: Box
    torso: Torso
    num_quantiles: int | None = None

    @property
    def dropout(self) -> float:
        """Probability with which an output of a hidden layer is 0 in calls with a key."""
        return self.torso.dropout

    @nn.compact
    def __call__(self, obs: PyTree, action: jax.Array, key: Key | None = None) -> jax.Array:
        """One observation and one action to q, a scalar, or to [num_quantiles]; `key` draws the dropout."""
        x = self.torso(state_and_action(self, obs, action), key)
        size = self.num_quantiles or 1
        q = nn.Dense(size, kernel_init=orthogonal(1.0), dot_general=thin_product, name="q")(x)
        return q[0] if self.num_quantiles is None else q

    @nn.nowrap
    def apply_each(self, params: Sequence[Params], obs: PyTree, action: jax.Array) -> list[jax.Array]:
        """`apply` for observations and actions [B] and each of several critics."""
        x = (
            batched_features(obs, self.observation_space)
            if self.torso.is_plain and self.num_quantiles is None
            else None
        )
        if x is None:
            return [one_by_one(self, one, obs, action) for one in params]
        check_batch(action, self.action_space, "action")
        x = jax.vmap(functools.partial(_with_action, self.action_space))(x, action)
        hidden = tuple(layers_of(one["params"]["torso"]) for one in params)
        heads = tuple((one["params"]["q"],) for one in params)
        return [q[:, 0] for (q,) in towers(hidden, heads, x, ACTIVATIONS[self.torso.activation])]


def state_and_action(critic: PyTree, obs: PyTree, action: jax.Array) -> jax.Array:
    """The input [D] of a critic's hidden layers: features of the observation, and the action scaled to [−1, 1].

    Called within `critic`, a module with the fields of `Critic`, of which an image's convolution becomes a child.
    """
    check_observation(obs, critic.observation_space)
    check_observation(action, critic.action_space, "action")
    x: PyTree = features(obs, critic.observation_space)
    if isinstance(x, tuple) or x.ndim == 3:  # [H, W, C] -> [H' W' C']
        x = critic.torso.copy(hidden=(), parent=critic, name="image")(x).astype(jnp.float32)
    return _with_action(critic.action_space, x, action)


def _with_action(space: Box, x: jax.Array, action: jax.Array) -> jax.Array:
    """Features [D] and the scaled action side by side."""
    half, middle = scale(space)
    return jnp.concatenate([x, ((action - middle) / half).reshape(-1)])


def _heads(params: Params, names: tuple[str, ...], x: jax.Array, torso: Torso) -> tuple[jax.Array, ...]:
    """The outputs [B, O] of the heads of these names over one torso."""
    own = params["params"]
    heads = tuple(own[name] for name in names)
    return towers((layers_of(own["torso"]),), (heads,), x, ACTIVATIONS[torso.activation])[0]


def scale(space: Box) -> tuple[jax.Array, jax.Array]:
    """Half the width and the middle of the finite bounds of a box."""
    low, high = map(jnp.asarray, space.bounds())
    return (high - low) / 2, (high + low) / 2


def small_dense(shape: tuple[int, ...], name: str) -> nn.Dense:
    """A last layer whose outputs hardly depend on the observation at the start."""
    size = int(np.prod(shape, dtype=int))
    return nn.Dense(size, kernel_init=orthogonal(0.01), dot_general=thin_product, name=name)


def real_box(env: HasSpaces) -> Box:
    """The action space, which must be a `Box` with finite bounds.

    Raises:
      TypeError: it is another space, or has an infinite bound.
      ValueError: an element has low == high.
    """
    check_spaces(env)
    space = env.action_space
    if not isinstance(space, Box) or not np.isfinite(space.bounds()).all():
        raise TypeError(f"action_space must be a Box with finite bounds, got {space}")
    check_bounded(space)
    return space


def real_torso(
    env: HasSpaces,
    hidden: tuple[int, ...],
    activation: str,
    layer_norm: bool,
    convolution: Convolution,
    dtype: str | None,
) -> Torso:
    """The hidden layers, with their widths, activation and convolution checked."""
    check_spaces(env)
    check_hidden(hidden, activation)
    check_convolution(env.observation_space, convolution)
    return Torso(tuple(hidden), activation, layer_norm, convolution, dtype)
