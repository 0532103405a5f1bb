"""The methods that every action distribution has."""

from __future__ import annotations

from typing import Any, Protocol

import jax

from purerl.types import Key


class Distribution(Protocol):
    """A distribution of actions.

    It is a protocol because agents only call these methods: a distribution of distrax or of one's own serves as well.
    """

    def sample(self, *, seed: Key) -> jax.Array:
        """An action."""

    def log_prob(self, value: jax.Array) -> jax.Array:
        """The log-probability, or log-density, of an action."""

    def sample_and_log_prob(self, *, seed: Key) -> tuple[jax.Array, jax.Array]:
        """An action and its log-probability."""

    def entropy(self) -> jax.Array:
        """The entropy, in nats."""

    def mode(self) -> jax.Array:
        """The greedy action."""

    def kl_divergence(self, other: Any) -> jax.Array:
        """KL(self ‖ other) for a distribution of the same class, in nats."""
