"""Model directories in Hugging Face's format: `config.json`, safetensors, a tokenizer. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.lm import architectures, models
from purerl.lm.architectures import Architecture, Config
from purerl.lm.models import VALUE_HEAD, DecoderNetwork
from purerl.rlhf.weights import read_tensors, write_tensors
from purerl.types import Params

_SCORE = "score.weight"
_INDEX = "model.safetensors.index.json"
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Model(NamedTuple):
    """A model that was read.

    Attributes:
      network: its functions.
      params: float32 arrays by name.
      config: content of `config.json`.
      directory: where it was read from.
      notes: what a person should know, such as weights that were widened from float16.
    """

    network: DecoderNetwork
    params: Params
    config: Config
    directory: Path
    notes: tuple[str, ...] = ()


def load(
    directory: str | os.PathLike[str],
    *,
    dtype: Any = jnp.float32,
    remat: bool = False,
    value_head: bool = False,
    logits_chunk: int = 128,
) -> Model:
    """Read a model directory.

    Args:
      directory: with `config.json` and `model.safetensors` (or its shards and their index).
      dtype: of the computation, such as bfloat16; parameters are float32.
      remat: recompute each layer in the backward pass.
      value_head: add a head of values, zero unless the weights have one (`score.weight`).
      logits_chunk: positions whose logits `token_log_probs` computes at once.

    Raises:
      ValueError: names the file and what is wrong with it: no config, an unsupported model, no safetensors (a pickle is
        not read), a weight that is missing, unknown or of another shape.
      OSError: a file cannot be read.
      ModuleNotFoundError: tunix is not installed.
    """
    path = _directory(directory)
    config = read_config(path)
    tensors = _read_all(path)
    config.setdefault("tie_word_embeddings", "lm_head.weight" not in tensors)
    built = architectures.architecture(config, str(path / "config.json"), dtype=dtype, remat=remat)
    network = network_of(config, built, value_head, logits_chunk)
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(1, jnp.int32), jnp.ones(1, bool))
    params, notes = _params(path, tensors, built, like)
    return Model(network, params, config, path, notes)


def network_of(
    config: Config, built: Architecture, value_head: bool = False, logits_chunk: int = 128
) -> DecoderNetwork:
    """The functions of a model."""
    biases = architectures.has_biases(config)
    return models.network(built, biases=biases, value_head=value_head, chunk=logits_chunk)


def save(
    directory: str | os.PathLike[str], params: Params, config: Config, source: Path | None = None, dtype: Any = None
) -> Path:
    """Write a model directory that `transformers` loads too.

    Args:
      directory: created if need be; its weights and config are replaced.
      params: as in `Model`; with a value head it is a sequence classifier of one label.
      config: content of `config.json`.
      source: a directory whose tokenizer files are copied.
      dtype: of the weights; None keeps that of the parameters.
    """
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    built = architectures.architecture(config, "config")
    dtype = np.dtype(jnp.float32 if dtype is None else dtype)
    names = architectures.weight_names(built.mapping, built.num_layers)
    tensors = {}
    for name, parameter in names.items():
        if parameter in params:
            tensors[name] = to_file(np.asarray(params[parameter]), name, built).astype(dtype, copy=False)
    if VALUE_HEAD in params:
        tensors[_SCORE] = np.asarray(params[VALUE_HEAD])[None].astype(dtype, copy=False)
    if source is not None and source.resolve() != path.resolve():
        for name in _TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copy(source / name, path / name)
    config = {name: value for name, value in config.items() if name != "torch_dtype"}  # `dtype` is its new name
    config |= {"dtype": dtype.name, "architectures": [_class_name(config, VALUE_HEAD in params)]}
    config |= {"id2label": {"0": "reward"}, "label2id": {"reward": 0}} if VALUE_HEAD in params else {}
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_tensors(path / "model.safetensors", tensors, {"format": "pt"})
    return path


def read_config(path: Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
      ValueError: it is missing, or not a JSON object.
    """
    file = path / "config.json"
    if not file.is_file():
        raise ValueError(f"{path} is not a model directory: it has no config.json")
    return read_object(file)


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
      ValueError: names a file that is not valid JSON, or not an object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is not a JSON object")
    return found


def _directory(directory: str | os.PathLike[str]) -> Path:
    path = Path(directory)
    if not path.is_dir():
        hint = "; models are not fetched by name" if str(directory).count("/") == 1 else ""
        raise ValueError(f"{path} is not a directory{hint}; `purerl lm init {path}` writes a tiny random model")
    return path


def _read_all(path: Path) -> dict[str, np.ndarray]:
    """All weights of a directory by their names."""
    index = path / _INDEX
    if index.is_file():
        weights = read_object(index).get("weight_map")
        if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
            raise ValueError(f"{index}: weight_map must be a table of files by weight, found {weights!r}")
        files = sorted(set(weights.values()))
        missing = [name for name in files if not (path / name).is_file()]
        if missing:
            raise ValueError(f"{path}: {missing[0]} is listed in {_INDEX} and missing")
    else:
        files = sorted(file.name for file in path.glob("*.safetensors"))
    if not files:
        pickles = sorted(file.name for file in path.iterdir() if file.suffix in _PICKLES)
        hint = f"; {pickles[0]} is a pickle, which is not read: convert it to safetensors" if pickles else ""
        raise ValueError(f"{path} has no model.safetensors{hint}")
    tensors: dict[str, np.ndarray] = {}
    for name in files:
        tensors |= read_tensors(path / name)
    return tensors


def _params(
    path: Path, tensors: Mapping[str, np.ndarray], built: Architecture, like: Params
) -> tuple[Params, tuple[str, ...]]:
    params: dict[str, jax.Array] = {}
    narrow, unknown = set(), []
    for name, tensor in tensors.items():
        target, transform = _target(name, built)
        if target is None or target not in like:
            unknown += [name] * (name not in (_SCORE, "lm_head.weight"))
            continue
        array = _from_file(tensor, transform)
        if array.shape != like[target].shape:
            raise ValueError(
                f"{path}: {name} has the shape {list(tensor.shape)}, which does not fit the {list(like[target].shape)} "
                "of config.json"
            )
        narrow |= {array.dtype.name} - {"float32"}
        params[target] = jnp.asarray(array, jnp.float32)
    if unknown:
        raise ValueError(f"{path} has the weight {unknown[0]}, which the model of config.json does not have")
    missing = sorted(set(like) - set(params) - {VALUE_HEAD})
    if missing:
        raise ValueError(f"{path} lacks the weight of {missing[0]}, and {len(missing) - 1} more")
    if VALUE_HEAD in like and VALUE_HEAD not in params:
        params[VALUE_HEAD] = jnp.zeros(like[VALUE_HEAD].shape)
    notes = tuple(f"weights of {name} are computed with as float32" for name in sorted(narrow - {"bfloat16"}))
    return {name: params[name] for name in like}, notes


def _target(name: str, built: Architecture) -> tuple[str | None, architectures.Transform]:
    if name == _SCORE:
        return VALUE_HEAD, (None, (built.embed_dim,))
    found = architectures.parameter_of(name, built.mapping)
    return found if found is not None else (None, None)


def _from_file(tensor: np.ndarray, transform: architectures.Transform) -> np.ndarray:
    if transform is None:
        return tensor
    permutation, shape = transform
    tensor = tensor.transpose(permutation) if permutation else tensor
    return tensor.reshape(shape) if shape and int(np.prod(shape)) == tensor.size else tensor


def to_file(array: np.ndarray, name: str, built: Architecture) -> np.ndarray:
    """A parameter as its weight in the file; all permutations of tunix swap the two axes of a matrix."""
    _, transform = _target(name, built)
    if transform is None:
        return array
    permutation, shape = transform
    if shape is None:
        return array.transpose(permutation) if permutation else array
    # [D, N, H] of queries and keys was [D, N H]; [N, H, D] of outputs was [N H, D]
    inputs = array.shape[0] if array.shape[0] == built.embed_dim and not name.endswith("o_proj.weight") else -1
    return array.reshape((inputs, -1) if inputs > 0 else (-1, array.shape[-1])).transpose(permutation)


def _class_name(config: Config, classifier: bool) -> str:
    kind = config["model_type"]
    if kind == "gemma3_text":
        return "Gemma3TextForSequenceClassification" if classifier else "Gemma3ForCausalLM"
    family = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}[kind]
    return f"{family}{'ForSequenceClassification' if classifier else 'ForCausalLM'}"
