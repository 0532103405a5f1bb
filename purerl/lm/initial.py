"""Small random models in Hugging Face's format, to try things out and for tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.lm import architectures, hub, tokenizers
from purerl.types import Key


class Size(NamedTuple):
    """Sizes of a model as `config.json` has them."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int


SIZES = {
    "tiny": Size(64, 192, 2, 4, 2),  # 0.1 million weights beside the embedding
    "small": Size(256, 768, 4, 8, 4),  # 3 million
    "base": Size(768, 2048, 12, 12, 4),  # 74 million
}
_NAMES = {
    "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}  # fmt: skip


def config_of(size: str, family: str, vocab_size: int) -> dict[str, Any]:
    """The `config.json` of a model of one of `SIZES`.

    Raises:
      ValueError: an unknown size or family.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    if family not in _NAMES:
        raise ValueError(f"family must be one of {', '.join(_NAMES)}, got {family!r}")
    own = {"hidden_act": "silu", "rope_theta": 1_000_000.0}
    if family == "gemma3_text":
        size_of_head = SIZES[size].hidden_size // SIZES[size].num_attention_heads
        own = {
            "hidden_activation": "gelu_pytorch_tanh", "head_dim": size_of_head, "query_pre_attn_scalar": size_of_head,
            "sliding_window": 512,
        }  # fmt: skip
    return {
        "architectures": [_NAMES[family]], "model_type": family, "vocab_size": vocab_size, **SIZES[size]._asdict(),
        **own, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "max_position_embeddings": 2048, "attention_bias": False, "use_sliding_window": False,
    }  # fmt: skip


def write_model(
    key: Key, directory: str | os.PathLike[str], size: str, family: str, texts: Iterable[str], vocab_size: int
) -> dict[str, Any]:
    """Write a model with random weights and a tokenizer trained on texts.

    Args:
      key: typed key of the weights.
      directory: must not exist, or be empty.
      size: one of `SIZES`.
      family: "qwen2", "qwen3" or "llama".
      texts: that the tokenizer is trained on; without any its tokens are bytes.
      vocab_size: tokens at most.

    Returns:
      The content of `config.json`.

    Raises:
      ValueError: an unknown size or family; the directory is not empty.
    """
    path = Path(directory)
    config = config_of(size, family, vocab_size)
    if path.exists() and any(path.iterdir()):
        raise ValueError(f"{path} exists and is not empty")
    config["vocab_size"] = tokenizers.make_tokenizer(path, texts, vocab_size)
    built = architectures.architecture(config, "config")
    network = hub.network_of(config, built)
    text = jnp.zeros(1, jnp.int32), jnp.ones(1, bool)
    hub.save(path, network.init(key, *text), config | _special_ids(path))
    return config


def _special_ids(path: Path) -> dict[str, int]:
    encoder = tokenizers.load_encoder(path)
    return {"eos_token_id": encoder.eos_id, "pad_token_id": encoder.pad_id}


def count(params: Any) -> int:
    """Number of weights."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
