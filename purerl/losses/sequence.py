"""Log-probabilities of token sequences, the input of every preference loss.

All take `[..., L]` tokens (L token positions, batch axes in front) and work with left and right padding, because they
look at the mask only. Where the mask is 0, logits may be NaN or infinite and tokens any integer (-100 too).
"""

from __future__ import annotations

from typing import Literal

import chex
import jax
import jax.numpy as jnp

from purerl.returns.recursion import same_shape


def token_log_probs(logits: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Log-probability of each token given those before it, at the token's own position.

    out[t] = mask[t] (logits[t-1, tokens[t]] - logsumexp(logits[t-1])), and out[0] = 0: nothing predicts token 0.

    Args:
      logits: [..., L, V]; `logits[..., t, :]` predicts token t + 1. Taken to float32 if narrower.
      tokens: [..., L] integers.
      mask: [..., L], nonzero where token t counts (the completion, with its end token; not prompt, not padding).

    Returns:
      [..., L]: nats, 0 where the mask is 0.

    Raises:
      AssertionError: the shapes differ, logits is not floating, or tokens is not integer.

    Gradient: it reaches `logits` only where the mask is nonzero.

    Examples:
      >>> from purerl import losses
      >>> logits, tokens, mask = jnp.zeros((1, 3, 2)), jnp.array([[0, 1, 1]]), jnp.array([[0, 1, 0]])
      >>> print(losses.token_log_probs(logits, tokens, mask).round(3))
      [[ 0.    -0.693  0.   ]]
    """
    tokens, mask = jnp.asarray(tokens), jnp.asarray(mask)
    same_shape(tokens=tokens, mask=mask)
    chex.assert_equal_shape_prefix([logits, tokens], tokens.ndim)
    chex.assert_type([logits, tokens], [float, int])
    counted = (mask != 0)[..., 1:]
    before = jnp.where(counted[..., None], logits[..., :-1, :], 0)
    before = before.astype(jnp.promote_types(before.dtype, jnp.float32))
    label = jnp.where(counted, tokens[..., 1:], 0)
    picked = jnp.take_along_axis(before, label[..., None], axis=-1)[..., 0]
    log_prob = jnp.where(counted, picked - jax.nn.logsumexp(before, axis=-1), 0.0)
    return jnp.concatenate([jnp.zeros_like(log_prob, shape=tokens[..., :1].shape), log_prob], axis=-1)


def sequence_log_probs(
    logits: jax.Array, tokens: jax.Array, mask: jax.Array, reduction: Literal["sum", "mean"] = "sum"
) -> jax.Array:
    """Log-probability of each completion given its prompt: the sum, or the mean, of its tokens' log-probabilities.

    sum: Σ_t mask[t] log p(tokens[t] | tokens[<t]);  mean: that / Σ_t mask[t], and 0 for an empty completion.

    DPO, robust, hinge, CPO, KTO and SPPO take the sum; ORPO and SimPO the mean. TRL's `labels` with -100 are
    `tokens` with the mask off; TRL's `average_log_prob=True` is `reduction="mean"`.

    Args:
      logits: [..., L, V]; `logits[..., t, :]` predicts token t + 1. Taken to float32 if narrower.
      tokens: [..., L] integers.
      mask: [..., L], nonzero where token t is completion. Position 0 never counts: nothing predicts it.
      reduction: "sum", or "mean" over the counted tokens.

    Returns:
      [...], nats.

    Raises:
      AssertionError: the shapes differ, logits is not floating, or tokens is not integer.
      ValueError: `reduction` is neither "sum" nor "mean".

    Gradient: it reaches `logits` only where the mask is nonzero.

    Examples:
      >>> from purerl import losses
      >>> logits, tokens, mask = jnp.zeros((1, 3, 2)), jnp.array([[0, 1, 1]]), jnp.array([[0, 1, 1]])
      >>> [round(x, 3) for x in losses.sequence_log_probs(logits, tokens, mask).tolist()]
      [-1.386]
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    log_prob = token_log_probs(logits, tokens, mask)
    total = jnp.sum(log_prob, axis=-1)
    if reduction == "sum":
        return total
    return total / jnp.maximum(sequence_lengths(mask), 1).astype(total.dtype)


def sequence_lengths(mask: jax.Array) -> jax.Array:
    """Number of counted tokens of each sequence, Σ_{t≥1} [mask[t] ≠ 0]: the divisor of a length-averaged loss.

    Args:
      mask: [..., L]; position 0 never counts, as in `sequence_log_probs`.

    Returns:
      [...] int32.

    Examples:
      >>> from purerl import losses
      >>> print(losses.sequence_lengths(jnp.array([[0, 1, 1, 0], [0, 0, 0, 0]])))
      [2 0]
    """
    mask = jnp.asarray(mask)
    chex.assert_scalar_positive(mask.ndim)
    return jnp.sum(mask[..., 1:] != 0, axis=-1, dtype=jnp.int32)


def last_token(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The value at the last position that is not padding, where a reward model is read.

    out = values[max {t : mask[t] ≠ 0}], and 0 where the whole row is padding. This is not simply the last column, which
    holds a padding token under right padding.

    Args:
      values: [..., L], one value per position.
      mask: [..., L], nonzero where there is a token (prompt or completion), 0 on padding at either side.

    Returns:
      [...] values.

    Raises:
      AssertionError: the shapes differ.

    Gradient: it reaches the one position that is read.

    Examples:
      >>> from purerl import losses
      >>> print(losses.last_token(jnp.array([[1.0, 2.0, jnp.nan]]), jnp.array([[1, 1, 0]])))
      [2.]
    """
    values, mask = jnp.asarray(values), jnp.asarray(mask)
    same_shape(values=values, mask=mask)
    position = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    last = jnp.max(jnp.where(mask != 0, position, -1), axis=-1, keepdims=True)
    return jnp.sum(jnp.where(position == last, values, 0), axis=-1)
