"""Rows of JSONL files: what is read, what is dropped, and what is refused, with its line."""

import json

import numpy as np
import pytest

from purerl.lm import store
from purerl.lm.encoding import Encoder, Limits, encode_prompt
from purerl.lm.rows import Row, read_rows, texts_in
from purerl.rlhf import ByteTokenizer

LIMITS = Limits(max_length=24, max_prompt_length=8)


def render(messages, open_answer):
    text = "".join(f"<{m['role'][0]}>{m['content']}" for m in messages)
    return text + ("<a>" if open_answer else "")


def encoder(**changes):
    tokenizer = ByteTokenizer()
    return Encoder(tokenizer.encode, tokenizer.decode, (), eos_id=256, pad_id=256)._replace(**changes)


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def build(path, kind, tokenizer=None, limits=LIMITS, vocab_size=257):
    return store.build(path, kind, tokenizer or encoder(), limits, path.with_suffix(".tokens"), vocab_size)


PAIR = {"prompt": "q", "chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(
    ("kind", "line", "texts"),
    [
        ("completions", {"prompt": "q", "completion": "a", "source": "x"}, ("a",)),
        ("completions", {"text": "all of it"}, ("all of it",)),
        ("pairs", PAIR, ("good", "bad")),
        ("labelled", {"prompt": "q", "completion": "a", "label": True}, ("a",)),
        ("rankings", {"prompt": "q", "ranking": ["a", "b", "c"]}, ("a", "b", "c")),
        ("rankings", PAIR, ("good", "bad")),
        ("prompts", {"prompt": "q", "answer": 4}, ()),
    ],
)
def test_every_kind_of_row_is_read(tmp_path, kind, line, texts):
    [row] = read_rows(write(tmp_path / "x.jsonl", "", line), kind)
    assert row.line == 2
    assert row.texts == texts


def test_conversations_are_split_before_their_last_message(tmp_path):
    user, kind, rude = ({"role": r, "content": c} for r, c in (("user", "hi"), ("assistant", "a"), ("assistant", "b")))
    path = write(tmp_path / "x.jsonl", {"chosen": [user, kind], "rejected": [user, rude]})
    assert next(read_rows(path, "pairs"))[1:3] == ([user], ([kind], [rude]))
    path = write(tmp_path / "y.jsonl", {"messages": [user, kind]})
    assert next(read_rows(path, "completions"))[1:3] == ([user], ([kind],))


BAD = [
    ("pairs", '{"prompt": "q", "chosen"', "x.jsonl, line 2: not valid JSON"),
    ("pairs", "[1, 2]", "line 2: a row must be a JSON object, found a list of 2"),
    ("pairs", {"prompt": "q", "chosen": "a"}, "line 2: no column 'rejected'; it has prompt, chosen"),
    ("pairs", {"chosen": "a", "rejected": "b"}, "line 2: no column 'prompt'"),
    ("completions", {}, "line 2: no column 'prompt'; it has none"),
    ("pairs", {"prompt": 3, "chosen": "a", "rejected": "b"}, "line 2: prompt must be a text or a list of messages"),
    ("completions", {"prompt": "q", "completion": None}, "line 2: completion must be a text"),
    ("completions", {"messages": []}, "line 2: messages must be a list of messages, found a list of 0"),
    ("completions", {"messages": [{"role": "user"}]}, "line 2: a message of messages must have a role and a content"),
    ("completions", {"messages": [{"role": "robot", "content": "x"}]}, "line 2: the role of a message must be"),
    ("completions", {"messages": [{"role": "user", "content": "x"}]}, "the last of the messages must be the"),
    ("labelled", {"prompt": "q", "completion": "a"}, "line 2: no column 'label'"),
    ("labelled", {"prompt": "q", "completion": "a", "label": 3}, "line 2: label must be true or false, found 3"),
    ("rankings", {"prompt": "q", "ranking": ["a"]}, "line 2: ranking must be a list of at least two texts"),
    ("completions", {"prompt": [{"role": "user", "content": "x"}], "completion": "a"}, "line 2 is a conversation"),
]  # fmt: skip
GOOD = {"completions": {"prompt": "q", "completion": "a"}, "labelled": {"prompt": "q", "completion": "a", "label": 1}}


@pytest.mark.parametrize(("kind", "line", "message"), BAD)
def test_a_malformed_row_is_refused_with_its_line(tmp_path, kind, line, message):
    path = write(tmp_path / "x.jsonl", GOOD.get(kind, PAIR), line)
    with pytest.raises(ValueError, match="line 2") as error:
        build(path, kind)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(ValueError, match="line 1: not UTF-8 text"):
        list(read_rows(tmp_path / "x.jsonl", "prompts"))


def test_an_empty_file_and_one_without_usable_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no row is left of 0: the file is empty"):
        build(write(tmp_path / "x.jsonl"), "pairs")
    with pytest.raises(ValueError, match="no row is left of 1: a completion is empty"):
        build(write(tmp_path / "x.jsonl", PAIR | {"chosen": " "}), "pairs")


def test_a_vocabulary_that_is_too_small_is_refused_with_the_line(tmp_path):
    with pytest.raises(ValueError, match="line 1: token 256 is outside the model's vocabulary of 200"):
        build(write(tmp_path / "x.jsonl", PAIR), "pairs", vocab_size=200)


def test_unusable_rows_are_dropped_and_reported_by_line(tmp_path):
    same = PAIR | {"rejected": PAIR["chosen"]}
    alike = PAIR | {"chosen": "x" * 30 + "a", "rejected": "x" * 30 + "b"}
    path = write(tmp_path / "x.jsonl", PAIR, PAIR | {"chosen": ""}, same, PAIR | {"prompt": " "}, alike)
    rows, report = build(path, "pairs")
    assert rows.line.tolist() == [1]
    assert (report.rows, report.kept, report.cut) == (5, 1, 0)
    assert report.dropped == {
        "a completion is empty": [2],
        "chosen equals rejected": [3],
        "the prompt is empty": [4],
        "chosen equals rejected once they are cut": [5],
    }
    assert "dropped 1: a completion is empty (line 2)" in report.sentences("x.jsonl")


def test_texts_that_are_too_long_are_cut_and_counted(tmp_path):
    row = {"prompt": "0123456789", "completion": "y" * 40}
    rows, report = build(write(tmp_path / "x.jsonl", row), "completions")
    assert report.cut == 2
    batch = store.assemble(rows, np.array([0]), 24, 1, pad_id=256)
    assert ByteTokenizer().decode(batch["tokens"][0, 0]) == "23456789" + "y" * 16


def test_padding_is_known_by_lengths_even_if_it_is_the_end_token(tmp_path):
    rows, _ = build(write(tmp_path / "x.jsonl", PAIR), "pairs")
    batch = store.assemble(rows, np.array([0]), 8, 2, pad_id=256)
    assert batch["completion"].sum(axis=-1).tolist() == [
        [5, 4],
        [0, 0],
    ]  # end tokens count; a missing row
    assert batch["mask"].sum(axis=-1).tolist() == [[6, 5], [0, 0]]
    assert batch["tokens"][0, 0].tolist() == [*b"qgood", 256, 256, 256]


def test_special_tokens_are_not_doubled(tmp_path):
    special = encoder(bos=(1,), encode=lambda text: [{"^": 1, "$": 256}.get(c, ord(c)) for c in text])
    plain, spelled = {"prompt": "q", "completion": "a"}, {"prompt": "^q", "completion": "a$"}
    rows, _ = build(write(tmp_path / "x.jsonl", plain, spelled), "completions", special)
    batch = store.assemble(rows, np.array([0, 1]), 5, 2, pad_id=0)
    assert batch["tokens"][:, 0].tolist() == [[1, ord("q"), ord("a"), 256, 0]] * 2


def test_a_chat_template_wraps_plain_texts_if_asked(tmp_path):
    path = write(tmp_path / "x.jsonl", {"prompt": "q", "completion": "a"})
    rows, _ = build(path, "completions", encoder(render=render, chat=True))
    batch = store.assemble(rows, np.array([0]), 12, 1, pad_id=256)
    assert ByteTokenizer().decode(batch["tokens"][0, 0]) == "<u>q<a>a"
    assert batch["completion"][0, 0].sum() == 2


def test_a_template_that_changes_the_prompt_is_refused(tmp_path):
    path = write(tmp_path / "x.jsonl", {"prompt": "q", "completion": "a"})
    with pytest.raises(ValueError, match="line 1: the chat template changes the prompt"):
        build(path, "completions", encoder(render=lambda messages, _: f"{len(messages)}", chat=True))


def test_a_conversation_that_the_template_refuses_is_named_with_its_line(tmp_path):
    def refuse(messages, open_answer):
        raise ValueError("the chat template refuses the conversation: roles must alternate")

    path = write(tmp_path / "x.jsonl", "", {"prompt": "q", "completion": "a"})
    with pytest.raises(ValueError, match=r"^line 2: the chat template refuses .*: roles must alternate$"):
        build(path, "completions", encoder(render=refuse, chat=True))
    with pytest.raises(ValueError, match=r"^the chat template refuses"):
        encode_prompt("q", encoder(render=refuse, chat=True))


def test_an_answer_without_a_question_is_dropped(tmp_path):
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    path = write(tmp_path / "x.jsonl", {"messages": [answer]}, {"messages": [user, answer]})
    rows, report = build(path, "completions", encoder(render=render))
    assert rows.line.tolist() == [2]
    assert report.dropped == {"the prompt is empty": [1]}


def test_labelled_rows_carry_a_completion_of_another_prompt(tmp_path):
    lines = [{"prompt": f"q{i}", "completion": f"a{i}", "label": i % 2 == 0} for i in range(3)]
    rows, report = build(write(tmp_path / "x.jsonl", *lines), "labelled")
    batch = store.assemble(rows, np.arange(3), 8, 3, pad_id=256)
    texts = [[ByteTokenizer().decode(text) for text in row] for row in batch["tokens"]]
    assert [own for own, _ in texts] == ["q0a0", "q1a1", "q2a2"]
    assert all(own[:2] == other[:2] and own[2:] != other[2:] for own, other in texts)
    assert report.tokens == 15
    assert rows.label.tolist() == [True, False, True]


def test_a_completion_of_another_prompt_is_cut_to_the_longest_text(tmp_path):
    rows = [
        {"prompt": "p" * 8, "completion": "b", "label": True}, {"prompt": "q", "completion": "d" * 11, "label": False},
    ]  # fmt: skip
    found, _ = build(write(tmp_path / "rows.jsonl", *rows), "labelled", limits=Limits(12, 8))
    assert found.texts[0].tolist() == [[8, 2], [11, 4]]
    assert found.lengths.max() == 12


def test_half_of_a_surrogate_pair_is_refused_with_its_line(tmp_path):
    path = write(tmp_path / "rows.jsonl", PAIR, r'{"prompt": "q", "chosen": "\ud83d\ude00", "rejected": "\uD83D"}')
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2: \\ud83d is half of a surrogate pair"):
        list(read_rows(path, "pairs"))


def test_rankings_of_different_lengths_end_in_absent_texts(tmp_path):
    path = write(tmp_path / "x.jsonl", {"prompt": "q", "ranking": ["a", "b", "c"]}, PAIR)
    rows, _ = build(path, "rankings")
    assert (rows.texts[:, :, 1] > 0).tolist() == [[True, True, True], [True, True, False]]


def test_texts_in_finds_every_text():
    assert list(texts_in({"a": [{"role": "user", "content": "x"}], "b": {"c": "y"}, "n": 3})) == ["x", "y"]


def test_prompts_keep_their_end_and_their_columns(tmp_path):
    columns = {"answer": 4, "text": "t", "messages": []}
    path = write(tmp_path / "x.jsonl", {"prompt": "0123456789"} | columns, {"prompt": ""})
    [(row, ids)], report = store.prompts(path, encoder(), LIMITS)
    assert isinstance(row, Row)
    assert (row.extra, bytes(ids)) == (columns, b"23456789")
    assert report == store.Report(2, kept=1, dropped={"the prompt is empty": [2]}, cut=1, tokens=8)
