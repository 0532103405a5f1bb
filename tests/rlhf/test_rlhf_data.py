import json

import jax.numpy as jnp
import numpy as np
import pytest

from purerl import rlhf
from purerl.rlhf.data import mismatched_rows
from purerl.rlhf.tokens import pad_left

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


def test_rankings_of_different_lengths_end_in_absent_texts():
    rows = {"prompt": ["ab", "c"], "ranking": [["x", "y", "zz"], ["w", "v"]]}
    data = rlhf.encode_rankings(rows, LAYOUT)
    assert data["mask"].any(axis=-1).tolist() == [[True, True, True], [True, True, False]]
    assert data["tokens"][0, 2].tolist() == [257, 257, 97, 98, 122, 122, 256, 257, 257]
    assert set(data["tokens"][1, 2].tolist()) == {257}


def test_a_ranking_of_two_texts_is_a_pair():
    ranked = rlhf.encode_rankings({"prompt": ["a", "b"], "ranking": [["x", "yy"], ["z", "w"]]}, LAYOUT)
    pairs = rlhf.encode_pairs({"prompt": ["a", "b"], "chosen": ["x", "z"], "rejected": ["yy", "w"]}, LAYOUT)
    for name in ("tokens", "mask", "completion"):
        np.testing.assert_array_equal(ranked[name], pairs[name])


def test_malformed_rankings_are_reported_with_their_index():
    rows = {"prompt": ["a", "b", "c"], "ranking": [["x"], ["y", "y"], ["z", ""]]}
    found = [(p.row, p.column, p.reason) for p in rlhf.find_problems(rows, LAYOUT)]
    assert found == [
        (0, "ranking", "has 1 texts, fewer than 2"), (1, "ranking", "has a text twice"), (2, "ranking", "is empty"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({"prompt": [None], "completion": ["x"]}, (0, "prompt", "is None, not a text")),
        ({"prompt": ["a"], "completion": [3]}, (0, "completion", "is 3, not a text")),
        ({"prompt": ["a"], "chosen": ["x"], "rejected": [None]}, (0, "rejected", "is None, not a text")),
        ({"prompt": ["a"], "ranking": ["xyz"]}, (0, "ranking", "is 'xyz', not a list of texts")),
        ({"prompt": ["a"], "ranking": [None]}, (0, "ranking", "is None, not a list of texts")),
        ({"prompt": ["a"], "ranking": [["x", ["y"]]]}, (0, "ranking", "is ['y'], not a text")),
    ],
)
def test_what_is_not_a_text_is_reported_with_its_index(rows, problem):
    assert rlhf.find_problems(rows, LAYOUT) == [problem]


def test_a_ranking_may_be_an_array():
    rows = {"prompt": ["a"], "ranking": [np.array(["x", "y"])]}
    assert rlhf.encode_rankings(rows, LAYOUT)["mask"].any(axis=-1).tolist() == [[True, True]]


@pytest.mark.parametrize(
    ("prompts", "completions"),
    [
        (["q1", "q1", "q2", "q2"], ["good1", "bad1", "good2", "bad2"]),  # chosen and rejected in turn
        (["q1", "q2", "q3", "q4"], ["yes", "yes", "no", "no"]),
        (["q1", "q1", "q1", "q2"], ["a", "b", "c", "d"]),
        (["q1", "q2", "q1", "q2", "q3"], ["a", "a", "b", "a", "c"]),
    ],
)
def test_a_mismatched_completion_is_of_another_prompt_and_another_text(prompts, completions):
    rows = {"prompt": prompts, "completion": completions, "label": [1] * len(prompts)}
    data = rlhf.encode_labelled(rows, LAYOUT._replace(max_length=6))
    for i, tokens in enumerate(data["kl_tokens"]):
        text = rlhf.ByteTokenizer().decode(tokens)
        assert text.startswith(prompts[i])
        answer = text.removeprefix(prompts[i])
        assert answer != completions[i]
        assert any(p != prompts[i] and c == answer for p, c in zip(prompts, completions))


def test_every_completion_is_mismatched_once_if_no_prompt_has_more_than_half_of_the_rows():
    prompts = ["a", "b", "c", "a", "c", "d", "a"]
    rows = mismatched_rows(prompts, [str(i) for i in range(7)])
    assert sorted(rows) == list(range(7))


@pytest.mark.parametrize(
    ("prompts", "completions"), [(["q"], ["a"]), (["q", "r"], ["a", "a"]), (["q", "q"], ["a", "b"])]
)
def test_rows_without_a_mismatched_completion_are_refused(prompts, completions):
    rows = {"prompt": prompts, "completion": completions, "label": [1] * len(prompts)}
    with pytest.raises(ValueError, match="row 0 has no mismatched completion"):
        rlhf.encode_labelled(rows, LAYOUT)


class Turns:
    """Letters as tokens; "|" is the end token 0."""

    def encode(self, text):
        return [0 if letter == "|" else ord(letter) for letter in text]


def test_end_tokens_inside_a_prompt_count_where_the_end_token_pads():
    layout = rlhf.Layout(Turns(), 8, 4, eos_id=0, pad_id=0)
    data = rlhf.encode_pairs({"prompt": ["hi|you|"], "chosen": ["yes"], "rejected": ["n|o"]}, layout)
    assert data["mask"].astype(int).tolist() == [[[0] + [1] * 7 + [1] * 4] * 2]
    assert data["completion"].sum(axis=-1).tolist() == [[4, 4]]


def test_a_prompt_that_begins_with_padding_is_malformed():
    layout = rlhf.Layout(Turns(), 8, 4, eos_id=0, pad_id=0)
    rows = {"prompt": ["|hi", "a"], "completion": ["x", "y"]}
    assert [(p.row, p.column, p.reason) for p in rlhf.find_problems(rows, layout)] == [
        (0, "prompt", "begins with the padding token 0")
    ]
    with pytest.raises(ValueError, match="prompt 0 begins with the padding token"):
        rlhf.encode_prompts(rows["prompt"], layout)


def test_a_prompt_that_holds_the_padding_token_is_malformed():
    layout = rlhf.Layout(Turns(), 8, 4, eos_id=5, pad_id=0)
    assert [p.reason for p in rlhf.find_problems({"prompt": ["h|i"], "completion": ["x"]}, layout)] == [
        "holds the padding token 0"
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[5, 0, 6, 0]], [[0, 5, 0, 6]]),
        ([[0, 5, 0, 6]], [[0, 5, 0, 6]]),
        ([[0, 5, 6, 0]], [[0, 5, 6, 0]]),  # padded on the left, so its last token is the end of a turn
    ],
)
def test_prompts_of_several_turns_keep_their_end_tokens(rows, expected):
    np.testing.assert_array_equal(pad_left(rows, 0, inside_allowed=True), expected)
