"""Which of tunix's models a Hugging Face `config.json` describes, and how its weights are named.

tunix's Llama and Qwen3 ignore `rope_theta` (version 0.1.7). Llama is therefore built as a Qwen2 without biases, which
is the same function, and a Qwen3 with a base other than 10⁶ is refused.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from purerl.lm import gemma
from purerl.runtime import install_hint

Config: TypeAlias = Mapping[str, Any]
"""The content of `config.json`."""
Transform: TypeAlias = tuple[tuple[int, ...] | None, tuple[int, ...] | None] | None
"""How a weight of the file becomes a parameter: permuted, then reshaped."""

FAMILIES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "qwen2", "gemma3_text": "gemma3"}
"""`model_type` of a config to the module of tunix that is its model."""
_WANTED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps",
)  # fmt: skip


class Architecture(NamedTuple):
    """A model to be built.

    Attributes:
      build: `rngs -> nnx module`.
      mapping: regular expression of a weight's name to the parameter's name and its transform.
      num_layers, num_kv_heads, head_dim, embed_dim, vocab_size: sizes.
      tied: whether the logits use the embedding.
      dtype: of the computation.
      fused: whether the parameters are parts of tunix's, see `gemma`.
    """

    build: Callable[[Any], Any]
    mapping: dict[str, tuple[str, Transform]]
    num_layers: int
    num_kv_heads: int
    head_dim: int
    embed_dim: int
    vocab_size: int
    tied: bool
    dtype: Any
    fused: bool = False


class RotaryBase:
    """A base θ of rotary positions whose powers, the wavelengths / 2π, are rescaled for longer contexts.

    tunix computes θ ** fraction and nothing else of it, so an object with that one operation is a base.
    """

    def __init__(self, theta: float, scaling: Config) -> None:
        self.theta, self.scaling = theta, scaling

    def __pow__(self, fraction: Any) -> Any:
        """θ^fraction, rescaled as "llama3" or "linear" has it."""
        scale, kind = self.scaling, _rope_type(self.scaling)
        timescale = self.theta**fraction
        if kind == "linear":
            return timescale * scale["factor"]
        wavelength = 2 * math.pi * timescale
        length, low, high = (
            scale["original_max_position_embeddings"], scale["low_freq_factor"], scale["high_freq_factor"],
        )  # fmt: skip
        smooth = jnp.clip((length / wavelength - low) / (high - low), 0.0, 1.0)
        return timescale / ((1 - smooth) / scale["factor"] + smooth)


def architecture(config: Config, where: str, *, dtype: Any = jnp.float32, remat: bool = False) -> Architecture:
    """The model that a config describes.

    Args:
      config: content of `config.json`.
      where: its path, for errors.
      dtype: of the computation; parameters are float32.
      remat: recompute each layer in the backward pass instead of keeping its activations.

    Raises:
      ValueError: names the field: an unknown `model_type`, a missing size, or a variant that tunix lacks.
      ModuleNotFoundError: tunix is not installed; the message says how to install it.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"{where}: model_type = {family!r} is not supported; known are {', '.join(FAMILIES)}")
    missing = [name for name in _WANTED if not config.get(name)]
    if missing:
        raise ValueError(f"{where} has no {missing[0]}")
    _reject_variants(config, where)
    try:
        model = importlib.import_module(f"tunix.models.{FAMILIES[family]}.model")
        params = importlib.import_module(f"tunix.models.{FAMILIES[family]}.params")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"language models need {error.name}: {install_hint('lm')}") from error
    if family == "gemma3_text":
        return _gemma(config, where, model, dtype, remat)
    heads = config["num_attention_heads"]
    tied = bool(config.get("tie_word_embeddings", family != "llama"))
    sizes = model.ModelConfig(
        num_layers=config["num_hidden_layers"],
        vocab_size=config["vocab_size"],
        embed_dim=config["hidden_size"],
        hidden_dim=config["intermediate_size"],
        num_heads=heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        rope_theta=_rotary_base(config, where),
        norm_eps=config["rms_norm_eps"],
        use_tied_embedding=tied,
        dtype=dtype,
        remat_config=model.RematConfig.DECODER if remat else model.RematConfig.NONE,
    )
    kind = getattr(model, FAMILIES[family].capitalize())
    return Architecture(
        lambda rngs: kind(sizes, rngs=rngs), params._get_key_and_transform_mapping(sizes), sizes.num_layers,
        sizes.num_kv_heads, sizes.head_dim, sizes.embed_dim, sizes.vocab_size, tied, dtype,
    )  # fmt: skip


def _gemma(config: Config, where: str, model: Any, dtype: Any, remat: bool) -> Architecture:
    plan = model.RematConfig.DECODER if remat else model.RematConfig.NONE
    sizes = gemma.sizes(config, where, model, remat_config=plan)
    names = importlib.import_module("tunix.models.gemma3.params_safetensors")._get_key_and_transform_mapping(sizes)
    return Architecture(
        lambda rngs: model.Gemma3(sizes, rngs=rngs), gemma.mapping(names), sizes.num_layers, sizes.num_kv_heads,
        sizes.head_dim, sizes.embed_dim, sizes.num_embed, True, dtype, fused=True,
    )  # fmt: skip


def has_biases(config: Config) -> bool:
    """Whether queries, keys and values have biases."""
    return config["model_type"] == "qwen2"


def _reject_variants(config: Config, where: str) -> None:
    family = config["model_type"]
    if family == "gemma3_text":
        return gemma.check(config, where)
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"{where}: hidden_act = {config['hidden_act']!r} is not supported, only 'silu'")
    for field in ("use_sliding_window", "mlp_bias", "quantization_config", *(["attention_bias"] * (family != "qwen2"))):
        if config.get(field):
            raise ValueError(f"{where}: {field} is not supported")


def _rotary_base(config: Config, where: str) -> Any:
    """θ as tunix takes it: transformers 5 writes `rope_parameters`, before `rope_theta` and `rope_scaling`."""
    scaling = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
    theta = float(config.get("rope_theta") or scaling.get("rope_theta") or 10_000.0)
    kind = _rope_type(scaling)
    if config["model_type"] == "qwen3" and (theta != 1e6 or kind != "default"):
        raise ValueError(
            f"{where}: tunix's Qwen3 has rotary positions of base 1,000,000 only, found {theta:,.0f} ({kind})"
        )
    if kind == "default":
        return theta
    if kind not in ("linear", "llama3"):
        raise ValueError(f"{where}: rope_type = {kind!r} is not supported; known are default, linear, llama3")
    return RotaryBase(theta, scaling)


def _rope_type(scaling: Config) -> str:
    return scaling.get("rope_type") or scaling.get("type") or "default"


def parameter_of(name: str, mapping: dict[str, tuple[str, Transform]]) -> tuple[str, Transform] | None:
    """The parameter that a weight of a file becomes, and its transform; None for a weight that no parameter has."""
    for pattern, (target, transform) in mapping.items():
        if re.fullmatch(pattern, name):
            return re.sub(pattern, target, name), transform
    return None


def weight_names(mapping: dict[str, tuple[str, Transform]], num_layers: int) -> dict[str, str]:
    """All names of weights, each with its parameter's."""
    names = {}
    for pattern, (target, _) in mapping.items():
        plain = pattern.replace("\\.", ".")
        for layer in range(num_layers if "([0-9]+)" in plain else 1):
            name = plain.replace("([0-9]+)", str(layer), 1)
            if "(" not in name:
                names[name] = target.replace("\\1", str(layer))
    return names
