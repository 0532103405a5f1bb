"""Distributions over integers: one categorical, and several independent ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from purerl.reductions import any_last, argmax_last, max_last, repeat_last, sum_last
from purerl.types import Key


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, init=False, eq=False)
class Categorical:
    """Distribution over 0, ..., A − 1, built from logits that need not be normalised; the same as `categorical`.

    Attributes:
      log_probs: [..., A], normalised once. An impossible action has the dtype's minimum in place of −∞, which keeps
        0 · log 0 = 0 and every gradient finite.
    """

    log_probs: jax.Array

    def __init__(self, logits: jax.Array, mask: jax.Array | None = None) -> None:
        chex.assert_type(logits, float)
        logits = jnp.asarray(logits)  # NumPy's float64 has a minimum that is −∞ in float32
        lowest = jnp.finfo(logits.dtype).min
        if mask is not None:
            chex.assert_equal_shape_suffix([logits, mask], 1)
            logits = jnp.where(jnp.asarray(mask, bool), logits, lowest)
        object.__setattr__(self, "log_probs", _log_softmax(jnp.maximum(logits, lowest)))

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Hashable, jax.Array]], None]:
        """The log-probabilities as the only leaf."""
        return ((jax.tree_util.GetAttrKey("log_probs"), self.log_probs),), None

    @classmethod
    def tree_unflatten(cls, _: None, leaves: tuple[jax.Array]) -> Categorical:
        """A distribution of log-probabilities that are normalised already."""
        new = object.__new__(cls)
        object.__setattr__(new, "log_probs", leaves[0])
        return new

    def sample(self, *, seed: Key) -> jax.Array:
        """[...] int32 actions, argmax of log_probs plus Gumbel noise, which has too few values in half precision."""
        dtype = jnp.promote_types(self.log_probs.dtype, jnp.float32)
        noise = jax.random.gumbel(seed, self.log_probs.shape, dtype)
        return argmax_last(noise + self.log_probs)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """[...] log p[value], the dtype's minimum if value is not one of 0, ..., A − 1.

        It is a select and a sum: faster than a gather, whose transpose is a scatter.
        """
        value = jnp.asarray(value)[..., None]
        actions = jnp.arange(self.log_probs.shape[-1]).reshape((1,) * (value.ndim - 1) + (-1,))
        chosen = value == actions  # [..., A]
        log_prob = sum_last(jnp.where(chosen, self.log_probs, 0))
        return jnp.where(any_last(chosen), log_prob, jnp.finfo(log_prob.dtype).min)

    def sample_and_log_prob(self, *, seed: Key) -> tuple[jax.Array, jax.Array]:
        """A sample and its log-probability."""
        value = self.sample(seed=seed)
        return value, self.log_prob(value)

    def entropy(self) -> jax.Array:
        """[...] H = −Σ p · log p, in nats."""
        return -sum_last(jnp.exp(self.log_probs) * self.log_probs)

    def mode(self) -> jax.Array:
        """[...] int32, the first most probable action."""
        return argmax_last(self.log_probs)

    def kl_divergence(self, other: Categorical) -> jax.Array:
        """[...] KL(self ‖ other) = Σ p · (log p − log q), in nats."""
        return sum_last(jnp.exp(self.log_probs) * (self.log_probs - other.log_probs))


def _log_softmax(logits: jax.Array) -> jax.Array:
    shifted = logits - jax.lax.stop_gradient(max_last(logits))[..., None]
    log_probs = shifted - repeat_last(jnp.log(sum_last(jnp.exp(shifted))), logits.shape[-1])
    if logits.dtype == jnp.float16:  # in other types the minimum less a logit is the minimum again; here it is −∞
        return jnp.maximum(log_probs, jnp.finfo(logits.dtype).min)
    return log_probs


def categorical(logits: jax.Array, mask: jax.Array | None = None) -> Categorical:
    """Categorical distribution with optional invalid actions.

    log p = logits − log Σ exp(logits), over the valid actions.

    Args:
      logits: [..., A] floating, unnormalised; −∞ is another way to forbid an action.
      mask: [..., A], true where the action is valid. If none is, all are equally probable.

    Returns:
      The distribution.

    Raises:
      AssertionError: logits is not floating, or the mask has another last axis.

    Source: masking as in Huang & Ontañón (2022), "A closer look at invalid action masking".

    Examples:
      >>> policy = categorical(jnp.array([0.0, 0.0, 5.0]), mask=jnp.array([True, True, False]))
      >>> jnp.exp(policy.log_prob(1)).round(3).tolist()
      0.5
      >>> bool(policy.log_prob(3) == jnp.finfo("float32").min)  # outside the support
      True
    """
    return Categorical(logits, mask)


@partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """K independent categoricals; build it by `multi_discrete`.

    Attributes:
      parts: `Categorical` with log_probs [..., K, A], A the largest number of values; the rest are impossible
        actions.
    """

    parts: Categorical

    def sample(self, *, seed: Key) -> jax.Array:
        """[..., K] int32 actions."""
        return self.parts.sample(seed=seed)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """[...] log-probability of [..., K] actions, the sum over the parts, at least the dtype's minimum."""
        log_prob = sum_last(self.parts.log_prob(value))
        return jnp.maximum(log_prob, jnp.finfo(log_prob.dtype).min)

    def sample_and_log_prob(self, *, seed: Key) -> tuple[jax.Array, jax.Array]:
        """A sample and its log-probability."""
        value = self.sample(seed=seed)
        return value, self.log_prob(value)

    def entropy(self) -> jax.Array:
        """[...] the sum of the parts' entropies, in nats."""
        return sum_last(self.parts.entropy())

    def mode(self) -> jax.Array:
        """[..., K] int32, the first most probable action of each part."""
        return self.parts.mode()

    def kl_divergence(self, other: MultiDiscrete) -> jax.Array:
        """[...] KL(self ‖ other), the sum over the parts, in nats."""
        return sum_last(self.parts.kl_divergence(other.parts))


def multi_discrete(logits: jax.Array, num_values: Sequence[int], mask: jax.Array | None = None) -> MultiDiscrete:
    """Independent categoricals whose logits lie one after the other on the last axis.

    log p(a) = Σ_k log softmax(logits_k)[a_k].

    Args:
      logits: [..., sum(num_values)] floating.
      num_values: number of values of each part, static.
      mask: [..., sum(num_values)], true where the value is valid. If none of a part is, all of its values are equally
        probable.

    Returns:
      The distribution.

    Raises:
      AssertionError: logits is not floating.
      ValueError: num_values does not add up to the last axis.

    Source: the action space of Gymnasium's MultiDiscrete.

    Examples:
      >>> policy = multi_discrete(jnp.array([0.0, 0.0, 1.0, 3.0, 2.0]), num_values=(2, 3))
      >>> policy.mode().tolist()
      [0, 1]
    """
    chex.assert_type(logits, float)
    logits = jnp.asarray(logits)
    if sum(num_values) != logits.shape[-1]:
        raise ValueError(f"num_values = {tuple(num_values)} must add up to the last axis of logits, {logits.shape[-1]}")
    lowest = jnp.finfo(logits.dtype).min
    if mask is None:
        return MultiDiscrete(categorical(_stack_padded(logits, num_values, lowest)))
    chex.assert_equal_shape_suffix([logits, mask], 1)
    logits, mask = jnp.broadcast_arrays(logits, jnp.asarray(mask, bool))
    stacked = _stack_padded(jnp.where(mask, logits, lowest), num_values, lowest)
    if len(set(num_values)) > 1:  # otherwise there is no padding that could be drawn where no value is valid
        some = any_last(_stack_padded(mask, num_values, False))[..., None]  # [..., K, 1]
        exists = jnp.broadcast_to(np.arange(max(num_values)) < np.array(num_values)[:, None], stacked.shape)
        stacked = jnp.where(exists & ~some, 0, stacked)
    return MultiDiscrete(categorical(stacked))


def _stack_padded(x: jax.Array, num_values: Sequence[int], lowest: jax.typing.ArrayLike) -> jax.Array:
    """[..., sum(num_values)] to [..., K, max(num_values)], the missing entries at `lowest`."""
    parts = jnp.split(x, np.cumsum(num_values)[:-1], axis=-1)
    widths = [[(0, 0)] * (x.ndim - 1) + [(0, max(num_values) - n)] for n in num_values]
    return jnp.stack([jnp.pad(x, w, constant_values=lowest) for x, w in zip(parts, widths)], axis=-2)
