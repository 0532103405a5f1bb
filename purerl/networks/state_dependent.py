"""An actor whose noise is a function of the state: generalised state-dependent exploration (gSDE)."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl import distributions
from purerl.exploration import noise
from purerl.networks.continuous import real_box, real_torso, small_dense
from purerl.networks.images import Convolution
from purerl.networks.layers import Torso
from purerl.networks.observations import check_observation, features
from purerl.spaces import Box, Space
from purerl.types import HasSpaces, PyTree


def gsde_actor(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    initial_std: float = 1.0,
    layer_norm: bool = False,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> GSDEActor:
    """The actor of SAC with gSDE: a squashed Gaussian whose deviation is that of a random linear map of the features.

    With z [D] the last hidden layer and L [D, A] learned, of which every entry is log `initial_std` at the start,

        μ = W z + b,   log σ[j] = ½ log(Σ_i z[i]² exp(2 L[i, j]) + 1e-6),

    so σ = `initial_std` · |z| at the start. `apply(params, obs, epsilon)` moves μ by zᵀ (exp(L) ∘ epsilon): for
    a matrix epsilon [D, A] of standard normal numbers the mode of that is distributed as a sample of
    `apply(params, obs)`, but the same epsilon means the same noise in the same state.

    Args:
      env: the environment, read for its spaces only.
      hidden: widths of the hidden layers, at least one.
      activation: one of tanh, relu, silu, gelu, elu.
      initial_std: deviation of the noise at the start, before the squashing, for features of length 1.
      layer_norm: normalise every hidden layer before its activation.
      convolution: how images enter: "minatar", "nature" or "impala", True for the one of their size, False to flatten
        them. See `networks.Torso`.
      dtype: dtype of the hidden layers' computation, such as "bfloat16"; parameters and outputs stay float32.

    Raises:
      ValueError: an unknown activation or convolution, no hidden layer, a width or an `initial_std` that is not
        positive, images too small for the convolution, or an action with low == high.
      TypeError: actions that are not a `Box` with finite bounds.

    Source: Raffin et al. 2022, arXiv:2005.05719, eq. 3 and 5; features not stopped, as in their code of SAC.

    Examples:
      >>> from purerl import envs
      >>> gsde_actor(envs.probe(continuous=True), hidden=(32,)).noise_shape
      (32, 1)
    """
    if not hidden:
        raise ValueError("hidden must have a layer: its outputs are the features of the noise")
    if not initial_std > 0:
        raise ValueError(f"initial_std must be above 0, got {initial_std}")
    torso = real_torso(env, hidden, activation, layer_norm, convolution, dtype)
    return GSDEActor(env.observation_space, real_box(env), torso, math.log(initial_std))


class GSDEActor(nn.Module):
    """See `gsde_actor`."""

    observation_space: Space
    action_space: Box
    torso: Torso
    initial_log_std: float

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape [D, A] of the matrix that the noise of an episode is made of."""
        return self.torso.hidden[-1], math.prod(self.action_space.shape)

    @nn.compact
    def __call__(self, obs: PyTree, epsilon: jax.Array | None = None) -> distributions.TanhGaussian:
        """One observation to the distribution of the action; its mean is moved by the noise that `epsilon` makes."""
        check_observation(obs, self.observation_space)
        shape = self.action_space.shape
        z = self.torso(features(obs, self.observation_space)).astype(jnp.float32)
        constant = nn.initializers.constant(self.initial_log_std, jnp.float32)
        weights_log_std = self.param("log_std", constant, self.noise_shape)
        mean = small_dense(shape, "mean")(z)
        if epsilon is not None:
            mean = mean + noise.gsde_noise(z, jnp.exp(weights_log_std) * epsilon)
        log_std = noise.gsde_log_std(z, weights_log_std)
        low, high = map(jnp.asarray, self.action_space.bounds())
        return distributions.tanh_gaussian(
            mean.reshape(shape), log_std.reshape(shape), low, high, event_ndims=len(shape)
        )
