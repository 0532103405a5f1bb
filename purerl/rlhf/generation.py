"""Generation: one parallel pass over the prompts, then a scan of cached steps."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from purerl import prng
from purerl.hparams import check_positive
from purerl.reductions import argmax_last
from purerl.rlhf.models import logits_of
from purerl.rlhf.tokens import prompt_mask
from purerl.rlhf.transformer import LanguageModel
from purerl.types import Key, Network, Params, PyTree

Begin: TypeAlias = Callable[[jax.Array, jax.Array, int], tuple[jax.Array, PyTree]]
"""`(prompts [N, L], mask [N, L], room) -> (logits [N, V] behind the prompts, memory)`."""
Advance: TypeAlias = Callable[[jax.Array, jax.Array, PyTree, jax.Array], tuple[jax.Array, PyTree]]
"""`(token [N], alive [N], memory, column [] or [N]) -> (logits [N, V] behind the token, memory)`."""


_COLDEST = 1e-5  # logits divided by less lose their differences to rounding, or overflow


class Completions(NamedTuple):
    """Generated tokens, each [N, T]: tokens int32, log_prob float32 (nats), mask bool (true up to the end token)."""

    tokens: jax.Array
    log_prob: jax.Array
    mask: jax.Array


class Writing(NamedTuple):
    """Where unfinished texts stand.

    Attributes:
      logits: [N, V] of the next token.
      memory: of the texts so far: a cache, or the texts themselves.
      column: where the next token goes: [] if it is the same for all texts, else [N].
    """

    logits: jax.Array
    memory: PyTree
    column: jax.Array


def generate(
    key: Key | None,
    network: Network,
    params: Params,
    prompts: jax.Array,
    *,
    max_length: int,
    eos_id: int | tuple[int, ...],
    pad_id: int,
    temperature: float | jax.Array = 1.0,
    top_k: int = 0,
    top_p: float | jax.Array = 1.0,
    mask: jax.Array | None = None,
) -> Completions:
    """Complete each prompt with tokens drawn from softmax(logits / temperature), or from its most probable part.

    A network with `prefill` and `decode` runs once over the prompts and then once per token on that token alone; any
    other runs over the whole text for every token, with the same result.

    Args:
      key: typed key; None takes the most probable token.
      network: see `rlhf.models`.
      params: its parameters.
      prompts: [N, L] int32, padded on the left.
      max_length: T, tokens generated at most.
      eos_id: the token that ends a completion, or several of them; -1 if none does.
      pad_id: padding, of the prompts and behind an end token.
      temperature: ≥ 0; `log_prob` is that of the tempered distribution. At 0 the most probable token is taken, as
        without a key, and `log_prob` is that of softmax(logits). What is positive and below 1e-5 is taken as 1e-5.
      top_k: only the k most probable tokens are drawn; 0: all.
      top_p: only the most probable tokens are drawn that together reach this probability, at least one; 1: all.
        `log_prob` is that of the distribution drawn from.
      mask: [N, L] bool, false on the prompts' padding; None finds it by `pad_id`, see `tokens.prompt_mask`.

    Returns:
      `Completions`; behind the end token: `pad_id`, log-probability 0, mask false.

    Raises:
      ValueError: `max_length` is not positive, the temperature is not at least 0, `top_k` is not a whole number of at
        least 0, or `top_p` is outside [0, 1]; traced values pass.

    Examples:
      >>> from purerl import rlhf
      >>> network = rlhf.table_network(vocab_size=3, length=2, order=0)
      >>> params = {"logits": (jnp.array([[0.0, 0.0, 9.0]]), jnp.array([[0.0, 9.0, 0.0]])), "value": jnp.zeros((2, 1))}
      >>> generate(None, network, params, jnp.array([[0]]), max_length=2, eos_id=-1, pad_id=-1).tokens.tolist()
      [[2, 1]]
    """
    check_positive(max_length=max_length)
    _check_sampling(temperature, top_k, top_p)
    top_p = top_p if isinstance(top_p, jax.core.Tracer) else float(top_p)
    if not isinstance(temperature, jax.core.Tracer):
        temperature = float(temperature)
        key, temperature = (None, 1.0) if temperature == 0 else (key, temperature)
    begin, advance = decoder(network, params)
    mask = prompt_mask(prompts, pad_id) if mask is None else mask
    logits, memory = begin(prompts, mask, max_length)
    writing = Writing(logits, memory, jnp.int32(prompts.shape[1]))
    alive = jnp.ones(prompts.shape[0], bool)
    return write_turn(
        key, advance, writing, alive, max_length=max_length, eos_id=eos_id, pad_id=pad_id, temperature=temperature,
        top_k=top_k, top_p=top_p,
    )[1]  # fmt: skip


def _check_sampling(temperature: float | jax.Array, top_k: int, top_p: float | jax.Array) -> None:
    if not isinstance(temperature, jax.core.Tracer) and not temperature >= 0:
        raise ValueError(f"temperature = {temperature} must be at least 0, which is greedy")
    if not isinstance(top_k, int | np.integer) or top_k < 0:
        raise ValueError(f"top_k = {top_k} must be a whole number of at least 0, which keeps all tokens")
    if not isinstance(top_p, jax.core.Tracer) and not 0 <= top_p <= 1:
        raise ValueError(f"top_p = {top_p} is outside [0, 1]; 1 keeps all tokens")


def write_turn(
    key: Key | None,
    advance: Advance,
    writing: Writing,
    alive: jax.Array,
    *,
    max_length: int,
    eos_id: int | tuple[int, ...],
    pad_id: int,
    temperature: float | jax.Array = 1.0,
    top_k: int = 0,
    top_p: float | jax.Array = 1.0,
) -> tuple[Writing, Completions]:
    """Write on in texts [N] until each has an end token or `max_length` tokens more.

    Args:
      key: typed key; None takes the most probable token.
      advance: from `decoder`.
      writing: where the texts stand.
      alive: [N] bool; nothing is written to the others.
      max_length, eos_id, pad_id, temperature, top_k, top_p: as for `generate`.

    Returns:
      Where the texts stand then, and what was written.
    """
    keys = None if key is None else prng.split(key, max_length)

    def step(carry: tuple[Writing, jax.Array], key: Key | None) -> tuple[tuple[Writing, jax.Array], Completions]:
        writing, alive = carry
        token, log_prob = _choose(key, writing.logits, alive, temperature, top_k, top_p)
        out = Completions(jnp.where(alive, token, pad_id), jnp.where(alive, log_prob, 0.0), alive)
        writing = append(advance, writing, token, alive)
        return (writing, alive & ~ends(token, eos_id)), out

    (writing, _), out = jax.lax.scan(step, (writing, alive), keys, length=max_length)
    return writing, jax.tree.map(lambda x: x.T, out)  # [T, N] -> [N, T]


def _choose(
    key: Key | None,
    logits: jax.Array,
    alive: jax.Array,
    temperature: float | jax.Array,
    top_k: int,
    top_p: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """A token [N] from logits [N, V], 0 where not alive, and its log-probability."""
    traced = isinstance(temperature, jax.core.Tracer)
    divisor: jax.Array | float
    if traced:
        divisor = jnp.where(temperature == 0, 1.0, jnp.maximum(temperature, _COLDEST)).astype(jnp.float32)
    else:
        divisor = max(temperature, _COLDEST)
    log_probs = most_probable(jax.nn.log_softmax(logits.astype(jnp.float32) / divisor), top_k, top_p)
    if key is None:
        token = argmax_last(log_probs)
    else:
        noise = jax.random.gumbel(prng.unrolled(key), log_probs.shape, log_probs.dtype)
        token = argmax_last(log_probs + noise)  # that of jax.random.categorical
        if traced:
            token = jnp.where(temperature == 0, argmax_last(log_probs), token)
    token = jnp.where(alive, token, 0).astype(jnp.int32)
    return token, jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]


def ends(token: jax.Array, eos_id: int | tuple[int, ...]) -> jax.Array:
    """Whether tokens [...] are the end token, or one of several.

    Examples:
      >>> ends(jnp.array([1, 2, 3]), (1, 3)).tolist()
      [True, False, True]
    """
    ids = eos_id if isinstance(eos_id, tuple) else (eos_id,)
    return functools.reduce(operator.or_, [token == each for each in ids])


def most_probable(log_probs: jax.Array, top_k: int = 0, top_p: float | jax.Array = 1.0) -> jax.Array:
    """Log-probabilities [..., V] of the most probable part of a distribution, -inf elsewhere.

    Args:
      log_probs: [..., V], of all tokens.
      top_k: number of tokens that are kept; 0: all.
      top_p: the fewest tokens are kept whose probabilities, after `top_k`, reach this sum; 1: all.

    Examples:
      >>> log_probs = jnp.log(jnp.array([0.5, 0.25, 0.125, 0.125]))
      >>> [round(x, 2) for x in jnp.exp(most_probable(log_probs, top_k=2)).tolist()]
      [0.67, 0.33, 0.0, 0.0]
      >>> print(jnp.exp(most_probable(log_probs, top_p=0.5)))
      [1. 0. 0. 0.]
    """
    if top_k:
        least = jax.lax.top_k(log_probs, min(top_k, log_probs.shape[-1]))[0][..., -1:]
        log_probs = jax.nn.log_softmax(jnp.where(log_probs >= least, log_probs, -jnp.inf))
    if isinstance(top_p, jax.core.Tracer) or top_p < 1:
        ordered = jnp.sort(log_probs, axis=-1, descending=True)
        before = jnp.cumsum(jnp.exp(ordered), axis=-1) - jnp.exp(ordered)  # probability of the more probable ones
        least = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        least = jnp.minimum(least, ordered[..., :1])
        log_probs = jax.nn.log_softmax(jnp.where(log_probs >= least, log_probs, -jnp.inf))
    return log_probs


def append(advance: Advance, writing: Writing, token: jax.Array, alive: jax.Array) -> Writing:
    """The texts with a token [N] more in those that are alive.

    A text that is not alive keeps its logits and its column, so whatever stands in its memory at that column is written
    over by its next token. If the column is the same for all, texts do not come alive again, and it moves on.
    """
    logits, memory = advance(token, alive, writing.memory, writing.column)
    if writing.column.ndim == 0:
        return Writing(logits, memory, writing.column + 1)
    return Writing(jnp.where(alive[:, None], logits, writing.logits), memory, writing.column + alive)


def decoder(network: Network, params: Params) -> tuple[Begin, Advance]:
    """How a network writes: with its cache if it has one, else over the whole text for every token."""
    if hasattr(network, "decode"):
        return _cached(cast(LanguageModel, network), params)
    return _uncached(network, params)


def _cached(network: LanguageModel, params: Params) -> tuple[Begin, Advance]:
    def begin(prompts: jax.Array, mask: jax.Array, room: int) -> tuple[jax.Array, PyTree]:
        return jax.vmap(lambda p, m: network.prefill(params, p, m, prompts.shape[1] + room))(prompts, mask)

    def advance(token: jax.Array, alive: jax.Array, cache: PyTree, column: jax.Array) -> tuple[jax.Array, PyTree]:
        axes = (0, 0, 0 if column.ndim else None)
        return jax.vmap(lambda t, c, at: network.decode(params, t, c, at), axes)(token, cache, column)

    return begin, advance


def _uncached(network: Network, params: Params) -> tuple[Begin, Advance]:
    def logits_at(tokens: jax.Array, mask: jax.Array, column: jax.Array) -> jax.Array:
        axes = (0, 0, 0 if column.ndim else None)
        return jax.vmap(lambda t, m, at: logits_of(network.apply(params, t, m))[at], axes)(tokens, mask, column)

    def begin(prompts: jax.Array, mask: jax.Array, room: int) -> tuple[jax.Array, PyTree]:
        tokens, mask = (jnp.pad(x, ((0, 0), (0, room))) for x in (prompts, mask))
        return logits_at(tokens, mask, jnp.int32(prompts.shape[1] - 1)), (tokens, mask)

    def advance(token: jax.Array, alive: jax.Array, memory: PyTree, column: jax.Array) -> tuple[jax.Array, PyTree]:
        rows = jnp.arange(token.shape[0])
        tokens, mask = memory[0].at[rows, column].set(token), memory[1].at[rows, column].set(alive)
        return logits_at(tokens, mask, column), (tokens, mask)

    return begin, advance


def best_of_n(
    key: Key,
    network: Network,
    params: Params,
    score: Callable[[jax.Array, jax.Array], jax.Array],
    prompts: jax.Array,
    *,
    n: int,
    max_length: int,
    eos_id: int,
    pad_id: int,
) -> tuple[Completions, jax.Array]:
    """Of n completions of each prompt, the one with the highest score. Its KL to the policy is ≤ log n - (n - 1) / n.

    Args:
      key, network, params, max_length, eos_id, pad_id: as in `generate`.
      score: `(tokens [L + T], mask [L + T]) -> scalar`, as `token_env`'s `reward_fn`.
      prompts: [N, L] int32, padded on the left.
      n: completions per prompt.

    Returns:
      The best completions, and their scores [N].

    Raises:
      ValueError: `n` or `max_length` is not positive.

    Source: Stiennon et al. 2020; the bound: Beirami et al. 2024, theorem 1.
    """
    check_positive(n=n)
    many = jnp.repeat(prompts, n, axis=0)  # [N, L] -> [N n, L]
    out = generate(key, network, params, many, max_length=max_length, eos_id=eos_id, pad_id=pad_id)
    tokens = jnp.concatenate([many, out.tokens], axis=1)
    counted = jnp.concatenate([jnp.zeros(many.shape, bool), out.mask], axis=1)
    scores = jax.vmap(score)(tokens, counted).reshape(-1, n)  # [N n] -> [N, n]
    rows = jnp.arange(prompts.shape[0]) * n + jnp.argmax(scores, axis=1)
    return jax.tree.map(lambda x: x[rows], out), jnp.max(scores, axis=1)
