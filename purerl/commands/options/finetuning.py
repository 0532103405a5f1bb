"""Options that the commands on language models share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from purerl.commands.options import count, flag, one_of, option, parse_count_or_zero, parse_number, seed, services


def prompt_limit() -> Any:
    """The longest prompt."""
    return count("Tokens of a prompt; longer ones lose their beginning.", 256)


def gradient_limit() -> Any:
    """The largest norm of a gradient."""
    return option("Gradients of a larger norm are scaled down to it.", 1.0, parse=parse_number(low=0.0), metavar="X")


@dataclasses.dataclass(frozen=True)
class Model:
    """A directory in Hugging Face's format. Nothing is fetched; `purerl lm init` writes a tiny one."""

    model: str | None = option("The model to start from.", metavar="DIR")
    dtype: str = option(
        "float32, or bfloat16 with float32 weights.", "float32", parse=one_of("float32", "bfloat16"), metavar="TYPE"
    )
    remat: bool = flag("Recompute each layer in the backward pass, to save memory.")
    logits_chunk: int = count("Positions whose logits are in memory at once.", 128)
    template: str = option(
        "auto renders conversations by the tokenizer's chat template, chat wraps plain texts too, none refuses "
        "conversations; or a Jinja file.",
        "auto",
        metavar="NAME|FILE",
    )


@dataclasses.dataclass(frozen=True)
class Lora:
    """Low-rank adaptation: only factors of the projections are trained. The saved model has them merged."""

    lora_rank: int = option("Rank of the factors; 0 trains all weights.", 0, parse=parse_count_or_zero, metavar="N")
    lora_alpha: float | None = option(
        "The factors count alpha / rank.", parse=parse_number(low=0.0), metavar="X", shown="twice the rank"
    )
    lora_targets: str = option("Regular expression of the weights that get factors.", "_proj", metavar="REGEX")


@dataclasses.dataclass(frozen=True)
class Data:
    """How rows become batches. Rows of similar lengths are padded together."""

    eval_data: str | None = option("Held-out rows of the same kind.", metavar="FILE")
    eval_share: float = option(
        "Share of the rows that is held out if there is no --eval-data.",
        0.1,
        parse=parse_number(low=0.0, high=0.9),
        metavar="X",
    )
    max_length: int = count("Tokens of prompt and completion; longer completions lose their end.", 512)
    max_prompt_length: int = prompt_limit()
    batch_size: int = count("Rows per update.", 32)
    micro_batch_size: int = count("Rows computed at once; the gradients of an update are summed.", 8)
    eval_every: int = count("Updates between evaluations of the held-out rows.", 50)


@dataclasses.dataclass(frozen=True)
class Optimization:
    """AdamW."""

    learning_rate: float | None = option(
        "The highest learning rate.", parse=parse_number(low=0.0), metavar="X", shown="1e-4 for sft, 1e-5 otherwise"
    )
    num_epochs: float = option("Passes over the data.", 1.0, parse=parse_number(low=0.0), metavar="X")
    num_updates: int | None = count("Updates, instead of --num-epochs.", shown="by --num-epochs")
    warmup_updates: int = option("Updates in which the learning rate rises.", 0, parse=parse_count_or_zero, metavar="N")
    schedule: str = option(
        "cosine or linear to 0, or constant.", "cosine", parse=one_of("cosine", "linear", "constant"), metavar="CURVE"
    )
    weight_decay: float = option("Of matrices.", 0.0, parse=parse_number(low=0.0), metavar="X")
    max_grad_norm: float = gradient_limit()


@dataclasses.dataclass(frozen=True)
class Devices:
    """A mesh of fsdp x tp devices."""

    fsdp: int = count("Devices over which rows and weights are split.", 1)
    tp: int = count("Devices over which heads, hidden units and vocabulary are split.", 1)


@dataclasses.dataclass(frozen=True)
class Run:
    """The trained model is saved in Hugging Face's format, and the run in OUTPUT/training."""

    output: Path | None = option("Directory of the trained model.", parse=Path, metavar="DIR")
    resume: bool = flag("Resume the run in --output: the same command with this flag gives the same bits.")
    seed: int = seed("Random seed.")
    checkpoint_seconds: float = option(
        "Save a checkpoint at least every this many seconds, and at the end.",
        300.0,
        parse=parse_number(low=0.0),
        metavar="SECONDS",
        shown="300",
    )
    keep: int = count("Number of checkpoints that are kept.", 2)
    save_dtype: str = option(
        "Type of the saved weights.", "float32", parse=one_of("float32", "bfloat16"), metavar="TYPE"
    )
    log: tuple[str, ...] = services()
