"""The commands on language models from end to end. Skipped without the extra `purerl[lm]`.

pytest tests/lm/test_lm_commands.py -m "slow or not slow"
"""

import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from purerl import cli
from purerl.rlhf.weights import read_tensors

pytest.importorskip("tunix")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent.parent
DATA = ROOT / "examples" / "language_model" / "data"
SHORT = ["--max-length", "64", "--max-prompt-length", "32", "--batch-size", "16"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "start"
    cli.main(["lm", "init", str(path), "--corpus", str(DATA / "sft.jsonl")])
    return path


def metrics(directory):
    return json.loads((directory / "training" / "results.json").read_text())


def test_a_killed_run_resumes_to_the_same_bits(start, tmp_path):
    words = [
        "dpo",
        str(DATA / "pairs.jsonl"),
        "--model",
        str(start),
        "--num-updates",
        "12",
        "--checkpoint-seconds",
        "0",
    ]
    words += ["--learning-rate", "1e-3", *SHORT]
    cli.main([*words, "--output", str(tmp_path / "straight")])

    command = [sys.executable, "-m", "purerl", *words, "--output", str(tmp_path / "killed")]
    checkpoints = tmp_path / "killed" / "training" / "checkpoints"
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL)
    while len(list(checkpoints.glob("0*"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()

    cli.main([*words, "--output", str(tmp_path / "killed"), "--resume"])
    straight, resumed = (read_tensors(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    assert straight.keys() == resumed.keys()
    assert all(straight[name].tobytes() == resumed[name].tobytes() for name in straight)


def bad_model(start, path, damage):
    """A copy of a model with one file changed or removed."""
    shutil.copytree(start, path)
    damage(path)
    return path


def setting(**changes):
    def damage(path):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | changes))

    return damage


def without(name):
    return lambda path: (path / name).unlink()


def replaced(name, content):
    return lambda path: (path / name).write_text(content)


def pickled(path):
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(print))


def without_system_messages(path):
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    file = path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"chat_template": refuse + config["chat_template"]}))


PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
# command, rows (objects, or text), damage of the model, more options, and what the line must say
BAD = {
    "wrong JSON": ("dpo", [PAIR, '{"prompt":'], None, [], "rows.jsonl, line 2: not valid JSON"),
    "a list": ("dpo", [PAIR, "[1]"], None, [], "rows.jsonl, line 2: a row must be a JSON object"),
    "a missing column": ("dpo", [PAIR, {"prompt": "q", "chosen": "a"}], None, [], "line 2: no column 'rejected'"),
    "a number": ("dpo", [PAIR | {"chosen": 3}], None, [], "line 1: chosen must be a text"),
    "no role": ("sft", [{"messages": [{"content": "x"}]}], None, [], "line 1: the role of a message must be system"),
    "a label": ("dpo", [{"prompt": "q", "completion": "a", "label": "good"}], None, ["--loss", "kto"], "line 1: label"),
    "a short ranking": ("reward", [{"prompt": "q", "ranking": ["a"]}], None, [], "line 1: ranking must be a list"),
    "empty completions": ("dpo", [PAIR | {"chosen": " "}], None, [], "no row is left of 1: a completion is empty"),
    "equal completions": ("dpo", [PAIR | {"chosen": "b"}], None, [], "no row is left of 1: chosen equals rejected"),
    "an empty file": ("dpo", [], None, [], "rows.jsonl: no row is left of 0: the file is empty"),
    "no file": ("dpo", None, None, [], "rows.jsonl"),
    "an unknown template": ("dpo", [PAIR], None, ["--template", "chatml"], "unknown template 'chatml'"),
    "a small vocabulary": ("dpo", [PAIR], setting(vocab_size=300), [], "model"),
    "a damaged index": (
        "dpo", [PAIR], replaced("model.safetensors.index.json", "{}"), [], "index.json: weight_map must be a table",
    ),
    "a damaged generation config": (
        "dpo", [PAIR], replaced("generation_config.json", "[2]"), [], "generation_config.json is not a JSON object",
    ),
    "an end that is not a token": (
        "dpo", [PAIR], replaced("generation_config.json", '{"eos_token_id": "x"}'), [], "eos_token_id must be a token",
    ),
    "no config": ("dpo", [PAIR], without("config.json"), [], "is not a model directory: it has no config.json"),
    "an unknown model": ("dpo", [PAIR], setting(model_type="gpt2"), [], "model_type = 'gpt2' is not supported"),
    "no tokenizer": ("dpo", [PAIR], without("tokenizer.json"), [], "has no tokenizer"),
    "a pickle": ("dpo", [PAIR], pickled, [], "pytorch_model.bin is a pickle, which is not read"),
    "no weights": ("dpo", [PAIR], without("model.safetensors"), [], "has no model.safetensors"),
    "another size": ("dpo", [PAIR], setting(intermediate_size=100), [], "does not fit the"),
    "too few devices": ("dpo", [PAIR], None, ["--fsdp", "8"], "needs 8 devices"),
    "no such targets": ("dpo", [PAIR], None, ["--lora-rank", "2", "--lora-targets", "qkv"], "the targets 'qkv'"),
    "half of the labels flipped": (
        "dpo", [PAIR], None, ["--loss", "robust", "--label-smoothing", "0.5"],
        "--loss robust: label_smoothing = 0.5 must be below 1/2",
    ),
    "no beta": ("dpo", [PAIR], None, ["--loss", "ipo", "--beta", "0"], "--loss ipo: beta = 0.0 must be above 0"),
    "minibatches": (
        "grpo", [PAIR] * 9, None,
        ["--reward", "math:sqrt", "--num-prompts", "2", "--group-size", "2", "--num-minibatches", "3"],
        "--num-minibatches 3 does not divide the completions of an update, --num-prompts 2 x --group-size 2",
    ),
    "no question": (
        "sft", [{"messages": [{"role": "assistant", "content": "a"}]}], None, [], "no row is left of 1: the prompt is",
    ),
    "a refusing template": (
        "sft", [{"messages": [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]}],
        without_system_messages, [], "line 1: the chat template refuses the conversation: no system messages",
    ),
    "few prompts": ("grpo", [{"prompt": "q"}], None, ["--reward", "math:sqrt"], "has 1 prompts, fewer than"),
    "no function": ("grpo", [PAIR] * 9, None, ["--reward", "math:pi"], "--reward math:pi: not a function"),
    "no module": ("grpo", [PAIR] * 9, None, ["--reward", "nowhere:f"], "nowhere"),
    "no reward model": ("grpo", [PAIR] * 9, None, ["--reward", "START"], "not a reward model; purerl reward"),
    "an empty prompt": ("grpo", [{"prompt": ""}] * 9, None, ["--reward", "math:sqrt"], "0 prompts, fewer than"),
    "a failing reward": ("grpo", [PAIR] * 9, None, ["--reward", "math:sqrt"], "the reward sqrt failed: TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(start, tmp_path, capsys, name):
    command, rows, damage, more, message = BAD[name]
    if rows is not None:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    model = start if damage is None else bad_model(start, tmp_path / "model", damage)
    more = [str(start) if word == "START" else word for word in more]
    words = [command, str(tmp_path / "rows.jsonl"), "--model", str(model), "--output", str(tmp_path / "out"), *more]
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert message in error
    assert not (tmp_path / "out" / "training").exists()


def test_an_empty_prompt_is_refused_where_no_token_begins_a_text(start, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(["lm", "generate", str(start), "--prompt", ""])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert "--prompt is empty" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("mesh", [("4", "2"), ("8", "1")])
def test_a_command_on_eight_devices_saves_the_model_of_one(start, tmp_path, mesh):
    words = ["dpo", str(DATA / "pairs.jsonl"), "--model", str(start), "--num-updates", "3", "--learning-rate", "1e-3"]
    words += SHORT
    cli.main([*words, "--output", str(tmp_path / "one")])
    fsdp, tp = mesh
    command = [sys.executable, "-m", "purerl", *words, "--output", str(tmp_path / "eight"), "--fsdp", fsdp, "--tp", tp]
    eight = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=eight, check=True)
    one, other = (read_tensors(tmp_path / name / "model.safetensors") for name in ("one", "eight"))
    assert max(np.abs(one[name] - other[name]).max() for name in one) < 1e-4


def test_reinforcement_on_eight_devices_resumes(start, tmp_path):
    (tmp_path / "shortness.py").write_text(
        "def f(prompts, completions, **_):\n    return [-len(x) for x in completions]"
    )
    words = ["grpo", str(DATA / "prompts.jsonl"), "--model", str(start), "--reward", "shortness:f"]
    words += ["--max-tokens", "8", "--max-prompt-length", "32", "--eval-prompts", "8", "--learning-rate", "1e-3"]
    eight = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": f"{ROOT}:{tmp_path}"}

    def run(name, *more):
        command = [sys.executable, "-m", "purerl", *words, "--output", str(tmp_path / name), *more]
        subprocess.run(command, env=eight, check=True)
        return json.loads((tmp_path / name / "training" / "results.json").read_text())

    one, mesh = run("one", "--num-updates", "2"), run("mesh", "--num-updates", "2", "--fsdp", "4", "--tp", "2")
    assert mesh["before"]["reward"] == pytest.approx(one["before"]["reward"], abs=0.5)  # some tokens may differ
    (tmp_path / "mesh" / "model.safetensors").unlink()
    assert run("mesh", "--num-updates", "2", "--fsdp", "4", "--tp", "2", "--resume") == mesh
    assert (tmp_path / "mesh" / "model.safetensors").is_file()


def test_prompts_that_are_dropped_or_cut_are_reported(start, tmp_path, capsys):
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        "\n".join(json.dumps({"prompt": prompt}) for prompt in ("", "short", "much too long for four tokens"))
    )
    words = ["grpo", str(file), "--model", str(start), "--output", str(tmp_path / "out"), "--max-prompt-length", "4"]
    words += ["--reward", "builtins:len", "--num-prompts", "2", "--num-updates", "1", "--eval-prompts", "0"]
    with pytest.raises(SystemExit):
        cli.main(words)
    said = capsys.readouterr().out
    assert "2 of 3 rows" in said
    assert "dropped 1: the prompt is empty (line 1)" in said
    assert "cut 1 texts that were too long" in said


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_ppo_and_rloo_raise_the_reward(start, tmp_path, monkeypatch, algorithm):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shortness.py").write_text(
        "def f(prompts, completions, **_):\n    return [-len(x) for x in completions]"
    )
    words = ["grpo", str(DATA / "prompts.jsonl"), "--model", str(start), "--output", str(tmp_path / "out")]
    words += ["--reward", "shortness:f", "--algorithm", algorithm, "--num-updates", "20", "--max-tokens", "8"]
    words += ["--max-prompt-length", "32", "--eval-prompts", "8", "--learning-rate", "5e-3", "--beta", "0.01"]
    cli.main([*words, "--log", "jsonl", "tensorboard"])
    found = json.loads((tmp_path / "out" / "training" / "results.json").read_text())
    assert found["after"]["reward"] > found["before"]["reward"]
    assert "score.weight" not in read_tensors(tmp_path / "out" / "model.safetensors")
    assert len((tmp_path / "out" / "training" / "metrics.jsonl").read_text().splitlines()) == 20
    assert list((tmp_path / "out" / "training" / "tensorboard").iterdir())


def test_a_resumed_run_keeps_its_settings(start, tmp_path, capsys):
    words = ["sft", str(DATA / "sft.jsonl"), "--model", str(start), "--num-updates", "2", *SHORT]
    words += ["--output", str(tmp_path / "out")]
    cli.main(words)
    with pytest.raises(SystemExit):
        cli.main(words)
    assert "exists and is not empty: choose another --output, or add --resume" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*words, "--resume", "--learning-rate", "1"])
    assert "--resume: the run has --learning-rate None, not 1.0" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["ipo_average", "simpo", "orpo", "kto", "plackett_luce"])
def test_direct_losses_learn_with_lora(start, tmp_path, loss):
    rows = [json.loads(line) for line in (DATA / "pairs.jsonl").read_text().splitlines()][:128]
    if loss == "kto":
        rows = [
            {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
            for row in rows
            for name in ("chosen", "rejected")
        ]
    if loss == "plackett_luce":
        rows = [{"prompt": row["prompt"], "ranking": [row["chosen"], row["rejected"]]} for row in rows]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    words = ["dpo", str(data), "--model", str(start), "--output", str(tmp_path / "out"), "--loss", loss]
    words += ["--beta", "1", "--lora-rank", "4", "--learning-rate", "1e-2", "--num-updates", "24", *SHORT]
    cli.main(words)
    held_out = metrics(tmp_path / "out")["total"]
    assert held_out["after"] < held_out["before"]


def test_a_reward_model_ranks_and_reinforces(start, tmp_path):
    reward, policy = tmp_path / "reward", tmp_path / "policy"
    words = ["reward", str(DATA / "pairs.jsonl"), "--model", str(start), "--output", str(reward), "--num-updates", "60"]
    cli.main([*words, "--learning-rate", "3e-3", "--lora-rank", "8", *SHORT])
    assert metrics(reward)["accuracy"]["after"] > 0.75
    words = [
        "grpo",
        str(DATA / "prompts.jsonl"),
        "--model",
        str(start),
        "--reward",
        str(reward),
        "--output",
        str(policy),
    ]
    words += ["--num-updates", "20", "--max-tokens", "8", "--max-prompt-length", "32", "--eval-prompts", "8"]
    cli.main([*words, "--learning-rate", "1e-2", "--lora-rank", "4"])
    found = json.loads((policy / "training" / "results.json").read_text())
    assert found["after"]["reward"] > found["before"]["reward"]
    assert abs(found["before"]["kl"]) < 1e-3


def test_an_update_on_a_mesh_of_eight_devices_is_that_of_one(start):
    program = ROOT / "tests" / "processes" / "lm_sharding.py"
    eight = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program, start], env=eight, capture_output=True, text=True, check=True)
    for mesh, found in json.loads(done.stdout.splitlines()[-1]).items():
        assert found["loss"] < 1e-5, mesh
        assert found["gradient"] < 1e-5, mesh
        assert found["largest share of a device"] <= 0.5, mesh  # the optimizer's state is split too
