"""A critic whose layers are normalized over the batch, as CrossQ needs, with running statistics beside parameters."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.hparams import check_positive
from purerl.networks.continuous import real_box, real_torso, state_and_action
from purerl.networks.images import Convolution
from purerl.networks.initializers import orthogonal
from purerl.networks.layers import ACTIVATIONS, Torso
from purerl.spaces import Box, Space
from purerl.types import HasSpaces, Key, Params, PyTree

Variables = tuple[Params, PyTree]
"""Parameters, and running statistics, which no gradient moves."""
_AXIS, _STATISTICS = "batch", "statistics"
_R_MAX, _D_MAX, _EPSILON = 3.0, 5.0, 1e-3


class BatchNormCritic(NamedTuple):
    """See `batch_norm_critic`."""

    module: _Module

    def init(self, key: Key, obs: PyTree, action: jax.Array) -> Variables:
        """Parameters, and the statistics of inputs of mean 0 and variance 1."""
        variables = self.module.init(key, obs, action)
        return {"params": variables["params"]}, variables[_STATISTICS]

    def apply(self, variables: Variables, obs: PyTree, action: jax.Array) -> jax.Array:
        """q of one observation and action, normalized by the running statistics."""
        params, statistics = variables
        q: PyTree = self.module.apply({**params, _STATISTICS: statistics}, obs, action)
        return jnp.asarray(q)

    def apply_training(self, variables: Variables, obs: PyTree, action: jax.Array) -> tuple[jax.Array, PyTree]:
        """Values [B] normalized by the statistics of the batch, and the running statistics after it."""
        params, statistics = variables

        def one(obs: PyTree, action: jax.Array) -> tuple[jax.Array, PyTree]:
            given = {**params, _STATISTICS: statistics}
            q, changed = self.module.apply(given, obs, action, over_batch=True, mutable=[_STATISTICS])
            return q, changed[_STATISTICS]

        return jax.vmap(one, out_axes=(0, None), axis_name=_AXIS)(obs, action)


def batch_norm_critic(
    env: HasSpaces,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    *,
    momentum: float = 0.99,
    warmup_steps: int = 100_000,
    convolution: Convolution = True,
    dtype: str | None = None,
) -> BatchNormCritic:
    """The critic of CrossQ: `apply((params, statistics), obs, action) -> q`, with batch renormalization.

    The input and each hidden layer behind its activation pass

        y = s ∘ ((x − μ) / σ · r + d) + b,   r = clip(σ / σ', 1/3, 3),   d = clip((μ − μ') / σ', −5, 5)

    in `apply_training`, with μ, σ² the mean and variance (plus 0.001) of the batch and μ', σ'² the running ones, which
    move by 1 − `momentum`; r = 1 and d = 0, plain batch normalization, for `warmup_steps` batches. In `apply`, μ', σ'
    take the place of μ, σ, with r = 1 and d = 0. No gradient flows through r and d.

    Args:
      env, hidden, activation, convolution, dtype: as for `networks.critic`.
      momentum: weight of the old running statistics.
      warmup_steps: batches before renormalization begins.

    Raises:
      ValueError, TypeError: as for `networks.critic`; `momentum` is not in [0, 1), or `warmup_steps` not positive.

    Source: Ioffe 2017, arXiv:1702.03275, algorithm 1; in critics: Bhatt et al. 2024, arXiv:1902.05605, appendix A,
    with the constants of the authors' code.

    Examples:
      >>> from purerl import envs
      >>> critic = batch_norm_critic(envs.probe(continuous=True), hidden=(8,))
      >>> variables = critic.init(jax.random.key(0), jnp.zeros(1), jnp.zeros(1))
      >>> q, statistics = critic.apply_training(variables, jnp.zeros((5, 1)), jnp.zeros((5, 1)))
      >>> q.shape, critic.apply(variables, jnp.zeros(1), jnp.zeros(1)).shape
      ((5,), ())
    """
    check_positive(warmup_steps=warmup_steps)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    torso = real_torso(env, hidden, activation, False, convolution, dtype)
    return BatchNormCritic(_Module(env.observation_space, real_box(env), torso, momentum, warmup_steps))


class BatchRenorm(nn.Module):
    """Normalization over the batch of one layer; see `batch_norm_critic`.

    With `over_batch` it is called under a vmapped axis named "batch".
    """

    momentum: float
    warmup_steps: int

    @nn.compact
    def __call__(self, x: jax.Array, over_batch: bool) -> jax.Array:
        """[D] to [D]."""
        zeros, ones = jnp.zeros(x.shape, jnp.float32), jnp.ones(x.shape, jnp.float32)
        mean = self.variable(_STATISTICS, "mean", lambda: zeros)
        var = self.variable(_STATISTICS, "var", lambda: ones)
        steps = self.variable(_STATISTICS, "steps", lambda: jnp.int32(0))
        scale = self.param("scale", nn.initializers.ones, x.shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape, jnp.float32)
        if not over_batch:
            return scale * (x - mean.value) * jax.lax.rsqrt(var.value + _EPSILON) + bias
        mu = jax.lax.pmean(x, _AXIS)
        batch_var = jax.lax.pmean(jnp.square(x - mu), _AXIS)
        sigma, running = jnp.sqrt(batch_var + _EPSILON), jnp.sqrt(var.value + _EPSILON)
        warm = steps.value >= self.warmup_steps
        r = jnp.where(warm, jnp.clip(sigma / running, 1 / _R_MAX, _R_MAX), 1)
        d = jnp.where(warm, jnp.clip((mu - mean.value) / running, -_D_MAX, _D_MAX), 0)
        r, d = jax.lax.stop_gradient((r, d))
        old, new = self.momentum, 1 - self.momentum
        mean.value, var.value = jax.lax.stop_gradient((old * mean.value + new * mu, old * var.value + new * batch_var))
        steps.value = jnp.minimum(steps.value + 1, jnp.int32(self.warmup_steps))
        return scale * ((x - mu) / sigma * r + d) + bias


class _Module(nn.Module):
    observation_space: Space
    action_space: Box
    torso: Torso
    momentum: float
    warmup_steps: int

    @nn.compact
    def __call__(self, obs: PyTree, action: jax.Array, over_batch: bool = False) -> jax.Array:
        """One observation and one action to q, a scalar."""
        normalize = lambda x: BatchRenorm(self.momentum, self.warmup_steps)(x, over_batch)  # noqa: E731
        x = normalize(state_and_action(self, obs, action))
        for width in self.torso.hidden:
            x = nn.Dense(width, kernel_init=orthogonal(2**0.5), dtype=self.torso.dtype)(x)
            x = normalize(ACTIVATIONS[self.torso.activation](x).astype(jnp.float32))
        return nn.Dense(1, kernel_init=orthogonal(1.0), name="q")(x)[0]
