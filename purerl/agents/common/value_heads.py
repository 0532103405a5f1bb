"""Heads of Q-networks: how outputs [..., A, Z] are read as values [..., A], and the loss of actions taken.

The heads distinguish DQN, C51, QR-DQN and IQN. "categorical" reads the hyperparameters `value_min` and `value_max`.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from purerl import losses
from purerl.types import Hparams


class HeadLoss(Protocol):
    """The loss of one head: the function that distinguishes DQN, C51 and QR-DQN.

    From the outputs of the actions taken and of the next actions, [B, ...], it computes the loss, the priority of
    replay, and the temporal-difference error of the values, [B] each.
    """

    def __call__(
        self,
        taken: jax.Array,
        reward: jax.Array,
        discount: jax.Array,
        next_taken: jax.Array,
        hparams: Hparams,
        huber: bool,
        /,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Loss, priority and error, [B] each."""


class ReadValues(Protocol):
    """The values [..., A] that outputs [..., A, ...] of a head stand for."""

    def __call__(self, output: jax.Array, hparams: Hparams, /) -> jax.Array:
        """Outputs to values."""


def _read_value(q: jax.Array, hparams: Hparams) -> jax.Array:
    return q


def _value_loss(
    taken: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    next_taken: jax.Array,
    hparams: Hparams,
    huber: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Half the squared error, or Huber's loss."""
    error = reward + discount * next_taken - taken
    return (optax.huber_loss(error) if huber else 0.5 * error**2), error, error


def _support(logits: jax.Array, hparams: Hparams) -> jax.Array:
    """The returns that the atoms stand for, [Z]."""
    return jnp.linspace(hparams.value_min, hparams.value_max, logits.shape[-1]).astype(logits.dtype)


def _categorical_mean(logits: jax.Array, hparams: Hparams) -> jax.Array:
    return jax.nn.softmax(logits) @ _support(logits, hparams)


def _categorical_loss(
    taken: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    next_taken: jax.Array,
    hparams: Hparams,
    huber: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The cross entropy to the projected distribution of r + D z (C51), which is the priority too."""
    support = _support(taken, hparams)  # [Z]
    moved = reward[:, None] + discount[:, None] * support[None]  # [B, Z]
    target = losses.categorical_projection(moved, jax.nn.softmax(next_taken), support)
    each = optax.softmax_cross_entropy(taken, target)
    return each, each, (target - jax.nn.softmax(taken)) @ support


def _read_quantiles(quantiles: jax.Array, hparams: Hparams) -> jax.Array:
    return quantiles.mean(axis=-1)


def _quantile_loss(
    taken: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    next_taken: jax.Array,
    hparams: Hparams,
    huber: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The quantile regression loss (QR-DQN)."""
    taus = (jnp.arange(taken.shape[-1]) + 0.5) / taken.shape[-1]
    target = reward[:, None] + discount[:, None] * next_taken  # [B, Z]
    return _regress(taken, taus, target, huber)


def _read_implicit(output: jax.Array, hparams: Hparams) -> jax.Array:
    return output[..., 0].mean(axis=-1)


def _implicit_loss(
    taken: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    next_taken: jax.Array,
    hparams: Hparams,
    huber: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The quantile regression loss at levels of the network's own, [B, N, 2] (IQN)."""
    target = reward[:, None] + discount[:, None] * next_taken[..., 0]  # [B, N]
    return _regress(taken[..., 0], taken[..., 1], target, huber)


def _regress(
    quantiles: jax.Array, taus: jax.Array, target: jax.Array, huber: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss, priority and error [B] of quantiles [B, N] at the levels taus towards targets [B, M]."""
    error = target.mean(axis=-1) - quantiles.mean(axis=-1)
    return losses.quantile_huber(quantiles, taus, target, 1.0 if huber else 0.0), error, error


HEADS: dict[str, tuple[ReadValues, HeadLoss]] = {
    "value": (_read_value, _value_loss),
    "categorical": (_categorical_mean, _categorical_loss),
    "quantile": (_read_quantiles, _quantile_loss),
    "implicit": (_read_implicit, _implicit_loss),
}
