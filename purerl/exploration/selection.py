"""Choosing actions from their values.

Every rule works on one state or on a batch of them, with the actions on the last axis. The chosen actions are int32 and
have no gradient.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from purerl.reductions import argmax_last, max_last
from purerl.schedules import linear_schedule
from purerl.types import Hparams


def forbid(value: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Replace the values of invalid actions by −∞.

    Args:
      value: [..., A] floating.
      mask: [..., A], true where an action is valid; None: all are.

    Returns:
      [..., A].

    Examples:
      >>> from purerl.exploration.selection import forbid
      >>> print(forbid(jnp.array([1.0, 2.0]), jnp.array([True, False])))
      [  1. -inf]
    """
    chex.assert_type(value, float)
    value = jnp.asarray(value)
    if mask is None:
        return value
    chex.assert_equal_shape([value, mask])
    return jnp.where(jnp.asarray(mask, bool), value, -jnp.inf)


def annealed_epsilon(hparams: Hparams, num_updates: jax.Array) -> jax.Array:
    """Exploration probability ε of an agent after `num_updates` updates, linearly annealed.

    Args:
      hparams: with `initial_epsilon`, `epsilon` and `epsilon_anneal_updates`.
      num_updates: int scalar.

    Returns:
      A scalar.

    Examples:
      >>> from typing import NamedTuple
      >>> from purerl.exploration.selection import annealed_epsilon
      >>> class Annealing(NamedTuple):
      ...     initial_epsilon: float = 1.0
      ...     epsilon: float = 0.0
      ...     epsilon_anneal_updates: float = 100
      >>> float(annealed_epsilon(Annealing(), num_updates=25))
      0.75
    """
    return linear_schedule(num_updates, hparams.initial_epsilon, hparams.epsilon, hparams.epsilon_anneal_updates)


def greedy(key: jax.Array | None, value: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """The action of the highest value, one of them at random where several are equal.

    a ~ Uniform{a : v[a] = max v}.

    Args:
      key: PRNG key, or None for the first of the maxima.
      value: [..., A] floating, v.
      mask: [..., A], true where the action is valid.

    Returns:
      [...] int32 actions.

    Raises:
      AssertionError: value is not floating, or the mask's shape differs.

    Gradient: none.

    Source: Sutton & Barto (2018), eq. 2.2.

    Examples:
      >>> from purerl import exploration
      >>> int(exploration.greedy(None, jnp.array([1.0, 3.0, 3.0])))
      1
    """
    value = forbid(value, mask)
    if key is None:
        return argmax_last(value)
    return _random_member(jax.random.uniform(key, value.shape), value == max_last(value)[..., None])


def epsilon_greedy(
    key: jax.Array, q: jax.Array, epsilon: float | jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """A uniformly random action with probability ε, else a greedy one, ties split fairly.

    π(a) = ε / A + (1 − ε) · 1{a ∈ argmax q} / |argmax q|, with A the number of valid actions.

    Args:
      key: PRNG key.
      q: [..., A] floating.
      epsilon: scalar or [...], ε in [0, 1].
      mask: [..., A], true where the action is valid.

    Returns:
      [...] int32 actions.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: none.

    Source: Sutton & Barto (2018), section 2.2.

    Examples:
      >>> from purerl import exploration
      >>> int(exploration.epsilon_greedy(jax.random.key(0), jnp.array([1.0, 3.0, 2.0]), epsilon=0.0))
      1
    """
    q = forbid(q, mask)
    noise = jax.random.uniform(key, (*q.shape[:-1], q.shape[-1] + 1))  # of the actions, and of whether to explore
    allowed = q > -jnp.inf
    best = q == max_last(q)[..., None]
    epsilon = jnp.broadcast_to(epsilon, q.shape[:-1])
    explore = noise[..., -1] < epsilon
    return _random_member(noise[..., :-1], jnp.where(explore[..., None], allowed, best))


def epsilon_greedy_probs(q: jax.Array, epsilon: float | jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """The probabilities of `epsilon_greedy`, as expected SARSA needs them.

    π(a) = ε / A + (1 − ε) · 1{a ∈ argmax q} / |argmax q|, with A the number of valid actions.

    Args:
      q: [..., A] floating.
      epsilon: scalar or [...], ε in [0, 1].
      mask: [..., A], true where the action is valid.

    Returns:
      [..., A] probabilities.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: none with respect to q; exact in epsilon.

    Source: Sutton & Barto (2018), section 2.2.

    Examples:
      >>> from purerl import exploration
      >>> probs = exploration.epsilon_greedy_probs(jnp.array([1.0, 3.0, 2.0, 0.0]), epsilon=0.2)
      >>> [round(p, 3) for p in probs.tolist()]
      [0.05, 0.85, 0.05, 0.05]
    """
    q = forbid(q, mask)
    epsilon = _by_state(epsilon, q)
    allowed = q > -jnp.inf
    best = q == q.max(axis=-1, keepdims=True)
    uniform = allowed / allowed.sum(axis=-1, keepdims=True)
    return epsilon * uniform + (1 - epsilon) * best / best.sum(axis=-1, keepdims=True)


def boltzmann_probs(q: jax.Array, temperature: float | jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Softmax of the values at a temperature.

    π(a) = softmax((q − max q) / τ)[a]; at τ = 0 the greedy policy with ties split fairly, at τ = ∞ the uniform one.

    Args:
      q: [..., A] floating.
      temperature: scalar or [...], τ ≥ 0, in the units of q.
      mask: [..., A], true where the action is valid.

    Returns:
      [..., A] probabilities.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: nothing is stopped; at τ = 0 it is 0, but unbounded between equal maxima.

    Source: Sutton & Barto (2018), eq. 13.2 with preferences q / τ.

    Examples:
      >>> from purerl import exploration
      >>> probs = exploration.boltzmann_probs(jnp.array([1.0, 0.0]), temperature=0.5)
      >>> [round(p, 3) for p in probs.tolist()]
      [0.881, 0.119]
    """
    return jax.nn.softmax(_boltzmann_logits(q, temperature, mask))


def boltzmann(key: jax.Array, q: jax.Array, temperature: float | jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """An action drawn from the softmax of the values at a temperature.

    a ~ softmax((q − max q) / τ).

    Args:
      key: PRNG key.
      q: [..., A] floating.
      temperature: scalar or [...], τ ≥ 0, in the units of q; 0 is greedy with ties split fairly.
      mask: [..., A], true where the action is valid.

    Returns:
      [...] int32 actions.

    Raises:
      AssertionError: q is not floating, or the mask's shape differs.

    Gradient: none.

    Source: Sutton & Barto (2018), eq. 13.2 with preferences q / τ.

    Examples:
      >>> from purerl import exploration
      >>> int(exploration.boltzmann(jax.random.key(0), jnp.array([1.0, 3.0, 2.0]), temperature=0.0))
      1
    """
    logits = _boltzmann_logits(q, temperature, mask)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))  # noise has the type of the logits
    return jax.random.categorical(key, logits).astype(jnp.int32)


def _boltzmann_logits(q: jax.Array, temperature: float | jax.Array, mask: jax.Array | None) -> jax.Array:
    q = forbid(q, mask)
    temperature = jnp.maximum(_by_state(temperature, q), jnp.finfo(q.dtype).tiny)
    shifted = q - jax.lax.stop_gradient(q.max(axis=-1, keepdims=True))
    lowest, invalid = jnp.finfo(q.dtype).min, jnp.isneginf(shifted)  # at τ = ∞ their quotient would be NaN
    return jnp.where(invalid, lowest, jnp.maximum(jnp.where(invalid, 0, shifted) / temperature, lowest))


def _by_state(parameter: float | jax.Array, q: jax.Array) -> jax.Array:
    """A scalar or [...] parameter as [..., 1], to be combined with q [..., A]."""
    parameter = jnp.asarray(parameter, q.dtype)
    return jnp.broadcast_to(parameter, q.shape[:-1])[..., None]


def _random_member(noise: jax.Array, members: jax.Array) -> jax.Array:
    """One of the true entries on the last axis, each with the same probability if the noise is uniform in [0, 1)."""
    return argmax_last(jnp.where(members, noise, -1))
