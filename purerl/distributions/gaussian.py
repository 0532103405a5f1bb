"""Action distributions as pytrees: they may cross `jit`, `vmap` and `scan`, and work on one example or on leading
axes.

The methods carry distrax's names. Parameters are [..., A] or [..., D]; a categorical event is a scalar int32, every
other event is the last axis. Nothing is stopped: samples of the two Gaussians are reparameterised, those of the
discrete ones have no gradient.

Why not distrax itself: its `Categorical` is right but takes 1.25 to 1.4 times as long forward and backward, because
each method normalises the logits again (vmapped log_prob and entropy behind a 64-wide layer, 2,048 x 2 and 2,048 x 18
actions, two CPU cores). Its `MultivariateNormalDiag` breaks when it leaves a `vmap`. Its `Tanh` inverts ±1 to ±∞, so
that a saturated action scores NaN. It has no multi-discrete. Importing it takes 0.4 s. The tests hold these classes
to distrax wherever distrax is right.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from purerl.losses.divergences import gaussian_entropy, gaussian_kl

_LOG_2PI = math.log(2 * math.pi)


@partial(jax.tree_util.register_dataclass, data_fields=["log_probs"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Categorical:
    """Distribution over 0, ..., A − 1; build it by `categorical`.

    Attributes:
      log_probs: [..., A], normalised once. An impossible action has the dtype's minimum in place of −∞, which keeps
        0 · log 0 = 0 and every gradient finite.
    """

    log_probs: jax.Array

    def sample(self, *, seed: jax.Array) -> jax.Array:
        """[...] int32 actions, argmax of log_probs plus Gumbel noise."""
        return jax.random.categorical(seed, self.log_probs).astype(jnp.int32)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """[...] log p[value]. A select and a sum: faster than a gather, whose transpose is a scatter."""
        chosen = jnp.asarray(value)[..., None] == jnp.arange(self.log_probs.shape[-1])
        return jnp.sum(jnp.where(chosen, self.log_probs, 0), axis=-1)

    def sample_and_log_prob(self, *, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A sample and its log-probability."""
        value = self.sample(seed=seed)
        return value, self.log_prob(value)

    def entropy(self) -> jax.Array:
        """[...] H = −Σ p · log p, in nats."""
        return -jnp.sum(jnp.exp(self.log_probs) * self.log_probs, axis=-1)

    def mode(self) -> jax.Array:
        """[...] int32, the first most probable action."""
        return jnp.argmax(self.log_probs, axis=-1).astype(jnp.int32)

    def kl_divergence(self, other: Categorical) -> jax.Array:
        """[...] KL(self ‖ other) = Σ p · (log p − log q), in nats."""
        return jnp.sum(jnp.exp(self.log_probs) * (self.log_probs - other.log_probs), axis=-1)


def categorical(logits: jax.Array, mask: jax.Array | None = None) -> Categorical:
    """Categorical distribution with optional invalid actions.

    log p = logits − log Σ exp(logits), over the valid actions.

    Args:
      logits: [..., A] floating, unnormalised; −∞ is another way to forbid an action.
      mask: [..., A], true where the action is valid. Where none is, all are equally probable.

    Returns:
      The distribution.

    Raises:
      AssertionError: logits is not floating, or the mask has another last axis.

    Source: masking as in Huang & Ontañón (2022), "A closer look at invalid action masking".
    """
    chex.assert_type(logits, float)
    lowest = jnp.finfo(logits.dtype).min
    if mask is not None:
        chex.assert_equal_shape_suffix([logits, mask], 1)
        logits = jnp.where(jnp.asarray(mask, bool), logits, lowest)
    return Categorical(jax.nn.log_softmax(jnp.maximum(logits, lowest)))


@partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """K independent categoricals; build it by `multi_discrete`.

    Attributes:
      parts: `Categorical` with log_probs [..., K, A], A the largest number of values; the rest are impossible
        actions.
    """

    parts: Categorical

    def sample(self, *, seed: jax.Array) -> jax.Array:
        """[..., K] int32 actions."""
        return self.parts.sample(seed=seed)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """[...] log-probability of [..., K] actions, the sum over the parts."""
        return self.parts.log_prob(value).sum(axis=-1)

    def sample_and_log_prob(self, *, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A sample and its log-probability."""
        value = self.sample(seed=seed)
        return value, self.log_prob(value)

    def entropy(self) -> jax.Array:
        """[...] the sum of the parts' entropies, in nats."""
        return self.parts.entropy().sum(axis=-1)

    def mode(self) -> jax.Array:
        """[..., K] int32, the first most probable action of each part."""
        return self.parts.mode()

    def kl_divergence(self, other: MultiDiscrete) -> jax.Array:
        """[...] KL(self ‖ other), the sum over the parts, in nats."""
        return self.parts.kl_divergence(other.parts).sum(axis=-1)


def multi_discrete(logits: jax.Array, num_values: Sequence[int], mask: jax.Array | None = None) -> MultiDiscrete:
    """Independent categoricals whose logits lie one after the other on the last axis.

    log p(a) = Σ_k log softmax(logits_k)[a_k].

    Args:
      logits: [..., sum(num_values)] floating.
      num_values: number of values of each part, static.
      mask: [..., sum(num_values)], true where the value is valid.

    Returns:
      The distribution.

    Raises:
      AssertionError: logits is not floating.
      ValueError: num_values does not add up to the last axis.

    Source: the action space of Gymnasium's MultiDiscrete.
    """
    chex.assert_type(logits, float)
    if sum(num_values) != logits.shape[-1]:
        raise ValueError(f"num_values = {tuple(num_values)} must add up to the last axis of logits, {logits.shape[-1]}")
    if mask is not None:
        chex.assert_equal_shape_suffix([logits, mask], 1)
        logits = jnp.where(jnp.asarray(mask, bool), logits, jnp.finfo(logits.dtype).min)
    return MultiDiscrete(categorical(_stack_padded(logits, num_values)))


def _stack_padded(logits: jax.Array, num_values: Sequence[int]) -> jax.Array:
    """[..., sum(num_values)] to [..., K, max(num_values)], the missing entries at the dtype's minimum."""
    parts = jnp.split(logits, np.cumsum(num_values)[:-1], axis=-1)
    widths = [[(0, 0)] * (logits.ndim - 1) + [(0, max(num_values) - n)] for n in num_values]
    lowest = jnp.finfo(logits.dtype).min
    return jnp.stack([jnp.pad(x, w, constant_values=lowest) for x, w in zip(parts, widths)], axis=-2)


@partial(jax.tree_util.register_dataclass, data_fields=["mean", "log_std"], meta_fields=["event_ndims"])
@dataclasses.dataclass(frozen=True)
class DiagonalGaussian:
    """Gaussian with diagonal covariance; build it by `diagonal_gaussian`.

    Attributes:
      mean, log_std: [..., D].
      event_ndims: how many of the last axes make up one event.
    """

    mean: jax.Array
    log_std: jax.Array
    event_ndims: int = 1

    def sample(self, *, seed: jax.Array) -> jax.Array:
        """[..., D] mean + σ · ε with ε ~ N(0, 1)."""
        return self.mean + jnp.exp(self.log_std) * self._noise(seed)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """[...] Σ_i (−½ ((x − μ) / σ)² − log σ − ½ log 2π)."""
        return self._log_prob_of_noise((value - self.mean) * jnp.exp(-self.log_std))

    def sample_and_log_prob(self, *, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A sample and its log-probability, from the noise itself: exact even where σ is below the mean's ulp."""
        noise = self._noise(seed)
        return self.mean + jnp.exp(self.log_std) * noise, self._log_prob_of_noise(noise)

    def entropy(self) -> jax.Array:
        """[...] Σ_i (log σ + ½ log 2πe), in nats."""
        return gaussian_entropy(self.log_std, self._event())

    def mode(self) -> jax.Array:
        """[..., D] the mean."""
        return self.mean

    def kl_divergence(self, other: DiagonalGaussian) -> jax.Array:
        """[...] KL(self ‖ other), in nats."""
        return gaussian_kl(self.mean, self.log_std, other.mean, other.log_std, self._event())

    def sum_event(self, x: jax.Array) -> jax.Array:
        """[...] the sum of x over the axes of one event."""
        return jnp.sum(x, axis=self._event())

    def _event(self) -> tuple[int, ...]:
        return tuple(range(-self.event_ndims, 0))

    def _noise(self, key: jax.Array) -> jax.Array:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def _log_prob_of_noise(self, noise: jax.Array) -> jax.Array:
        return -self.sum_event(0.5 * jnp.square(noise) + self.log_std + 0.5 * _LOG_2PI)


def diagonal_gaussian(mean: jax.Array, log_std: jax.Array, event_ndims: int = 1) -> DiagonalGaussian:
    """Gaussian with independent components.

    log p(x) = Σ_i (−½ ((x_i − μ_i) / σ_i)² − log σ_i − ½ log 2π).

    Args:
      mean: [..., D] floating, μ.
      log_std: [..., D] or what broadcasts to it, log σ.
      event_ndims: how many of the last axes make up one event: 1 for vectors, 0 for scalars, the rank for anything
        else.

    Returns:
      The distribution.

    Raises:
      AssertionError: mean is not floating, or has fewer axes than an event.

    Source: Bishop (2006), eq. 2.43 with diagonal Σ.
    """
    chex.assert_type(mean, float)
    chex.assert_rank(mean, set(range(event_ndims, mean.ndim + 1)))
    return DiagonalGaussian(mean, jnp.broadcast_to(jnp.asarray(log_std, mean.dtype), mean.shape), event_ndims)


@partial(jax.tree_util.register_dataclass, data_fields=["base", "low", "high"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class TanhGaussian:
    """Gaussian squashed by tanh and mapped to a box; build it by `tanh_gaussian`.

    Attributes:
      base: `DiagonalGaussian` of u, before the tanh.
      low, high: [..., D], the box.
    """

    base: DiagonalGaussian
    low: jax.Array
    high: jax.Array

    def sample(self, *, seed: jax.Array) -> jax.Array:
        """[..., D] action in [low, high]."""
        return self.squash(self.base.sample(seed=seed))

    def log_prob(self, value: jax.Array) -> jax.Array:
        """[...] log-density of an action.

        An action that rounding put on the bound is scored as the last number inside it, so the result is finite, but
        what lay beyond is lost: score the u of a saturated action by `log_prob_of_raw`, or keep what
        `sample_and_log_prob` says.
        """
        squashed = (2 * value - self.low - self.high) / (self.high - self.low)
        inside = 1 - jnp.finfo(self.low.dtype).epsneg
        return self.log_prob_of_raw(jnp.arctanh(jnp.clip(squashed, -inside, inside)))

    def log_prob_of_raw(self, raw: jax.Array) -> jax.Array:
        """[...] log-density of the action that the raw u becomes: log N(u) − Σ log |dx/du|. Exact for any u."""
        return self.base.log_prob(raw) - self._log_slope(raw)

    def sample_and_log_prob(self, *, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A sample and its log-density computed from u, exact at saturation."""
        raw, log_prob = self.base.sample_and_log_prob(seed=seed)
        return self.squash(raw), log_prob - self._log_slope(raw)

    def entropy(self) -> jax.Array:
        """[...] H(u) + Σ E[log |dx/du|], in nats, the expectation by the trapezoid rule on 128 points.

        There is no closed form. The error is below 1e-4 a component for σ up to 7.
        """
        grid = jnp.linspace(-9, 9, 128, dtype=self.low.dtype)
        weight = jax.nn.softmax(-0.5 * jnp.square(grid))
        raw = self.base.mean[..., None] + jnp.exp(self.base.log_std)[..., None] * grid
        slope = _log_tanh_slope(raw) @ weight + jnp.log((self.high - self.low) / 2)
        return self.base.entropy() + self.base.sum_event(slope)

    def mode(self) -> jax.Array:
        """[..., D] the squashed mean: the greedy action. (The density itself may peak elsewhere.)"""
        return self.squash(self.base.mean)

    def kl_divergence(self, other: TanhGaussian) -> jax.Array:
        """[...] KL(self ‖ other) for the same box, in nats: that of the Gaussians, as squashing is a bijection."""
        return self.base.kl_divergence(other.base)

    def squash(self, raw: jax.Array) -> jax.Array:
        """[..., D] low + (high − low) · (tanh u + 1) / 2, exact at both ends."""
        fraction = (jnp.tanh(raw) + 1) / 2
        return (1 - fraction) * self.low + fraction * self.high

    def _log_slope(self, raw: jax.Array) -> jax.Array:
        return self.base.sum_event(_log_tanh_slope(raw) + jnp.log((self.high - self.low) / 2))


def _log_tanh_slope(raw: jax.Array) -> jax.Array:
    """log(1 − tanh²(u)) = 2 · (log 2 − u − softplus(−2u)), without cancellation at any u."""
    return 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))


def tanh_gaussian(
    mean: jax.Array,
    log_std: jax.Array,
    low: float | jax.Array = -1.0,
    high: float | jax.Array = 1.0,
    event_ndims: int = 1,
) -> TanhGaussian:
    """Gaussian squashed into a box.

    x = low + (high − low) · (tanh u + 1) / 2 with u ~ N(μ, σ²);
    log p(x) = log N(u) − Σ_i (log((high_i − low_i) / 2) + 2 · (log 2 − u_i − softplus(−2 u_i))).

    Args:
      mean: [..., D] floating, μ of u.
      log_std: [..., D] or what broadcasts to it, log σ of u.
      low, high: scalars or [..., D], finite bounds of the action, low < high.
      event_ndims: how many of the last axes make up one event.

    Returns:
      The distribution.

    Raises:
      AssertionError: mean is not floating, or has fewer axes than an event.

    Source: Haarnoja et al. (2018), "Soft actor-critic", appendix C, eq. 21, with the map to the box added.
    """
    base = diagonal_gaussian(mean, log_std, event_ndims)
    bounds = [jnp.broadcast_to(jnp.asarray(bound, base.mean.dtype), base.mean.shape) for bound in (low, high)]
    return TanhGaussian(base, *bounds)
