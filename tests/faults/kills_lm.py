"""Kill `purerl sft`, `dpo` and `grpo` at random moments until they have finished, and compare the models they save.

    python tests/faults/kills_lm.py [--kills 6] [--seed 0] [sft] [dpo] [grpo]

It needs the extra `purerl[lm]`. Each command runs once undisturbed. Another run is killed by SIGKILL and resumed, and
after so many kills it may finish: its weights and metrics must be those of the undisturbed run, bit for bit.
"""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common
import transformers
from tunix.models.qwen2 import model, params

from purerl import checkpoint
from purerl.commands import dpo, grpo, sft

IMPORTED = (transformers.AutoTokenizer, model, params, sft, dpo, grpo)  # before the processes are forked
EXAMPLE = Path(__file__).parents[2] / "examples" / "language_model"
DATA = EXAMPLE / "data"
SHORT = ("--max-length", "64", "--max-prompt-length", "32", "--batch-size", "16", "--num-updates", "30")
REINFORCED = ("--max-prompt-length", "32", "--max-tokens", "8", "--num-updates", "24", "--eval-prompts", "8")
RUNS = {
    "sft": ("sft", DATA / "sft.jsonl", "--learning-rate", "3e-3", "--eval-every", "10", *SHORT),
    "dpo": ("dpo", DATA / "pairs.jsonl", "--learning-rate", "1e-3", "--eval-every", "10", "--lora-rank", "4", *SHORT),
    "grpo": ("grpo", DATA / "prompts.jsonl", "--reward", "rewards:kindness", "--learning-rate", "1e-3", *REINFORCED),
}


def words(command, root, directory, *more):
    start = root / "start"
    return [*RUNS[command], "--model", start, "--output", directory, "--checkpoint-seconds", "0", *more]


def steps(directory):
    """Updates of the newest complete checkpoint."""
    found = checkpoint.steps(directory / "training" / "checkpoints")
    return int(found[-1].name) if found else 0


def rows(directory):
    """The metrics without what the clock says."""
    return [
        {name: x for name, x in row.items() if name != "tokens_per_second"}
        for row in common.table(directory / "training")
    ]


def disturbed(command, root, duration, most, rng):
    """Kill and resume a run until it has finished; where it was killed, and what was wrong."""
    directory, log, kills, wrong = root / f"{command}-killed", root / f"{command}.log", [], []
    while True:
        begun = (directory / "training" / "config.json").is_file()
        log.unlink(missing_ok=True)
        process = common.start(words(command, root, directory, *["--resume"] * begun), log, whole=True)
        if len(kills) < most:
            wait_for(directory, len(kills), duration, rng)
            os.kill(process, signal.SIGKILL)
        code = common.wait(process)
        text = re.sub(r"\s+", " ", log.read_text())
        if code == 0:
            return kills, wrong
        kills.append(steps(directory))
        if code != -signal.SIGKILL or "Traceback" in text:
            return kills, [*wrong, f"exit code {code}: {text[-300:]}"]
        written = rows(directory)[-1:] if (directory / "training" / "metrics.csv").is_file() else []
        behind = (int(written[0]["step"]) if written else 0) - steps(directory)
        wrong += [f"{behind} updates were lost"] * (behind > 1)


def wait_for(directory, killed, duration, rng):
    """Until it is killed: the first two times in its first seconds, while data are read and programs are compiled."""
    end = time.monotonic() + (rng.uniform(0.0, duration / 2) if killed < 2 else 10 * duration)
    wanted = steps(directory) + rng.randint(1, 3)
    while time.monotonic() < end and (killed < 2 or steps(directory) < wanted):
        time.sleep(0.005)
    time.sleep(rng.uniform(0.0, 0.1))


def check(command, root, most, rng):
    """One command; a line of the table."""
    straight, killed = root / f"{command}-straight", root / f"{command}-killed"
    times = []
    for directory in (root / f"{command}-warm", straight):  # the first one compiles
        begun = time.monotonic()
        code = common.run(words(command, root, directory), root / "straight.log", whole=True)
        times.append(time.monotonic() - begun)
        if code:
            return False, f"| {command} | could not run: {(root / 'straight.log').read_text()[-300:]!r} |"
    kills, wrong = disturbed(command, root, times[1], most, rng)
    if not wrong:
        same = (straight / "model.safetensors").read_bytes() == (killed / "model.safetensors").read_bytes()
        wrong += ["another model"] * (not same) + ["other metrics"] * (rows(straight) != rows(killed))
        wrong += ["other results"] * (results(straight) != results(killed))
    at = ", ".join(map(str, kills))
    return not wrong, f"| {command} | {len(kills)} kills, after updates {at} | {'; '.join(wrong) or 'equal'} |"


def results(directory):
    return (directory / "training" / "results.json").read_text()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", nargs="*", default=list(RUNS))
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLE))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        init = ["lm", "init", root / "start", "--corpus", DATA / "sft.jsonl"]
        assert common.run(init, root / "init.log", whole=True) == 0, (root / "init.log").read_text()
        equal = []
        for command in options.commands:
            same, line = check(command, root, options.kills, random.Random(f"{options.seed}{command}"))
            print(line, flush=True)
            equal.append(same)
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
