"""From nothing to aligned models with the commands lm init, sft, dpo and grpo (and reward), in a few minutes.

    pip install ".[lm]"
    python examples/language_model/end_to_end.py --output /tmp/aligned

Prints what every model scores by the true preference (the share of kind words), how many of its texts are whole
sentences, and three of them; draws reward against KL. Expect a kindness of about 0 after sft, and above 0.8 after dpo
and grpo, with nine of ten texts readable.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data"
SHORT = ["--max-length", "64", "--max-prompt-length", "32"]
REINFORCEMENT = [
    "--num-updates", 60, "--learning-rate", "5e-4", "--max-tokens", 24, "--max-prompt-length", 32,
]  # fmt: skip


def purerl(*words):
    """Run a command, and return the seconds it took."""
    begin = time.monotonic()
    print(f"\n$ purerl {' '.join(map(str, words))}", flush=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-m", "purerl", *map(str, words)], check=True, env=environment)
    return time.monotonic() - begin


def results(directory):
    return json.loads((directory / "training" / "results.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--reward-model", action="store_true", help="reinforce by a learned reward too")
    options = parser.parse_args()
    out = options.output
    sft = ["--num-epochs", 20, "--learning-rate", "5e-3", *SHORT]
    pairs = ["--learning-rate", "1e-3", *SHORT]
    dpo = [*pairs, "--num-epochs", 3, "--beta", 1, "--eval-every", 6]
    grpo = ["grpo", DATA / "prompts.jsonl", "--model", out / "sft", *REINFORCEMENT, "--reward"]
    commands = {
        "start": ["lm", "init", out / "start", "--corpus", DATA / "sft.jsonl"],
        "sft": ["sft", DATA / "sft.jsonl", "--model", out / "start", "--output", out / "sft", *sft],
        "dpo": ["dpo", DATA / "pairs.jsonl", "--model", out / "sft", "--output", out / "dpo", *dpo],
        "grpo": [*grpo, "rewards:kindness", "--output", out / "grpo", "--beta", 0.05],
    }
    if options.reward_model:
        commands["reward"] = ["reward", *commands["dpo"][1:4], "--output", out / "reward", *pairs, "--num-epochs", 8]
        # a learned reward can be exploited, so it is held nearer to the SFT model
        commands["grpo-learned"] = [*grpo, out / "reward", "--output", out / "grpo-learned", "--beta", 0.3]
    seconds = {name: purerl(*words) for name, words in commands.items()}
    models = [name for name in commands if name not in ("start", "reward")]
    table = {name: measure(out / name, out / "sft") for name in models}
    held_out = {name: results(out / name) for name in commands if name in ("sft", "dpo", "reward")}
    (out / "summary.json").write_text(json.dumps({"seconds": seconds, "held_out": held_out, "models": table}, indent=1))
    draw(table, out / "models.png")
    print(f"\n{'model':<14}{'kindness':>10}{'readable':>12}{'KL to SFT':>12}{'distinct-1':>12}{'distinct-2':>12}")
    for name, row in table.items():
        shown = [f"{row[column]:>10.2f}" for column in ("reward", "readable", "kl", "distinct_1", "distinct_2")]
        print(f"{name:<14}{'  '.join(shown)}")
    print(f"\nheld-out accuracy of DPO: {held_out['dpo']['accuracy']['after']:.2f}")
    print(f"all commands in {sum(seconds.values()):.0f} s; saved {out / 'summary.json'} and {out / 'models.png'}")


@functools.cache
def reference_model(directory):
    from purerl.lm import hub

    return hub.load(directory)


def measure(directory, reference):
    """The true reward of completions of all prompts, how many can be read, and their distance from the SFT model."""
    import jax

    sys.path.insert(0, str(HERE))
    from make_data import is_review, kindness

    from purerl.lm import hub, reinforcement, store, tokenizers
    from purerl.lm.encoding import Limits
    from purerl.lm.generation import Sampling

    ref = reference_model(reference)
    model = hub.load(directory)
    encoder = tokenizers.load_encoder(directory)
    found, _ = store.prompts(DATA / "prompts.jsonl", encoder, Limits(56, 32))
    questions = [reinforcement.Question(*each) for each in found for _ in range(8)]
    width = max(len(question.ids) for question in questions)
    answers = reinforcement.answer(
        jax.random.key(1), ref.network, model.params, questions, encoder, Sampling(24), width
    )
    reward = reinforcement.score([lambda prompts, texts: [kindness(text) for text in texts]], answers)
    row = reinforcement.evaluate(answers, reward, ref.network, ref.params, 8)._asdict()
    row["readable"] = sum(map(is_review, answers.texts)) / len(answers.texts)
    for prompt, text in row["samples"]:
        print(f"{directory.name}: {prompt}{text}")
    return row


def draw(table, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, row in table.items():
        axes.scatter(row["kl"], row["reward"], s=60, label=name)
    axes.set_xlabel("KL to the SFT model, nats per completion")
    axes.set_ylabel("kindness of completions, from -1 to 1")
    axes.set_ylim(-0.2, 1.1)
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
