"""Gemma 3 of tunix, without its vision: a parameter for each weight of the file, in place of tunix's fused ones.

tunix joins the projections of queries, keys and values. Here each is a parameter of its own, named and shaped as in the
other families, so that loading, saving and LoRA are theirs. `joined` makes tunix's parameters of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Config: TypeAlias = Mapping[str, Any]
Transform: TypeAlias = tuple[tuple[int, ...] | None, tuple[int, ...] | None] | None

PERIOD = 6
"""Every sixth layer attends to the whole text, the others to a window."""
_FUSED = {"q_einsum.w": "q", "kv_einsum.w": "kv", "qkv_einsum.w": "qkv"}
_OUTPUT = "attn_vec_einsum.w"
_THETA = {"full_attention": 1_000_000.0, "sliding_attention": 10_000.0}


def mapping(of_tunix: Mapping[str, tuple[str, Transform]]) -> dict[str, tuple[str, Transform]]:
    """Names of weights to parameters, one to one, from tunix's mapping to the parts of its fused parameters."""
    found: dict[str, tuple[str, Transform]] = {}
    for pattern, (target, transform) in of_tunix.items():
        pattern = pattern.replace(r"(?:language_model\.)?", "")
        pattern = re.sub(r"\((\w+)(?:\|\w+)+\)", r"\1", pattern)  # of several names the first
        if part := re.fullmatch(r"tmp\.layers\.\\1\.attn\.([qkv])", target):
            target = rf"layers.\1.attn.{part[1]}_proj.w"
        target = target.replace(_OUTPUT, "o_proj.w")
        if not target.startswith("unused") and target not in {each for each, _ in found.values()}:
            found[pattern] = target, transform
    return found


def parts(name: str) -> list[str]:
    """The parameters that a parameter of tunix is made of.

    Examples:
      >>> parts("layers.0.attn.kv_einsum.w")
      ['layers.0.attn.k_proj.w', 'layers.0.attn.v_proj.w']
      >>> parts("layers.0.attn.attn_vec_einsum.w"), parts("final_norm.scale")
      (['layers.0.attn.o_proj.w'], ['final_norm.scale'])
    """
    layer, _, last = name.partition(".attn.")
    if last == _OUTPUT:
        return [f"{layer}.attn.o_proj.w"]
    return [f"{layer}.attn.{letter}_proj.w" for letter in _FUSED[last]] if last in _FUSED else [name]


def of_part(name: str, of_tunix: Sequence[Any]) -> tuple[Any, ...]:
    """The shape, or the axes of a mesh, of each part of a parameter of tunix.

    Examples:
      >>> of_part("layers.0.attn.kv_einsum.w", (2, 4, 64, 16))  # [2, heads, width, size]
      (64, 4, 16)
    """
    last = name.partition(".attn.")[2]
    if last not in _FUSED:
        return tuple(of_tunix)
    heads, width, size = tuple(of_tunix)[-3:]
    return width, heads, size


def joined(params: Mapping[str, jax.Array], name: str) -> jax.Array:
    """A parameter of tunix from its parts."""
    found = [params[part] for part in parts(name)]
    if name.partition(".attn.")[2] not in _FUSED:
        return found[0]
    swapped = [part.transpose(1, 0, 2) for part in found]  # [width, heads, size] -> [heads, width, size]
    return swapped[0] if len(swapped) == 1 else jnp.stack(swapped)


def sizes(config: Config, where: str, model: Any, **common: Any) -> Any:
    """tunix's `ModelConfig`.

    Args:
      config: content of `config.json`.
      where: its path, for errors.
      model: tunix's module of Gemma 3.
      common: other fields.

    Raises:
      ValueError: names a field that tunix's Gemma 3 does not have.
    """
    heads, size = config["num_attention_heads"], config.get("head_dim") or 256
    kinds = model.QueryPreAttentionNormalisation
    scales = {
        config["hidden_size"] // heads: kinds.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS,
        size: kinds.BY_ONE_OVER_SQRT_HEAD_DIM,
    }
    scalar = config.get("query_pre_attn_scalar", 256)
    if scalar not in scales:
        raise ValueError(
            f"{where}: query_pre_attn_scalar = {scalar} is not supported, only {', '.join(map(str, scales))}"
        )
    return model.ModelConfig(
        num_layers=config["num_hidden_layers"],
        num_embed=config["vocab_size"],
        embed_dim=config["hidden_size"],
        hidden_dim=config["intermediate_size"],
        num_heads=heads,
        head_dim=size,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        sliding_window_size=config.get("sliding_window") or 4096,
        local_base_frequency=_rotary(config, "sliding_attention", where)[0],
        local_scale_factor=_rotary(config, "sliding_attention", where)[1],
        global_base_frequency=_rotary(config, "full_attention", where)[0],
        global_scale_factor=_rotary(config, "full_attention", where)[1],
        query_pre_attn_norm=scales[scalar],
        param_dtype=jnp.float32,
        **common,
    )


def check(config: Config, where: str) -> None:
    """Refuse variants that tunix's Gemma 3 does not have.

    Raises:
      ValueError: names the field.
    """
    wanted = {"hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "tie_word_embeddings": True}
    refused = (
        "attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention", "attention_bias",
        "quantization_config",
    )  # fmt: skip
    for field, value in wanted.items():
        if config.get(field, value) != value:
            raise ValueError(f"{where}: {field} = {config[field]!r} is not supported, only {value!r}")
    for field in refused:
        if config.get(field):
            raise ValueError(f"{where}: {field} is not supported")
    layers = [f"{'full' if (i + 1) % PERIOD == 0 else 'sliding'}_attention" for i in range(config["num_hidden_layers"])]
    if config.get("layer_types", layers) != layers:
        raise ValueError(f"{where}: layer_types is not supported other than five sliding layers and a full one in turn")


def _rotary(config: Config, kind: str, where: str) -> tuple[float, float]:
    """θ and the factor of a kind of layers: transformers 5 writes `rope_parameters`, before two fields for each."""
    full = kind == "full_attention"
    nested = (config.get("rope_parameters") or {}).get(kind) or {}
    old = (config.get("rope_scaling") or {}) if full else {}
    theta = nested.get("rope_theta") or config.get("rope_theta" if full else "rope_local_base_freq") or _THETA[kind]
    scaling = nested or old
    rope_type = scaling.get("rope_type") or scaling.get("type") or "default"
    if rope_type not in ("default", "linear"):
        raise ValueError(f"{where}: rope_type = {rope_type!r} is not supported; known are default, linear")
    return theta, float(scaling.get("factor", 1.0)) if rope_type == "linear" else 1.0
