"""DPO steps compiled for 8 H100s that are not there: memory per device and collectives, for 0.5 and 7 billion weights.

    python -m benchmarks.studies.language_models_h100 --output benchmarks/results/language_models_h100.json

It runs in an environment with the extra `purerl[lm]` and the CUDA plugin of jax, see `benchmarks/accelerators`. The
sizes are those of Qwen2.5; nothing is downloaded and nothing runs. Compiled are the two functions of an update,
`training.Program.add` (the gradient of a part) and `step` (AdamW).
"""

import argparse
import collections
import functools
import json
import os
import pathlib
import re
import sys
import time

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from purerl.accelerators import targets
from purerl.lm import architectures, hub, lora, sharding, training
from purerl.rlhf.direct import direct_loss
from purerl.rlhf.supervised import LearnerHparams

COMMON = {
    "model_type": "qwen2", "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "hidden_act": "silu", "head_dim": None,
}  # fmt: skip
MODELS = {
    "0.5B": COMMON | {
        "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "7B": COMMON | {
        "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
}  # fmt: skip
PAIRS, LENGTH = 8, 1024  # pairs of texts per part, and tokens of a text
# Without a device XLA cannot time its matrix products against those of cuBLAS, and its tiling of some of them fails.
OPTIONS = {"xla_gpu_enable_triton_gemm": False}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def compiled(function, *specs):
    lowered = function.trace(*specs).lower(lowering_platforms=("cuda",))
    begin = time.perf_counter()
    program = lowered.compile(compiler_options=OPTIONS)
    return program, time.perf_counter() - begin


def placed(tree, mesh, specs_of):
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, s)), tree, specs_of
    )


def case(name, fsdp, tp, rank, layers=None):
    """Memory and collectives of one configuration."""
    config = dict(MODELS[name])
    config["num_hidden_layers"] = layers or config["num_hidden_layers"]
    built = architectures.architecture(config, "config", dtype=jnp.bfloat16, remat=True)
    network = hub.network_of(config, built)
    mesh = sharding.make_mesh(fsdp, tp, targets.devices(targets.TARGETS["h100"]))
    text = jnp.zeros(1, jnp.int32), jnp.ones(1, bool)
    params = jax.eval_shape(network.init, jax.random.key(0), *text)
    rules = {n: sharding.spec(x.shape, network.shardings().get(n, ()), mesh) for n, x in params.items()}
    weights = placed(params, mesh, rules)
    frozen, trained = (), weights
    bind = training.full(network)
    if rank:
        factors = jax.eval_shape(lambda: lora.init(jax.random.key(0), params, rank))
        trained = placed(factors, mesh, jax.tree.map(lambda _: PartitionSpec(), factors))
        bind, frozen = training.low_rank(network, 2.0), weights
    loss_of = functools.partial(direct_loss, loss="dpo")
    run = training.program(bind, loss_of, LearnerHparams(), training.adamw(training.Optimization(1e-5, 100)))
    # AdamW's moments are placed like the parameters; the rest is whole on every device.
    state = jax.eval_shape(run.begin, trained)
    by_shape = {x.shape: x.sharding.spec for x in jax.tree.leaves(trained)}
    learner = placed(state, mesh, jax.tree.map(lambda x: by_shape.get(x.shape, PartitionSpec()), state))
    rows = PartitionSpec("fsdp")
    part = {
        "tokens": ((PAIRS, 2, LENGTH), jnp.int32), "mask": ((PAIRS, 2, LENGTH), bool),
        "completion": ((PAIRS, 2, LENGTH), bool), "ref_log_prob": ((PAIRS, 2), jnp.float32),
    }  # fmt: skip
    part = {n: jax.ShapeDtypeStruct(s, d, sharding=NamedSharding(mesh, rows)) for n, (s, d) in part.items()}
    sums = jax.eval_shape(run.zeros, learner, frozen, part)
    sums = placed(sums, mesh, jax.tree.map(lambda x: by_shape.get(x.shape, PartitionSpec()), sums))
    found = {}
    for label, function, arguments in (
        ("add", run.add, (learner, frozen, part, sums)),
        ("step", run.step, (learner, sums)),
    ):
        program, seconds = compiled(function, *arguments)
        memory = program.memory_analysis()
        found[label] = {
            "arguments, GB": round(memory.argument_size_in_bytes / 1e9, 2),
            "temporary, GB": round(memory.temp_size_in_bytes / 1e9, 2),
            "collectives": collectives(program.as_text()),
            "compile seconds": round(seconds),
        }
    count = sum(x.size for x in jax.tree.leaves(params))
    return {"weights, billions": round(count / 1e9, 2), "layers": config["num_hidden_layers"], **found}


def collectives(text):
    """How often each collective is in a program."""
    counts = collections.Counter()
    for kind in COLLECTIVES:
        counts[kind] = len(re.findall(rf" {kind}(?:-start)?\(", text))
    return {kind: number for kind, number in counts.items() if number}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--layers", type=int, help="of every model, to try the script out")
    parser.add_argument("--cases", nargs="*", default=["0.5B,8,1,0", "0.5B,4,2,0", "7B,8,1,0", "7B,4,2,0", "7B,8,1,16"])
    options = parser.parse_args()
    report = {"pairs per part": PAIRS, "tokens per text": LENGTH, "computation": "bfloat16, remat", "cases": {}}
    if options.output is not None and options.output.exists():
        report = json.loads(options.output.read_text())
    for text in options.cases:
        name, *numbers = text.split(",")
        fsdp, tp, rank = map(int, numbers)
        label = f"{name}, fsdp {fsdp}, tp {tp}, {f'LoRA of rank {rank}' if rank else 'all weights'}"
        report["cases"][label] = case(name, fsdp, tp, rank, options.layers)
        print(label, json.dumps(report["cases"][label]), flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
