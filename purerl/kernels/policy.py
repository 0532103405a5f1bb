"""The policy of an `actor_critic` network inside a kernel: a tile of observations to log-probabilities of actions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.networks import ActorCritic
from purerl.networks.layers import ACTIVATIONS
from purerl.types import Params


class Layer(NamedTuple):
    """Weights [D, H] and biases [H] of a layer."""

    kernel: Any
    bias: Any


class Policy(NamedTuple):
    """The layers of a policy: arrays outside of a kernel, references or values inside.

    Attributes:
      first: from the observation, read row by row.
      middle: the other hidden layers.
      last: to the logits, read column by column.
      activation: name of the activation.
    """

    first: Layer
    middle: tuple[Layer, ...]
    last: Layer
    activation: str

    @property
    def leaves(self) -> list[jax.Array]:
        """The arrays, in the order that `load` takes."""
        return [part for layer in (self.first, *self.middle, self.last) for part in layer]

    @property
    def structure(self) -> Policy:
        """The policy without its arrays, hashable."""
        shapes = [Layer(layer.kernel.shape, layer.bias.shape) for layer in (self.first, *self.middle, self.last)]
        return Policy(shapes[0], tuple(shapes[1:-1]), shapes[-1], self.activation)

    def load(self, refs: list[Any]) -> Policy:
        """Inside of a kernel: the policy whose middle layers are on the chip, from references."""
        pairs = [Layer(*refs[i : i + 2]) for i in range(0, len(refs), 2)]
        middle = tuple(Layer(layer.kernel[...], layer.bias[...]) for layer in pairs[1:-1])
        rows, columns = range(self.first.kernel[0]), range(self.last.kernel[1])
        first = Layer([pairs[0].kernel[i, :] for i in rows], pairs[0].bias[...])
        last = Layer([pairs[-1].kernel[:, i] for i in columns], [pairs[-1].bias[i] for i in columns])
        return Policy(first, middle, last, self.activation)


def policy_of(params: Params, network: ActorCritic) -> Policy:
    """The policy's layers, from the network's parameters."""
    tower = params["params"]["torso" if network.shared_torso else "actor"]
    hidden = [Layer(tower[f"Dense_{i}"]["kernel"], tower[f"Dense_{i}"]["bias"]) for i in range(len(network.hidden))]
    head = params["params"]["policy"]["Dense_0"]
    return Policy(hidden[0], tuple(hidden[1:]), Layer(head["kernel"], head["bias"]), network.activation)


def log_probs(policy: Policy, obs: list[jax.Array]) -> list[jax.Array]:
    """Normalised log-probabilities, A vectors [tile], of D vectors [tile]."""
    activate = ACTIVATIONS[policy.activation]
    x = policy.first.bias[None, :]
    for feature, row in zip(obs, policy.first.kernel):
        x = x + feature[:, None] * row[None, :]  # [tile, H]
    x = activate(x)
    for layer in policy.middle:
        product = jnp.dot(x, layer.kernel, precision=jax.lax.Precision.HIGHEST)
        x = activate(product + layer.bias[None, :])
    logits = [jnp.sum(x * column[None, :], axis=1) + bias for column, bias in zip(*policy.last)]  # A of [tile]
    highest = logits[0]
    for logit in logits[1:]:
        highest = jnp.maximum(highest, logit)
    shifted = [logit - highest for logit in logits]
    total = sum(jnp.exp(logit) for logit in shifted[1:]) + jnp.exp(shifted[0])
    return [logit - jnp.log(total) for logit in shifted]
