"""Options of `purerl sft`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import option
from purerl.commands.options.finetuning import Data, Devices, Lora, Model, Optimization, Run


@dataclasses.dataclass(frozen=True)
class Options:
    """Fine-tune a language model on completions, from a JSONL file.

    Each line has prompt and completion, or messages, whose last one is learned, or text alone. The loss is the mean
    over all completion tokens.
    """

    EXAMPLES: ClassVar = (
        "purerl sft data.jsonl --model tiny --output tiny-sft --num-epochs 3",
        "purerl sft data.jsonl --model big --output out --lora-rank 8 --remat",
    )

    data: str = option("The rows, as JSON lines.", "", metavar="FILE", positional=True)
    model: Model = dataclasses.field(default_factory=Model)
    rows: Data = dataclasses.field(default_factory=Data)
    lora: Lora = dataclasses.field(default_factory=Lora)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    devices: Devices = dataclasses.field(default_factory=Devices)
    run: Run = dataclasses.field(default_factory=Run)
