"""Decoders of tunix as networks of purerl: pure functions of a flat dict of parameters, with a cache for generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.lm import gemma
from purerl.lm.architectures import Architecture
from purerl.lm.log_probs import chunked_log_probs
from purerl.types import Key, Params, PyTree

VALUE_HEAD = "score.w"
"""Parameter [D] of a reward model's or a critic's head, the `score.weight` of transformers."""


class DecoderNetwork(NamedTuple):
    """A language model as `rlhf.models` describes it, with two functions more.

    Attributes:
      init: `(key, tokens [L], mask [L]) -> params`, a dict of arrays by name.
      apply: `(params, tokens [L], mask [L]) -> logits [L, V]`, with values [L] beside them if there is a value head.
      prefill: `(params, tokens [L], mask [L], room) -> (logits [V], cache)`.
      decode: `(params, token, cache, column) -> (logits [V], cache)`.
      hidden: `(params, tokens [L], mask [L]) -> [L, D]`, what the logits are a product of.
      token_log_probs: `(params, tokens [L], mask [L], completion [L]) -> [L]` without logits of the whole text.
      shardings: `() -> axes of a mesh by parameter name`, such as `("fsdp", "tp", None)`.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    prefill: Callable[..., Any]
    decode: Callable[..., Any]
    hidden: Callable[..., Any]
    token_log_probs: Callable[..., Any]
    shardings: Callable[[], dict[str, tuple[Any, ...]]]


class Cache(NamedTuple):
    """Keys and values of every layer, [1, W, heads, size], and which columns hold a token, [W]."""

    layers: dict[str, dict[str, jax.Array]]
    mask: jax.Array


def network(
    architecture: Architecture, *, biases: bool = True, value_head: bool = False, chunk: int = 128
) -> DecoderNetwork:
    """A decoder of tunix as a network.

    Args:
      architecture: from `architectures.architecture`.
      biases: whether queries, keys and values have biases; if not, they are zero and not parameters.
      value_head: whether there is one more parameter [D], which makes a value per token.
      chunk: positions whose logits are computed at once by `token_log_probs`.

    Returns:
      Functions of ONE text; agents vmap them.
    """
    decoder = _Decoder(architecture, biases)

    def init(key: Key, tokens: jax.Array, mask: jax.Array) -> Params:
        params = decoder.init(key)
        return params | {VALUE_HEAD: jnp.zeros(architecture.embed_dim)} if value_head else params

    def hidden(params: Params, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        return decoder.run(params, tokens, mask)[0]

    def apply(params: Params, tokens: jax.Array, mask: jax.Array) -> PyTree:
        x = hidden(params, tokens, mask)
        logits = decoder.logits(params, x)
        return (logits, _values(params, x)) if value_head else logits

    def token_log_probs(params: Params, tokens: jax.Array, mask: jax.Array, completion: jax.Array) -> jax.Array:
        x = hidden(params, tokens, mask)
        return chunked_log_probs(lambda part: decoder.logits(params, part), x, tokens, completion, chunk)

    def prefill(params: Params, tokens: jax.Array, mask: jax.Array, room: int) -> tuple[jax.Array, Cache]:
        x, cache = decoder.run(params, tokens, mask, room=room)
        assert cache is not None
        return decoder.logits(params, x[-1]), cache

    def decode(params: Params, token: jax.Array, cache: Cache, column: jax.Array) -> tuple[jax.Array, Cache]:
        x, cache = decoder.step(params, token, cache, column)
        return decoder.logits(params, x), cache

    def shardings() -> dict[str, tuple[Any, ...]]:
        return decoder.shardings() | ({VALUE_HEAD: (None,)} if value_head else {})

    return DecoderNetwork(init, apply, prefill, decode, hidden, token_log_probs, shardings)


def _values(params: Params, x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) @ params[VALUE_HEAD]


class _Decoder:
    """An nnx module taken apart: its graph, and where in its state each parameter stands."""

    def __init__(self, architecture: Architecture, biases: bool) -> None:
        from flax import nnx

        self.architecture = architecture
        self.graph, state = nnx.split(nnx.eval_shape(lambda: architecture.build(nnx.Rngs(params=0))))
        flat = {".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(state)}
        self.paths = {name: path for name, (path, _) in flat.items()}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.axes: dict[str, tuple[Any, ...]] = {}
        for name, (_, leaf) in flat.items():
            shape, axes = leaf.get_value().shape, tuple(leaf.get_metadata().get("out_sharding") or ())
            for part in gemma.parts(name) if architecture.fused else [name]:
                self.shapes[part] = gemma.of_part(name, shape) if architecture.fused else shape
                self.axes[part] = gemma.of_part(name, axes) if architecture.fused and axes else axes
        self.frozen = set() if biases else {name for name in flat if name.endswith("_bias")}

    def names(self) -> list[str]:
        """Names of all parameters."""
        return [name for name in self.shapes if name not in self.frozen]

    def shardings(self) -> dict[str, tuple[Any, ...]]:
        """Axes of a mesh by parameter, as tunix has them."""
        return {name: self.axes[name] for name in self.names()}

    def init(self, key: Key) -> Params:
        """Normal weights of standard deviation 0.02, as transformers draws them; norms of factor 1, biases of 0."""
        params = {}
        for i, name in enumerate(self.names()):
            shape = self.shapes[name]
            if len(shape) > 1:
                params[name] = 0.02 * jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float32)
            else:
                # Gemma's norms multiply by 1 + scale
                zero = name.endswith("_bias") or self.architecture.fused
                params[name] = (jnp.zeros if zero else jnp.ones)(shape, jnp.float32)
        return params

    def logits(self, params: Params, x: jax.Array) -> jax.Array:
        """[..., D] to float32 [..., V]."""
        tied = self.architecture.tied
        head = params["embedder.input_embedding"] if tied else params["lm_head.w"]
        head = head.astype(x.dtype)
        return jnp.einsum("...d,vd->...v" if tied else "...d,dv->...v", x, head).astype(jnp.float32)

    def run(
        self, params: Params, tokens: jax.Array, mask: jax.Array, room: int | None = None
    ) -> tuple[jax.Array, Cache | None]:
        """A text [L] to hidden states [L, D], and a cache of `room` columns if it is given."""
        mask = mask.astype(bool)
        length = tokens.shape[0]
        positions = jnp.maximum(jnp.cumsum(mask) - 1, 0)
        seen = jnp.tril(jnp.ones((length, length), bool)) & mask[None]  # [L, L]
        if room is None:
            return self._call(params, tokens, positions, None, seen)[0], None
        missing = room - length
        cache = {name: self._empty(room) for name in self._layers()}
        x, layers = self._call(params, tokens, positions, cache, jnp.pad(seen, ((0, 0), (0, missing))))
        return x, Cache(layers, jnp.pad(mask, (0, missing)))

    def step(self, params: Params, token: jax.Array, cache: Cache, column: jax.Array) -> tuple[jax.Array, Cache]:
        """One token at its column to the hidden state [D] behind it."""
        mask = cache.mask.at[column].set(True)
        position = jnp.sum(mask) - 1
        layers = {name: {**layer, "end_index": column[None]} for name, layer in cache.layers.items()}
        x, layers = self._call(params, token[None], position[None], layers, mask[None])
        return x[0], Cache(layers, mask)

    def _call(
        self, params: Params, tokens: jax.Array, positions: jax.Array, cache: PyTree, seen: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        from flax import nnx

        model = nnx.merge(self.graph, self._state(params))
        # The model's own logits are not used, so the compiler drops them.
        _, layers = model(tokens[None], positions[None], cache, seen[None], output_hidden_states=True)
        [x] = model.all_hidden_states.get_value()
        kept = {name: {k: layer[k] for k in ("k", "v")} for name, layer in (layers or {}).items()}
        return x[0], kept

    def _state(self, params: Params) -> PyTree:
        from flax import nnx

        zeros = {name: jnp.zeros(self.shapes[name], jnp.float32) for name in self.frozen}
        leaves = {**{name: params[name] for name in self.names()}, **zeros}
        if self.architecture.fused:  # this one computes in the type of its parameters
            typed = {name: leaf.astype(self.architecture.dtype) for name, leaf in leaves.items()}
            leaves = {name: gemma.joined(typed, name) for name in self.paths}
        return nnx.from_flat_state([(self.paths[name], leaves[name]) for name in self.paths])

    def _layers(self) -> list[str]:
        return [f"layer_{i}" for i in range(self.architecture.num_layers)]

    def _empty(self, room: int) -> dict[str, jax.Array]:
        shape = (1, room, self.architecture.num_kv_heads, self.architecture.head_dim)
        empty = jnp.zeros(shape, self.architecture.dtype)
        return {"k": empty, "v": empty, "end_index": jnp.zeros(1, jnp.int32)}
