"""A small decoder-only transformer with a cache, as an example network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.hparams import check_positive
from purerl.networks.products import product
from purerl.types import Params

_NEVER = -1e30  # score of a key that is masked: finite, so that a row without keys stays finite


class LanguageModel(NamedTuple):
    """The functions of `rlhf.models`, with a cache."""

    init: Callable[..., Any]
    apply: Callable[..., Any]
    prefill: Callable[..., Any]
    decode: Callable[..., Any]


class Cache(NamedTuple):
    """Keys and values, an array [heads, width / heads, W] per block, and which columns hold a token, [W].

    Columns are last, as the products with queries and weights read them: otherwise a CPU would transpose the whole
    cache in every step.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    mask: jax.Array


def transformer(vocab_size: int, *, width: int = 64, depth: int = 2, num_heads: int = 4) -> LanguageModel:
    """GPT with rotary positions, RMS norms before each part, and heads for logits and a value.

    Rotary positions are relative, so padding on the left has no effect. The value head starts at zero.

    Args:
      vocab_size: V.
      width: of the residual stream; divisible by 2 · num_heads.
      depth: number of blocks.
      num_heads: attention heads.

    Returns:
      A `LanguageModel`: `apply(params, tokens [L], mask [L]) -> (logits [L, V], value [L])`, `prefill`, `decode`.

    Raises:
      ValueError: a size is not positive, or `width` not divisible by 2 · num_heads.

    Examples:
      >>> network = transformer(vocab_size=10, width=8, depth=1, num_heads=2)
      >>> text = jax.ShapeDtypeStruct((5,), jnp.int32), jax.ShapeDtypeStruct((5,), bool)
      >>> params = jax.eval_shape(network.init, jax.random.key(0), *text)
      >>> [out.shape for out in jax.eval_shape(network.apply, params, *text)]
      [(5, 10), (5,)]
    """
    check_positive(vocab_size=vocab_size, width=width, depth=depth, num_heads=num_heads)
    if width % (2 * num_heads):
        raise ValueError(f"width = {width} must be a multiple of 2 · num_heads = {2 * num_heads}")
    module = Transformer(vocab_size, width, depth, num_heads)
    run: Callable[..., Any] = module.apply

    def prefill(params: Params, tokens: jax.Array, mask: jax.Array, room: int) -> tuple[jax.Array, Cache]:
        logits, cache = run(params, tokens, mask, method="prefill")
        missing = room - tokens.shape[0]
        return logits, jax.tree.map(lambda x: jnp.pad(x, (*((0, 0),) * (x.ndim - 1), (0, missing))), cache)

    def decode(params: Params, token: jax.Array, cache: Cache, column: jax.Array) -> tuple[jax.Array, Cache]:
        return run(params, token, cache, column, method="decode")

    return LanguageModel(module.init, module.apply, prefill, decode)


class Transformer(nn.Module):
    """See `transformer`."""

    vocab_size: int
    width: int
    depth: int
    num_heads: int

    def setup(self) -> None:
        """Modules shared by the three ways to run."""
        self.embedding = nn.Embed(self.vocab_size, self.width, embedding_init=nn.initializers.normal(1.0))
        self.blocks = [Block(self.width, self.num_heads) for _ in range(self.depth)]
        self.norm = nn.RMSNorm()
        self.logits = nn.Dense(self.vocab_size, kernel_init=nn.initializers.normal(0.02), dot_general=product)
        self.value = nn.Dense(1, kernel_init=nn.initializers.zeros)

    def __call__(self, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Tokens [L] and mask [L] to logits [L, V] and values [L], all positions at once."""
        x, _ = self._run(tokens, mask)
        return self.logits(x), self.value(x)[:, 0]

    def prefill(self, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, Cache]:
        """Tokens [L] to the logits [V] of the next token, and a cache of L columns."""
        x, cache = self._run(tokens, mask)
        return self.logits(x[-1]), cache

    def decode(self, token: jax.Array, cache: Cache, column: jax.Array) -> tuple[jax.Array, Cache]:
        """One token, at its column, to the logits [V] of the next."""
        x = self.embedding(token)[None]
        mask = cache.mask.at[column].set(True)
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            query, key, value = block.project(x, column[None])
            keys.append(jax.lax.dynamic_update_slice_in_dim(cache.keys[i], key, column, axis=-1))
            values.append(jax.lax.dynamic_update_slice_in_dim(cache.values[i], value, column, axis=-1))
            x = block.finish(x, query, keys[-1], values[-1], mask[None])
        return self.logits(self.norm(x[0])), Cache(tuple(keys), tuple(values), mask)

    def _run(self, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, Cache]:
        columns = jnp.arange(tokens.shape[0])
        seen = (columns[None] <= columns[:, None]) & mask[None].astype(bool)
        x = self.embedding(tokens)
        keys, values = [], []
        for block in self.blocks:
            query, key, value = block.project(x, columns)
            keys.append(key)
            values.append(value)
            x = block.finish(x, query, key, value, seen)
        return self.norm(x), Cache(tuple(keys), tuple(values), mask)


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual connection."""

    width: int
    num_heads: int

    def setup(self) -> None:
        """Modules."""
        self.attention_norm, self.hidden_norm = nn.RMSNorm(), nn.RMSNorm()
        dense = functools.partial(nn.Dense, dot_general=product)
        self.qkv = dense(3 * self.width, use_bias=False)
        self.out = dense(self.width, use_bias=False)
        self.up = dense(4 * self.width)
        self.down = dense(self.width)

    def project(self, x: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[L, width] to queries [L, H, D], keys and values [H, D, L]; queries and keys are rotated by columns [L]."""
        heads = self.qkv(self.attention_norm(x)).reshape(x.shape[0], 3, self.num_heads, -1)
        query, key, value = _rotate(heads[:, 0], columns), _rotate(heads[:, 1], columns), heads[:, 2]
        return query, key.transpose(1, 2, 0), value.transpose(1, 2, 0)

    def finish(self, x: jax.Array, query: jax.Array, key: jax.Array, value: jax.Array, seen: jax.Array) -> jax.Array:
        """The block's output, given queries [L, H, D], keys and values [H, D, K] and the attention mask [L, K]."""
        scores = jnp.einsum("lhd,hdk->hlk", query, key) / query.shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(seen[None], scores, _NEVER), axis=-1)  # [H, L, K]
        x = x + self.out(jnp.einsum("hlk,hdk->lhd", weights, value).reshape(x.shape))
        return x + self.down(nn.gelu(self.up(self.hidden_norm(x))))


def _rotate(x: jax.Array, columns: jax.Array) -> jax.Array:
    """Rotary position embedding: pair i of [L, H, D] turned by column · 10000^(-2i / D)."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = columns[:, None, None] * frequency[None, None]  # [L, 1, D / 2]
    first, second = x[..., :half], x[..., half:]
    turned = (first * jnp.cos(angle) - second * jnp.sin(angle), first * jnp.sin(angle) + second * jnp.cos(angle))
    return jnp.concatenate(turned, axis=-1)
