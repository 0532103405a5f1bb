"""The commands on language models as a user types them, up to where a model is needed."""

import json

import pytest

from purerl import cli


def fails(capsys, *words):
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(words))
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return exit_.value.code, error


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}))
    return str(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sft"], "give the file of rows"),
        (["sft", "ROWS"], "--model is missing"),
        (["dpo", "ROWS", "--model", "nowhere"], "--output is missing"),
        (["dpo", "ROWS", "--model", "nowhere", "--output", "OUT"], "nowhere is not a directory"),
        (["dpo", "ROWS", "--model", "m", "--output", "OUT", "--loss", "ippo"], "loss 'ippo'; did you mean 'ipo'?"),
        (["dpo", "ROWS", "--model", "m", "--output", "OUT", "--max-length", "8"], "max_prompt_length = 256"),
        (["dpo", "ROWS", "--model", "m", "--output", "OUT", "--batch-size", "12"], "is not a multiple of"),
        (["dpo", "ROWS", "--model", "m", "--output", "OUT", "--resume"], "is not the output of a run"),
        (["dpo", "ROWS", "--model", "m", "--output", "."], "exists and is not empty"),
        (["reward", "ROWS", "--loss", "elo"], "'elo' is not one of plackett_luce, pairwise"),
        (["grpo", "ROWS", "--model", "m", "--output", "OUT"], "--reward is missing"),
        (["grpo", "ROWS", "--model", "m", "--output", "OUT", "--reward", "f", "--group-size", "1"], "--group-size 1"),
        (["lm", "int", "OUT"], "'int' is not one of init, generate; did you mean 'init'?"),
        (["lm"], "give an action and a directory"),
        (["lm", "init"], "give an action and a directory"),
        (["lm", "init", "OUT", "--vocab-size", "100"], "--vocab-size 100: 259 is the least"),
        (["lm", "generate", "nowhere"], "generate needs --prompt TEXT"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(capsys, rows, tmp_path, words, message):
    words = [{"ROWS": rows, "OUT": str(tmp_path / "out")}.get(word, word) for word in words]
    code, error = fails(capsys, *words)
    assert code == 2
    assert message in error
