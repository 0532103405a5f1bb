"""The commands on language models as a user types them, up to where a model is needed."""

import json
from pathlib import Path

import pytest

from purerl import cli
from purerl.commands import finetuning
from purerl.commands.options import UsageError
from purerl.commands.options.finetuning import Run
from purerl.commands.options.grpo import Options


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
        (["sft", "ROWS", "--model", "m", "--output", "OUT", "--log", "jsonl", "jsonl"], "--log names jsonl twice"),
        (["grpo", "ROWS", "--log", "csv"], "--log: 'csv' is not one of tensorboard, wandb, mlflow, jsonl, terminal"),
        (["dpo", "ROWS", "--tensorboard"], "unknown option --tensorboard; did you mean --log?"),
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


def test_a_resumed_run_logs_on_where_its_checkpoint_is(tmp_path):
    options = Options(run=Run(output=tmp_path, log=("jsonl",)))
    for resumed_at in (0, 2):
        writer = finetuning.writer_of(tmp_path, options, resumed_at)
        for step in range(resumed_at + 1, 4):
            writer.write(step, {"loss/total": 0.5 * step})
        writer.close()
    lines = (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert (tmp_path / "training" / "metrics.csv").read_text().splitlines() == [
        "step,loss/total",
        "1,0.5",
        "2,1.0",
        "3,1.5",
    ]


@pytest.mark.parametrize(
    ("names", "free"), [(["training/.lock"], True), (["training/config.json"], False), (["a"], False)]
)
def test_an_output_is_free_after_a_kill_before_the_settings_were_written(tmp_path, names, free):
    for name in map(Path, names):
        (tmp_path / name.parent).mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert finetuning.is_free(tmp_path) == free


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    data, output = tmp_path / "rows.jsonl", tmp_path / "out"
    data.write_text("{}")
    options = Options(data=str(data), run=Run(output=output))
    with finetuning.claimed(output, finetuning.description("grpo", options, [options.data]), resume=False):
        pass
    data.write_text("{} ")
    wanted = finetuning.description("grpo", options, [options.data])
    with (
        pytest.raises(UsageError, match=r"--resume: .*rows.jsonl has changed since the run began"),
        finetuning.claimed(output, wanted, resume=True),
    ):
        pass


def test_a_run_is_not_resumed_from_settings_of_which_a_byte_has_changed(tmp_path):
    output = tmp_path / "out"
    with finetuning.claimed(output, wanted := {"command": "sft", "seed": 31}, resume=False):
        pass
    with finetuning.claimed(output, wanted, resume=True):
        pass
    file = output / "training" / "config.json"
    file.write_text(file.read_text().replace("31", "41"))
    with (
        pytest.raises(UsageError, match=r"--resume: .*config.json is damaged .*: it does not match its SHA-256"),
        finetuning.claimed(output, {"command": "sft", "seed": 41}, resume=True),
    ):
        pass


def test_a_run_of_a_version_without_checksums_is_resumed(tmp_path):
    file = tmp_path / "training" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(wanted := {"command": "sft", "seed": 31}))
    with finetuning.claimed(tmp_path, wanted, resume=True):
        pass
    assert json.loads(file.read_text())["sha256"]
