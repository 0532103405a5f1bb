"""What a language model is here, and two that need no framework: a table of contexts, and any flax NNX module.

A network is anything with

    init(key, tokens [L], mask [L]) -> params
    apply(params, tokens [L], mask [L]) -> logits [L, V], or (logits [L, V], value [L])

for ONE text; agents vmap it. `mask` is true on what is no padding; `logits[t]` predicts token t + 1; `value[t]` is read
by PPO as the value of the text up to t, and by a reward model at the last token. With two more functions generation is
cached:

    prefill(params, tokens [L], mask [L], width) -> (logits [V], cache)      cache: room for `width` tokens
    decode(params, token [], cache, column []) -> (logits [V], cache)        column: where the token stands
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Network(NamedTuple):
    """A pair of functions as a network."""

    init: Callable[..., Any]
    apply: Callable[..., Any]


def logits_of(output: Any) -> jax.Array:
    """The logits in a network's output, with or without values beside them."""
    return output[0] if isinstance(output, tuple) else output


def value_of(output: Any) -> jax.Array:
    """The values in a network's output.

    Raises:
      TypeError: it has none.
    """
    if not isinstance(output, tuple):
        raise TypeError("the network returns logits only; PPO and reward models need (logits [L, V], value [L])")
    return output[1]


def table_network(vocab_size: int, length: int, order: int) -> Network:
    """Logits and values from tables, one for each position: a Markov chain of the given order that knows the position.

    logits of position t are table_t[y_{t-order}, ..., y_{t-1}]; with `order = length - 1` every distribution over texts
    of that length is reachable, so optima can be checked to the last digit.

    Args:
      vocab_size: V.
      length: tokens of a completion; texts are one prompt token, which is ignored, and these.
      order: tokens that a position sees, 0 to length - 1.

    Returns:
      A `Network` whose parameters are `{"logits": ([1, V], [V, V], ...), "value": ([1], [V], ...)}`.
    """
    contexts = [vocab_size ** min(order, t) for t in range(length)]

    def init(key: jax.Array, tokens: jax.Array, mask: jax.Array) -> Any:
        return {
            "logits": tuple(jnp.zeros((n, vocab_size)) for n in contexts),
            "value": tuple(jnp.zeros(n) for n in contexts),
        }

    def apply(params: Any, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = []
        for t in range(length):
            seen = tokens[1 + max(0, t - order) : 1 + t]
            rows.append(sum((seen[i] * vocab_size ** (len(seen) - 1 - i) for i in range(len(seen))), jnp.int32(0)))
        logits = jnp.stack([table[row] for table, row in zip(params["logits"], rows)])
        value = jnp.stack([table[row] for table, row in zip(params["value"], rows)])
        return jnp.pad(logits, ((0, 1), (0, 0))), jnp.pad(value, (0, 1))

    return Network(init, apply)


def from_nnx(build: Callable[[Any], Any]) -> Network:
    """A flax NNX module as a network.

    Args:
      build: `rngs -> module`, whose `module(tokens [L], mask [L])` returns what a network's `apply` does.

    Returns:
      A `Network` whose parameters are the module's whole state as a pytree.
    """
    from flax import nnx

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: jax.Array, tokens: jax.Array, mask: jax.Array) -> Any:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key))))

    def apply(params: Any, tokens: jax.Array, mask: jax.Array) -> Any:
        return nnx.merge(graph, nnx.State(params))(tokens, mask)

    return Network(init, apply)
