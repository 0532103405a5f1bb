import json

import jax.numpy as jnp
import numpy as np
import pytest

from purerl import rlhf

LAYOUT = rlhf.Layout(rlhf.ByteTokenizer(), 4, 5, 256, 257)


def test_bytes_round_trip_and_special_tokens_vanish():
    tokenizer = rlhf.ByteTokenizer()
    assert tokenizer.decode([257, *tokenizer.encode("naïve π"), 256, 257]) == "naïve π"
    assert tokenizer.decode([0xFF]) == "\ufffd"


def test_a_row_is_padded_prompt_seam_completion_end_padding():
    data = rlhf.encode_completions({"prompt": ["ab"], "completion": ["xyz"]}, LAYOUT)
    assert data["tokens"].tolist() == [[257, 257, 97, 98, 120, 121, 122, 256, 257]]
    assert data["mask"].astype(int).tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 0]]
    assert data["completion"].astype(int).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 0]]
    pairs = rlhf.encode_pairs({"prompt": ["ab"], "chosen": ["x"], "rejected": ["xyz"]}, LAYOUT)
    assert pairs["completion"].sum(axis=-1).tolist() == [[2, 4]]
    np.testing.assert_array_equal(rlhf.encode_prompts(["ab"], LAYOUT), data["tokens"][:, :4])


def test_malformed_rows_are_reported_with_their_index():
    rows = {
        "prompt": ["a", "abcde", "a", "", "a"],
        "chosen": ["x", "x", "", "x", "same"],
        "rejected": ["y", "y", "y", "yyyyy", "same"],
    }
    found = [(p.row, p.column) for p in rlhf.find_problems(rows, LAYOUT)]
    assert found == [(1, "prompt"), (2, "chosen"), (3, "prompt"), (3, "rejected"), (4, "chosen")]
    with pytest.raises(ValueError, match="row 1: prompt has 5 tokens, more than 4; row 2: chosen is empty"):
        rlhf.encode_pairs(rows, LAYOUT)
    with pytest.raises(ValueError, match="no column 'rejected'"):
        rlhf.encode_pairs({"prompt": ["a"], "chosen": ["b"]}, LAYOUT)
    with pytest.raises(ValueError, match="different lengths"):
        rlhf.encode_completions({"prompt": ["a"], "completion": []}, LAYOUT)
    with pytest.raises(ValueError, match="prompt 0 has 5 tokens"):
        rlhf.encode_prompts(["abcde"], LAYOUT)


def test_labels_that_are_none_are_reported_with_their_index():
    rows = {"prompt": ["a", "b", "c"], "completion": ["x", "y", "z"], "label": [True, None, 2]}
    assert [(p.row, p.column) for p in rlhf.find_problems(rows, LAYOUT)] == [(1, "label"), (2, "label")]
    with pytest.raises(ValueError, match="row 1: label is None, neither true nor false"):
        rlhf.encode_labelled(rows, LAYOUT)
    with pytest.raises(ValueError, match="no column 'label'"):
        rlhf.encode_labelled({name: rows[name] for name in ("prompt", "completion")}, LAYOUT)
    with pytest.raises(ValueError, match="different lengths"):
        rlhf.encode_labelled(rows | {"label": [True]}, LAYOUT)
    good = rlhf.encode_labelled(rows | {"label": np.array([1.0, 0.0, 1.0])}, LAYOUT)
    assert good["label"].tolist() == [True, False, True]


def test_a_file_of_another_writer_loads(tmp_path):
    """A file as the format's own library writes it: names in its order, no SHA-256."""
    values = {"b": np.array([[1.5, -2.0]], np.float32), "a": np.array([3, 4, 5], np.int32)}
    content = values["b"].tobytes() + values["a"].tobytes()
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "a": {"dtype": "I32", "shape": [3], "data_offsets": [8, 20]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "other.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    loaded = rlhf.load_weights(path, {"a": jnp.zeros(3, jnp.int32), "b": jnp.zeros((1, 2))})
    np.testing.assert_array_equal(loaded["a"], [3, 4, 5])
    np.testing.assert_array_equal(loaded["b"], values["b"])


def test_weights_round_trip_and_a_flipped_bit_is_refused(tmp_path):
    params = {
        "a": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3, jnp.bfloat16)},
        "b": [jnp.array(True), jnp.array([1, -2], jnp.int32)],
    }
    path = tmp_path / "model.safetensors"
    rlhf.save_weights(path, params)
    loaded = rlhf.load_weights(path, params)
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(loaded["a"][name], params["a"][name])
    assert loaded["b"][0].dtype == bool
    np.testing.assert_array_equal(loaded["b"][1], params["b"][1])
    with pytest.raises(ValueError, match=r"a\.kernel is F32\[2, 3\]"):
        rlhf.load_weights(path, params | {"a": {"kernel": jnp.zeros((3, 2)), "bias": params["a"]["bias"]}})
    with pytest.raises(ValueError, match=r"missing \['c'\]"):
        rlhf.load_weights(path, params | {"c": jnp.zeros(1)})
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="SHA-256"):
        rlhf.load_weights(path, params)
