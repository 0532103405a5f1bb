"""Log-probabilities of tokens in chunks of positions, so that logits of a whole text are never in memory."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def chunked_log_probs(
    logits_of: Callable[[jax.Array], jax.Array],
    hidden: jax.Array,
    tokens: jax.Array,
    completion: jax.Array,
    chunk: int = 128,
) -> jax.Array:
    """`losses.token_log_probs` of one text, with [chunk, V] logits in memory instead of [L, V], also in the gradient.

    Args:
      logits_of: `[n, D] -> [n, V]`.
      hidden: [L, D]; position t predicts token t + 1.
      tokens: [L] integers.
      completion: [L], nonzero where token t counts.
      chunk: positions computed at once; the backward pass computes their logits again.

    Returns:
      [L] nats, 0 where `completion` is 0 and at position 0.

    Examples:
      >>> from purerl import losses
      >>> hidden = jax.random.normal(jax.random.key(0), (7, 4))
      >>> head = jax.random.normal(jax.random.key(1), (4, 9))
      >>> tokens, counted = jnp.arange(7), jnp.arange(7) > 2
      >>> whole = losses.token_log_probs(hidden @ head, tokens, counted)
      >>> parts = chunked_log_probs(lambda x: x @ head, hidden, tokens, counted, chunk=3)
      >>> bool(jnp.allclose(whole, parts, atol=1e-5))
      True
    """
    length = tokens.shape[0] - 1  # predicted positions
    if length < 1:
        return jnp.zeros(tokens.shape, jnp.float32)
    chunk = min(chunk, length)
    count = -(-length // chunk)
    missing = count * chunk - length
    x = jnp.pad(hidden[:-1], ((0, missing), (0, 0))).reshape(count, chunk, -1)  # [L - 1, D] -> [N, C, D]
    counted = completion[1:] != 0
    target = jnp.pad(jnp.where(counted, tokens[1:], 0), (0, missing)).reshape(count, chunk)

    @jax.checkpoint
    def part(x: jax.Array, target: jax.Array) -> jax.Array:
        logits = logits_of(x).astype(jnp.float32)  # [C, V]
        chosen = jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1)

    found = jax.lax.map(lambda pair: part(*pair), (x, target)) if count > 1 else part(x[0], target[0])[None]
    return jnp.pad(jnp.where(counted, found.reshape(-1)[:length], 0.0), (1, 0))
