"""Losses and gradients of language models beside torch, transformers and TRL, on the same weights and the same batches.

    pip install ".[lm]" trl datasets torch
    python -m benchmarks.studies.language_models_trl --output benchmarks/results/language_models_trl.json

Of each architecture a random model is written by transformers in float32, and read by both. TRL's own trainers
make the batches and compute their losses; purerl computes its losses from the same token ids. Gradients are compared
parameter by parameter: the largest absolute difference, beside the largest gradient. Needs a minute on a CPU.
"""

import argparse
import copy
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, LlamaConfig, Qwen2Config
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from purerl import losses
from purerl.lm import architectures, hub, tokenizers
from purerl.rlhf.columns import log_probs
from purerl.rlhf.direct import direct_loss, kto_loss
from purerl.rlhf.supervised import LearnerHparams

DATA = pathlib.Path(__file__).parents[2] / "examples" / "language_model" / "data"
ROWS = 12
SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4}
COMMON = {"per_device_train_batch_size": ROWS, "use_cpu": True, "report_to": [], "save_strategy": "no", "bf16": False}
BETA = 0.3


def write_models(folder, family):
    """A reference and a policy near it, with a tokenizer, as transformers writes them."""
    texts = [row["completion"] for row in read("sft")]
    vocab_size = tokenizers.make_tokenizer(folder / "reference", texts, 400)
    kind, own = {
        "qwen2": (Qwen2Config, {"rope_theta": 1_000_000.0}),
        "llama": (LlamaConfig, {"rope_theta": 500_000.0, "tie_word_embeddings": False}),
        # one layer that attends to the whole text, and a window that is shorter than the texts
        "gemma3_text": (Gemma3TextConfig, {"num_hidden_layers": 7, "head_dim": 16, "sliding_window": 16,
            "query_pre_attn_scalar": 16}),
    }[family]  # fmt: skip
    tied = {"tie_word_embeddings": True, "num_key_value_heads": 2, "vocab_size": vocab_size}
    config = kind(**(SIZES | tied | own))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    tokenizers.make_tokenizer(folder / "policy", texts, 400)
    model.save_pretrained(folder / "reference")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder / "policy")


def read(name):
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def rows(name):
    return Dataset.from_list(read(name)[:ROWS])


class Pair:
    """Both sides: TRL's models, and purerl's."""

    def __init__(self, folder):
        self.folder = folder
        self.policy, self.reference = (
            AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32).eval()
            for name in ("policy", "reference")
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
        self.ours, self.ours_reference = (hub.load(folder / name) for name in ("policy", "reference"))

    def trainer(self, kind, config, dataset, **options):
        """One of TRL's trainers of a copy of the policy, without dropout."""
        arguments = config(output_dir=str(self.folder / "out"), **COMMON, **options.pop("settings"))
        made = kind(model=copy.deepcopy(self.policy), args=arguments, train_dataset=dataset,
                    processing_class=self.tokenizer, **options)  # fmt: skip
        made.model.eval()
        return made

    def log_probs(self, data):
        """Of the reference."""
        return log_probs(self.ours_reference.network, self.ours_reference.params, data)

    def compare(self, theirs, trainer, ours):
        """Loss and gradient of torch's scalar, and of a function of purerl's parameters."""
        theirs.backward()
        value, grads = jax.jit(jax.value_and_grad(ours))(self.ours.params)
        found = {}
        built = architectures.architecture(self.ours.config, "config")
        for name, parameter in trainer.model.named_parameters():
            target = architectures.parameter_of(name, built.mapping)
            if target is None or target[0] not in grads:
                continue
            found[name] = np.abs(hub.to_file(np.asarray(grads[target[0]]), name, built) - parameter.grad.numpy()).max()
        largest = max(float(p.grad.abs().max()) for p in trainer.model.parameters() if p.grad is not None)
        return {
            "loss": float(value), "loss of TRL": theirs.item(), "difference": abs(float(value) - theirs.item()),
            "gradients": len(found), "largest difference of gradients": float(max(found.values())),
            "largest gradient": largest,
        }  # fmt: skip


def array(x):
    return jnp.asarray(x.numpy())


def pairs(ids, seen, completion):
    """[2 B, W], chosen before rejected, to ranked texts [B, 2, W]."""
    columns = {"tokens": ids, "mask": seen.bool(), "completion": completion.bool()}
    return {name: jnp.stack(jnp.split(array(x), 2), axis=1) for name, x in columns.items()}


def dpo(sides, loss_type, name):
    trainer = sides.trainer(
        DPOTrainer, DPOConfig, rows("pairs"), ref_model=copy.deepcopy(sides.reference),
        settings={"beta": BETA, "loss_type": [loss_type], "max_length": None, "label_smoothing": 0.0},
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, batch)
    data = pairs(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    data["ref_log_prob"] = sides.log_probs(data)
    function = direct_loss(sides.ours.network, name)

    def ours(params):
        total, weight, _ = function(params, data, LearnerHparams(beta=BETA))
        return total / weight

    return sides.compare(theirs, trainer, ours)


def kto(sides):
    labelled = [
        {"prompt": row["prompt"], "completion": row["chosen" if i % 2 else "rejected"], "label": bool(i % 2)}
        for i, row in enumerate(read("pairs")[:ROWS])
    ]
    trainer = sides.trainer(
        KTOTrainer, KTOConfig, Dataset.from_list(labelled), ref_model=copy.deepcopy(sides.reference),
        settings={"beta": BETA, "max_length": None},
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, batch)
    data = {}
    for prefix, other in (("", ""), ("kl_", "KL_")):
        data |= {
            prefix + "tokens": array(batch[other + "input_ids"]),
            prefix + "mask": array(batch[other + "attention_mask"]) != 0,
            prefix + "completion": array(batch[other + "completion_mask"]) != 0,
        }
    data["ref_log_prob"] = sides.log_probs({k: v for k, v in data.items() if not k.startswith("kl_")})
    data["kl_ref_log_prob"] = sides.log_probs({k[3:]: v for k, v in data.items() if k.startswith("kl_")})
    data["label"] = jnp.asarray(np.asarray(batch["label"]))
    function = kto_loss(sides.ours.network)

    def ours(params):
        total, weight, _ = function(params, data, LearnerHparams(beta=BETA))
        return total / weight

    return sides.compare(theirs, trainer, ours)


def orpo(sides):
    """TRL's likelihood counts prompt and completion, and all tokens of the batch equally; so does this comparison."""
    trainer = sides.trainer(
        ORPOTrainer, ORPOConfig, rows("pairs"), settings={"beta": BETA, "max_length": 256, "disable_dropout": True}
    )
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, batch)
    whole = trainer.concatenated_inputs(batch, padding_value=trainer.padding_value)
    data = pairs(
        whole["concatenated_input_ids"], whole["concatenated_attention_mask"], whole["concatenated_labels"] != -100
    )
    lengths = losses.sequence_lengths(data["completion"])
    chosen = {name: x[:, 0] for name, x in data.items()}
    every = chosen | {"completion": chosen["mask"].at[:, 0].set(False)}

    def ours(params):
        mean = log_probs(sides.ours.network, params, data) / lengths
        nll = -jnp.sum(log_probs(sides.ours.network, params, every)) / jnp.sum(every["completion"])
        return jnp.mean(losses.orpo(mean[:, 0], mean[:, 1], jnp.broadcast_to(nll, mean.shape[:1]), BETA))

    return sides.compare(theirs, trainer, ours)


def grpo(sides):
    """The paper's KL term; TRL's default multiplies it by the ratio to the policy that wrote."""
    trainer = sides.trainer(
        GRPOTrainer, GRPOConfig, rows("prompts"), reward_funcs=lambda completions, **_: [0.0] * len(completions),
        settings={"beta": 0.04, "loss_type": "grpo", "num_generations": 4, "max_completion_length": 24, "epsilon": 0.2,
            "use_bias_correction_kl": False},
    )  # fmt: skip
    generator = np.random.default_rng(0)
    vocab = len(sides.tokenizer)
    prompt, completion = (torch.tensor(generator.integers(3, vocab, (ROWS, n))) for n in (9, 14))
    lengths = torch.tensor(generator.integers(3, 15, ROWS))
    prompt_mask = (torch.arange(9)[None] >= torch.tensor(generator.integers(0, 5, ROWS))[:, None]).long()
    mask = (torch.arange(14)[None] < lengths[:, None]).long()
    reward = jnp.asarray(generator.normal(size=(ROWS // 4, 4)), jnp.float32)
    advantage = losses.group_advantages(reward).reshape(-1)
    data = {
        "tokens": array(torch.cat([prompt, completion], 1)),
        "mask": array(torch.cat([prompt_mask, mask], 1)) != 0,
        "completion": array(torch.cat([torch.zeros_like(prompt), mask], 1)) != 0,
    }

    def token_log_probs(model, params):
        each = (data["tokens"], data["mask"], data["completion"])
        return jax.vmap(lambda *text: model.network.token_log_probs(params, *text))(*each)

    reference = token_log_probs(sides.ours_reference, sides.ours_reference.params)
    old = reference + 0.1 * data["completion"]  # a policy that has moved since it wrote
    batch = {
        "prompt_ids": prompt, "prompt_mask": prompt_mask, "completion_ids": completion, "completion_mask": mask,
        "advantages": torch.tensor(np.asarray(advantage)), "num_items_in_batch": mask.sum(),
        "old_per_token_logps": torch.tensor(np.asarray(old)[:, 9:]),
        "ref_per_token_logps": torch.tensor(np.asarray(reference)[:, 9:]),
    }  # fmt: skip
    theirs = trainer._compute_loss(trainer.model, batch)

    def ours(params):
        mine = token_log_probs(sides.ours, params)
        each = losses.grpo(mine, old, reference, advantage, 0.2, 0.04, mask=data["completion"])
        return losses.aggregate_tokens(each, data["completion"], "grpo")

    return sides.compare(theirs, trainer, ours)


def outputs(sides):
    """Logits and log-probabilities of tokens."""
    tokens = np.random.default_rng(1).integers(3, len(sides.tokenizer), (2, 40))
    with torch.no_grad():
        theirs = sides.policy(torch.tensor(tokens)).logits
    seen = jnp.ones(40, bool)
    ours = jnp.stack([jax.jit(sides.ours.network.apply)(sides.ours.params, jnp.asarray(row), seen) for row in tokens])
    picked = torch.log_softmax(theirs[:, :-1], -1).gather(2, torch.tensor(tokens)[:, 1:, None])[..., 0].numpy()
    mine = losses.token_log_probs(ours, jnp.asarray(tokens), jnp.ones(tokens.shape, bool))[:, 1:]
    back = hub.save(sides.folder / "back", sides.ours.params, sides.ours.config, sides.folder / "policy")
    with torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(back)(torch.tensor(tokens)).logits
    return {
        "largest difference of logits": float(np.abs(ours - theirs.numpy()).max()),
        "largest difference of log-probabilities": float(np.abs(mine - picked).max()),
        "saved by purerl, loaded by transformers, difference of logits": float((again - theirs).abs().max()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--families", nargs="*", default=["qwen2", "llama", "gemma3_text"])
    parser.add_argument("--methods", nargs="*", default=["outputs", "dpo", "ipo", "kto", "orpo", "grpo"])
    options = parser.parse_args()
    report = {"rows": ROWS, "beta": BETA}
    if options.output is not None and options.output.exists():
        report = json.loads(options.output.read_text())
    methods = {
        "outputs": outputs,
        "dpo": lambda sides: dpo(sides, "sigmoid", "dpo"),
        "ipo": lambda sides: dpo(sides, "ipo", "ipo_average"),
        "kto": kto,
        "orpo": orpo,
        "grpo": grpo,
    }
    for family in options.families:
        with tempfile.TemporaryDirectory() as folder:
            write_models(pathlib.Path(folder), family)
            sides = Pair(pathlib.Path(folder))
            report.setdefault(family, {})
            for name in options.methods:
                report[family][name] = methods[name](sides)
                print(family, name, json.dumps(report[family][name]), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
