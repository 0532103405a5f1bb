"""The protocol of language models, and two that need no framework: a table of contexts, and any flax NNX module.

A network is anything with

    init(key, tokens [L], mask [L]) -> params
    apply(params, tokens [L], mask [L]) -> logits [L, V], or (logits [L, V], value [L])

for ONE text; agents vmap it. `mask` is true on everything but padding; `logits[t]` predicts token t + 1; `value[t]` is
read by PPO as the value of the text up to t, and by a reward model at the last token. With two more functions
generation is cached:

    prefill(params, tokens [L], mask [L], width) -> (logits [V], cache)      cache: room for `width` tokens
    decode(params, token [], cache, column []) -> (logits [V], cache)        column: the position of the token

A network with a large vocabulary may have one more, so that losses never hold [L, V] logits:

    token_log_probs(params, tokens [L], mask [L], completion [L]) -> [L]     as `losses.token_log_probs`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.once import build_once
from purerl.types import Key, Params, PyTree

if TYPE_CHECKING:
    from flax import nnx


class Network(NamedTuple):
    """A pair of functions as a network."""

    init: Callable[..., Any]
    apply: Callable[..., Any]


def logits_of(output: PyTree) -> jax.Array:
    """The logits in a network's output, with or without values beside them."""
    return output[0] if isinstance(output, tuple) else output


def value_of(output: PyTree) -> jax.Array:
    """The values in a network's output.

    Raises:
      TypeError: it has none.
    """
    if not isinstance(output, tuple):
        raise TypeError("the network returns logits only; PPO and reward models need (logits [L, V], value [L])")
    return output[1]


@build_once
def table_network(vocab_size: int, length: int, order: int) -> Network:
    """Logits and values from one table per position: a time-dependent Markov chain of the given order.

    logits of position t are table_t[y_{t-order}, ..., y_{t-1}]; with `order = length - 1` every distribution over texts
    of that length is reachable, so optima can be checked to the last digit.

    Args:
      vocab_size: V.
      length: tokens of a completion; a text is one prompt token, which is ignored, and these.
      order: number of preceding tokens that a position sees, 0 to length - 1.

    Returns:
      A `Network` whose parameters are `{"logits": ([1, V], [V, V], ...), "value": ([1], [V], ...)}`.

    Examples:
      >>> network = table_network(vocab_size=4, length=3, order=2)
      >>> params = network.init(jax.random.key(0), jnp.zeros(4, jnp.int32), jnp.ones(4, bool))
      >>> [table.shape for table in params["logits"]]
      [(1, 4), (4, 4), (16, 4)]
    """
    contexts = [vocab_size ** min(order, t) for t in range(length)]

    def init(key: Key, tokens: jax.Array, mask: jax.Array) -> Params:
        return {
            "logits": tuple(jnp.zeros((n, vocab_size)) for n in contexts),
            "value": tuple(jnp.zeros(n) for n in contexts),
        }

    def apply(params: Params, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = []
        for t in range(length):
            seen = tokens[1 + max(0, t - order) : 1 + t]
            rows.append(sum((seen[i] * vocab_size ** (len(seen) - 1 - i) for i in range(len(seen))), jnp.int32(0)))
        logits = jnp.stack([table[row] for table, row in zip(params["logits"], rows)])
        value = jnp.stack([table[row] for table, row in zip(params["value"], rows)])
        return jnp.pad(logits, ((0, 1), (0, 0))), jnp.pad(value, (0, 1))

    return Network(init, apply)


def from_nnx(build: Callable[[nnx.Rngs], Callable[[jax.Array, jax.Array], PyTree]]) -> Network:
    """A flax NNX module as a network.

    Args:
      build: `rngs -> module`, whose `module(tokens [L], mask [L])` returns what a network's `apply` does.

    Returns:
      A `Network` whose parameters are the module's whole state as a pytree.
    """
    from flax import nnx

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: Key, tokens: jax.Array, mask: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key))))

    def apply(params: Params, tokens: jax.Array, mask: jax.Array) -> PyTree:
        return nnx.merge(graph, nnx.State(params))(tokens, mask)

    return Network(init, apply)
