"""Completions of texts by a model: prompts of any lengths in, texts out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.lm import store
from purerl.lm.encoding import Encoder
from purerl.rlhf.generation import Completions, generate
from purerl.types import Key, Network, Params


class Sampling(NamedTuple):
    """How tokens are drawn.

    Attributes:
      max_tokens: longest completion.
      temperature: 0 is greedy.
      top_k: only the k most probable tokens; 0: all.
      top_p: only the most probable tokens that reach this probability; 1: all.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@functools.partial(jax.jit, static_argnames=("network", "sampling", "stop_ids", "pad_id"))
def _generate(
    key: Key,
    params: Params,
    tokens: jax.Array,
    mask: jax.Array,
    network: Network,
    sampling: Sampling,
    stop_ids: tuple[int, ...],
    pad_id: int,
) -> Completions:
    return generate(
        key, network, params, tokens, max_length=sampling.max_tokens, eos_id=stop_ids, pad_id=pad_id,
        temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, mask=mask,
    )  # fmt: skip


def complete(
    key: Key,
    network: Network,
    params: Params,
    tokens: np.ndarray,
    mask: np.ndarray,
    encoder: Encoder,
    sampling: Sampling,
) -> Completions:
    """Completions of prompts [N, L], padded on the left, by the cache.

    Args:
      key: typed key.
      network: hashable, as a tuple of functions is; generation is compiled once for each L.
      params: its parameters.
      tokens, mask: from `store.left_padded`.
      encoder: whose end tokens end a completion.
      sampling: how tokens are drawn.
    """
    stop_ids = (encoder.eos_id, *encoder.stop_ids)
    return _generate(key, params, jnp.asarray(tokens), jnp.asarray(mask), network, sampling, stop_ids, encoder.pad_id)


def texts_of(completions: Completions, encoder: Encoder) -> list[str]:
    """The texts, without special tokens."""
    tokens, mask = np.asarray(completions.tokens), np.asarray(completions.mask)
    return [encoder.decode(row[kept].tolist()) for row, kept in zip(tokens, mask)]


def complete_texts(
    key: Key,
    network: Network,
    params: Params,
    prompts: Sequence[list[int]],
    encoder: Encoder,
    sampling: Sampling,
    batch_size: int = 32,
) -> list[str]:
    """A completion of each prompt of token ids, `batch_size` at a time, in one compiled program.

    Args:
      key, network, params, encoder, sampling: as in `complete`.
      prompts: ids.
      batch_size: prompts completed at once.
    """
    width = max(map(len, prompts))
    size = min(batch_size, len(prompts))
    out: list[str] = []
    for i in range(0, len(prompts), size):
        part = [*prompts[i : i + size]]
        part += [part[0]] * (size - len(part))
        tokens, mask = store.left_padded(part, width, encoder.pad_id)
        found = complete(jax.random.fold_in(key, i), network, params, tokens, mask, encoder, sampling)
        out += texts_of(found, encoder)
    return out[: len(prompts)]
