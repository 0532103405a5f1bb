"""Models of tunix as networks: the cache, padding, files. Skipped without the extra `purerl[lm]`."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import losses, rlhf
from purerl.lm import generation, store
from purerl.lm.encoding import Encoder
from purerl.rlhf.weights import read_tensors, write_tensors

pytest.importorskip("tunix")
pytest.importorskip("transformers")

from purerl.lm import hub, initial, tokenizers

TOKENS = jnp.asarray(np.random.default_rng(0).integers(3, 259, 12), jnp.int32)
SEEN = jnp.ones(12, bool)


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama", "gemma3_text"])
def directory(request, tmp_path_factory):
    return made(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    return made("qwen2", tmp_path_factory)


def made(family, folders):
    path = folders.mktemp("models") / family
    initial.write_model(jax.random.key(0), path, "tiny", family, [], 259)
    return path


@pytest.fixture(scope="module")
def model(directory):
    return hub.load(directory)


def test_padding_on_the_left_changes_nothing(model):
    whole = jax.jit(model.network.apply)(model.params, TOKENS, SEEN)
    padded = jax.jit(model.network.apply)(model.params, jnp.pad(TOKENS, (3, 0)), jnp.pad(SEEN, (3, 0)))
    np.testing.assert_allclose(padded[3:], whole, atol=1e-5)


def test_log_probs_in_chunks_are_those_of_the_logits(model):
    completion = jnp.arange(12) > 4
    logits = jax.jit(model.network.apply)(model.params, TOKENS, SEEN)
    found = jax.jit(model.network.token_log_probs)(model.params, TOKENS, SEEN, completion)
    np.testing.assert_allclose(found, losses.token_log_probs(logits, TOKENS, completion), atol=1e-5)


def test_generation_with_the_cache_is_generation_without(model):
    encoder = Encoder(list, bytes, (), eos_id=2, pad_id=0)
    tokens, mask = store.left_padded([TOKENS[:5].tolist(), TOKENS[:8].tolist()], 8, 0)
    cached = generation.complete(
        jax.random.key(1), model.network, model.params, tokens, mask, encoder, generation.Sampling(6)
    )
    uncached = rlhf.Network(model.network.init, model.network.apply)
    plain = generation.complete(
        jax.random.key(1), uncached, model.params, tokens, mask, encoder, generation.Sampling(6)
    )
    np.testing.assert_array_equal(cached.tokens, plain.tokens)
    np.testing.assert_allclose(cached.log_prob, plain.log_prob, atol=1e-5)


def test_saved_weights_are_those_that_were_read(model, tmp_path):
    hub.save(tmp_path / "copy", model.params, model.config, model.directory)
    again = hub.load(tmp_path / "copy")
    jax.tree.map(np.testing.assert_array_equal, model.params, again.params)
    before, after = (read_tensors(path / "model.safetensors") for path in (model.directory, tmp_path / "copy"))
    assert {name: x.shape for name, x in before.items()} == {name: x.shape for name, x in after.items()}


def test_bfloat16_is_of_the_computation_and_not_of_the_weights(directory, model):
    narrow = hub.load(directory, dtype=jnp.bfloat16, remat=True)
    assert {leaf.dtype for leaf in narrow.params.values()} == {jnp.dtype("float32")}
    exact, rounded = (
        jax.jit(each.network.token_log_probs)(model.params, TOKENS, SEEN, SEEN) for each in (model, narrow)
    )
    assert 0 < np.abs(exact - rounded).max() < 0.1


def test_a_value_head_is_saved_as_that_of_a_classifier(directory, tmp_path):
    model = hub.load(directory, value_head=True)
    params = model.params | {"score.w": jnp.ones(64)}
    hub.save(tmp_path, params, model.config, model.directory)
    assert hub.read_config(tmp_path)["architectures"][0].endswith("ForSequenceClassification")
    again = hub.load(tmp_path, value_head=True)
    _, values = jax.jit(again.network.apply)(again.params, TOKENS, SEEN)
    hidden = jax.jit(again.network.hidden)(again.params, TOKENS, SEEN)
    np.testing.assert_allclose(values, hidden.sum(axis=-1), atol=1e-4)


@pytest.fixture
def damaged(qwen2, tmp_path):
    return shutil.copytree(qwen2, tmp_path / "model")


def config(path, **changes):
    content = hub.read_config(path) | changes
    (path / "config.json").write_text(json.dumps(content))


def weights(path, change):
    tensors = {name: np.array(x) for name, x in read_tensors(path / "model.safetensors").items()}
    write_tensors(path / "model.safetensors", change(tensors))


NORM = "model.norm.weight"
DAMAGE = {
    "has no config.json": lambda path: (path / "config.json").unlink(),
    "config.json is not valid JSON": lambda path: (path / "config.json").write_text("{"),
    "model_type = 'gpt2' is not supported": lambda path: config(path, model_type="gpt2"),
    "config.json has no hidden_size": lambda path: config(path, hidden_size=None),
    "hidden_act = 'gelu' is not supported": lambda path: config(path, hidden_act="gelu"),
    "quantization_config is not supported": lambda path: config(path, quantization_config={"bits": 4}),
    "has no model.safetensors": lambda path: (path / "model.safetensors").unlink(),
    "pytorch_model.bin is a pickle, which is not read": lambda path: (path / "model.safetensors").rename(
        path / "pytorch_model.bin"
    ),
    "but a pickle or a zip file": lambda path: (path / "model.safetensors").write_bytes(b"\x80\x04\x95" + b"x" * 90),
    "is not a safetensors file": lambda path: (path / "model.safetensors").write_bytes(b"x" * 90),
    "do not match their SHA-256": lambda path: (path / "model.safetensors").write_bytes(
        (path / "model.safetensors").read_bytes()[:-1] + b"\x01"
    ),
    "has the shape [63], which does not fit the [64]": lambda path: weights(
        path, lambda tensors: tensors | {NORM: tensors[NORM][:-1]}
    ),
    "lacks the weight of final_norm.w": lambda path: weights(
        path, lambda tensors: {name: x for name, x in tensors.items() if name != NORM}
    ),
    "has the weight model.extra, which": lambda path: weights(
        path, lambda tensors: tensors | {"model.extra": np.zeros(3, np.float32)}
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_directory_is_refused_in_one_line(damaged, message):
    DAMAGE[message](damaged)
    with pytest.raises(ValueError, match="model") as error:
        hub.load(damaged)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_activation", "silu"),
        ("rms_norm_eps", 1e-5),
        ("final_logit_softcapping", 30.0),
        ("query_pre_attn_scalar", 7),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("rope_parameters", {"full_attention": {"rope_type": "yarn", "rope_theta": 1e6}}),
    ],
)
def test_gemmas_that_tunix_lacks_are_refused(field, value):
    config = initial.config_of("tiny", "gemma3_text", 259) | {field: value}
    named = "rope_type" if field == "rope_parameters" else field
    with pytest.raises(ValueError, match=f"config: {named}.* is not supported"):
        hub.architectures.architecture(config, "config")


def test_shards_are_read_by_their_index(damaged, qwen2):
    tensors = {name: np.array(x) for name, x in read_tensors(damaged / "model.safetensors").items()}
    (damaged / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, kept in parts.items():
        write_tensors(damaged / file, {name: tensors[name] for name in kept})
    index = {"weight_map": {name: file for file, kept in parts.items() for name in kept}}
    (damaged / "model.safetensors.index.json").write_text(json.dumps(index))
    jax.tree.map(np.testing.assert_array_equal, hub.load(damaged).params, hub.load(qwen2).params)
    (damaged / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b\.safetensors is listed in model\.safetensors\.index\.json and missing"):
        hub.load(damaged)


def test_a_name_of_a_hub_is_not_fetched():
    with pytest.raises(ValueError, match="is not a directory; models are not fetched by name"):
        hub.load("Qwen/Qwen2-0.5B")


def test_float16_weights_are_widened_and_said(damaged):
    weights(damaged, lambda tensors: {name: x.astype(np.float16) for name, x in tensors.items()})
    model = hub.load(damaged)
    assert model.notes == ("weights of float16 are computed with as float32",)
    assert {leaf.dtype for leaf in model.params.values()} == {jnp.dtype("float32")}


def test_a_tokenizer_is_checked(damaged):
    with pytest.raises(ValueError, match="more than the model's vocabulary of 100"):
        tokenizers.load_encoder(damaged, vocab_size=100)
    with pytest.raises(ValueError, match="unknown template 'chatml'"):
        tokenizers.load_encoder(damaged, "chatml")
    (damaged / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="has no tokenizer"):
        tokenizers.load_encoder(damaged)


def test_a_tokenizer_of_bytes_reads_back_what_it_wrote(directory):
    encoder = tokenizers.load_encoder(directory, "chat", 259)
    assert encoder.decode(encoder.encode("a café")) == "a café"
    assert encoder.render([{"role": "user", "content": "hi"}], True).endswith("<|im_start|>assistant\n")
    assert encoder.bos == ()
