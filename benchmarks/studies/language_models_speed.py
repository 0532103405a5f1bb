"""A DPO step of 0.1 billion weights and generation, beside TRL's and transformers' on torch, on the CPU.

    pip install ".[lm]" trl datasets torch
    python -m benchmarks.studies.language_models_speed --output benchmarks/results/language_models_speed.json

The two sides run in turns, each in a process of its own, on the same weights, batch and settings: float32, AdamW,
reference log-probabilities computed beforehand. Seconds are CPU seconds of the process, and the memory is its peak.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata

import numpy as np

HERE = pathlib.Path(__file__)
PAIRS, LENGTH, PROMPT, STEPS, TOKENS = 2, 128, 32, 3, 64


def batch(vocab_size):
    generator = np.random.default_rng(0)
    tokens = generator.integers(3, vocab_size, (PAIRS, 2, LENGTH)).astype(np.int32)
    tokens[:, 1, :PROMPT] = tokens[:, 0, :PROMPT]
    completion = np.broadcast_to(np.arange(LENGTH) >= PROMPT, tokens.shape)
    return tokens, completion


def timed(step, count=STEPS):
    """Seconds of the CPU per call, after one that compiles."""
    step()
    begin = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - begin) / count


def purerl(directory, what):
    import jax
    import jax.numpy as jnp

    from purerl.lm import generation, hub, store, training
    from purerl.lm.encoding import Encoder
    from purerl.rlhf.columns import log_probs
    from purerl.rlhf.direct import direct_loss
    from purerl.rlhf.supervised import LearnerHparams

    model = hub.load(directory)
    tokens, completion = batch(model.config["vocab_size"])
    if what == "generate":
        encoder = Encoder(list, bytes, (), eos_id=-1, pad_id=0)
        rows, mask = store.left_padded(tokens[:, 0, :PROMPT].tolist(), PROMPT, 0)
        sampling = generation.Sampling(TOKENS, temperature=0.0)

        def write():
            found = generation.complete(jax.random.key(0), model.network, model.params, rows, mask, encoder, sampling)
            found.tokens.block_until_ready()

        return {"tokens per second": PAIRS * TOKENS / timed(write)}
    data = {"tokens": tokens, "mask": np.ones_like(completion), "completion": completion}
    data["ref_log_prob"] = jax.jit(lambda p: log_probs(model.network, p, data))(model.params)
    plan = training.Optimization(1e-5, 100, schedule="constant")
    run = training.program(
        training.full(model.network), lambda n: direct_loss(n, "dpo"), LearnerHparams(), training.adamw(plan)
    )
    learner = [run.begin(model.params)]
    model = model._replace(params={})  # as in `purerl dpo`
    losses = []

    def step():
        sums = run.measure(learner[0], (), data)
        learner[0], metrics = run.step(learner[0], sums)
        losses.append(float(jnp.asarray(metrics["loss/total"])))

    return {"seconds per step": timed(step), "losses": losses}


def peer(directory, what):
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokens, completion = batch(model.config.vocab_size)
    if what == "generate":
        prompts = torch.tensor(tokens[:, 0, :PROMPT]).long()

        def write():
            with torch.no_grad():
                model.generate(
                    prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                    do_sample=False,
                )  # fmt: skip

        return {"tokens per second": PAIRS * TOKENS / timed(write)}
    rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * PAIRS)
    settings = DPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, report_to=[], bf16=False, per_device_train_batch_size=PAIRS,
        precompute_ref_log_probs=True, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=model, args=settings, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(directory)
    )
    trainer.model.eval()
    both = torch.tensor(tokens).long().transpose(0, 1).reshape(2 * PAIRS, LENGTH)
    counted = torch.tensor(completion.copy()).long().transpose(0, 1).reshape(2 * PAIRS, LENGTH)
    inputs = {"input_ids": both, "attention_mask": torch.ones_like(both), "completion_mask": counted}
    with torch.no_grad():
        logits = trainer.model(both).logits[:, :-1].log_softmax(-1)
        each = logits.gather(2, both[:, 1:, None])[..., 0] * counted[:, 1:]
        inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = each.sum(1).chunk(2)
        del logits, each
    optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-5, weight_decay=0.0)
    losses = []

    def step():
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))

    return {"seconds per step": timed(step), "losses": losses}


def child(side, directory, what):
    found = {"purerl": purerl, "peer": peer}[side](directory, what)
    if what == "dpo":
        status = pathlib.Path("/proc/self/status").read_text()
        found["peak memory, GB"] = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e6
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--what", nargs="*", default=["dpo", "generate"], choices=["dpo", "generate"])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    import jax

    from purerl.lm import hub, initial

    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "model"
        initial.write_model(jax.random.key(0), directory, "base", "qwen2", [], 512)
        config = hub.read_config(directory) | {"vocab_size": 32_000}
        built = hub.architectures.architecture(config, "config")
        params = hub.network_of(config, built).init(jax.random.key(0), np.zeros(1, np.int32), np.ones(1, bool))
        hub.save(directory, params, config, directory)
        versions = {name: metadata.version(name) for name in ("jax", "google-tunix", "torch", "transformers", "trl")}
        report = {"weights": initial.count(params), "pairs": PAIRS, "tokens per text": LENGTH, "versions": versions}
        report["cores"] = len(os.sched_getaffinity(0))
        del params
        for what in options.what:
            found = {"purerl": [], "peer": []}
            for i in range(2 * options.repeats):
                side = ("purerl", "peer")[i % 2]
                command = [sys.executable, str(HERE), "--child", side, str(directory), what]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[side].append(json.loads(done.stdout.strip().splitlines()[-1]))
                report[what] = summary(found)
                print(json.dumps(report[what]), flush=True)
                if options.output is not None:
                    options.output.write_text(json.dumps(report, indent=1) + "\n")


def summary(found):
    return {
        side: {name: medians(rows, name) for name in rows[0]} | {"runs": len(rows)}
        for side, rows in found.items()
        if rows
    }


def medians(rows, name):
    values = [row[name] for row in rows]
    return values[0] if isinstance(values[0], list) else round(statistics.median(values), 4)


if __name__ == "__main__":
    main()
