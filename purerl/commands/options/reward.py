"""Options of `purerl reward`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import one_of, option, parse_number
from purerl.commands.options.finetuning import Data, Devices, Lora, Model, Optimization, Run


@dataclasses.dataclass(frozen=True)
class Options:
    """Fit a reward model to preferences, from a JSONL file.

    Each line has prompt, chosen and rejected, or prompt and ranking, a list from best to worst. The model gets a head
    that reads a reward at the last token; it is saved as a sequence classifier, which `purerl grpo --reward DIR` takes.
    """

    EXAMPLES: ClassVar = (
        "purerl reward pairs.jsonl --model tiny-sft --output tiny-reward",
        "purerl reward rankings.jsonl --model sft --output out --loss pairwise",
    )

    data: str = option("The rows, as JSON lines.", "", metavar="FILE", positional=True)
    loss: str = option(
        "plackett_luce, or pairwise (InstructGPT's mean over pairs); both are Bradley-Terry's for pairs.",
        "plackett_luce",
        parse=one_of("plackett_luce", "pairwise"),
        metavar="LOSS",
    )
    centering: float = option("Pull of the rewards to 0.", 0.0, parse=parse_number(low=0.0), metavar="X")
    model: Model = dataclasses.field(default_factory=Model)
    rows: Data = dataclasses.field(default_factory=Data)
    lora: Lora = dataclasses.field(default_factory=Lora)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    devices: Devices = dataclasses.field(default_factory=Devices)
    run: Run = dataclasses.field(default_factory=Run)
