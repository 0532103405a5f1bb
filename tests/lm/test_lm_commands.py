"""The commands on language models from end to end. Skipped without the extra `purerl[lm]`.

pytest tests/lm/test_lm_commands.py -m "slow or not slow"
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

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
