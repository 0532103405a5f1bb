"""Options of `purerl dpo`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import option, parse_number
from purerl.commands.options.finetuning import Data, Devices, Lora, Model, Optimization, Run


@dataclasses.dataclass(frozen=True)
class Options:
    """Align a language model with preferences, without a reward model, from a JSONL file.

    Each line has prompt, chosen and rejected. For --loss kto it has prompt, completion and label, for --loss
    plackett_luce prompt and ranking, a list from best to worst. The reference is the model as it is at the start; its
    log-probabilities are computed once and kept on disk.
    """

    EXAMPLES: ClassVar = (
        "purerl dpo pairs.jsonl --model tiny-sft --output tiny-dpo --beta 0.1",
        "purerl dpo pairs.jsonl --model sft --output out --loss simpo --beta 2",
    )

    data: str = option("The rows, as JSON lines.", "", metavar="FILE", positional=True)
    loss: str = option("dpo, ipo, kto, simpo, orpo, cpo, robust, hinge, sppo, exo, nca, ...", "dpo", metavar="LOSS")
    beta: float = option("Strength of the pull to the reference.", 0.1, parse=parse_number(low=0.0), metavar="X")
    label_smoothing: float = option(
        "Assumed share of flipped labels.", 0.0, parse=parse_number(low=0.0, high=0.5), metavar="X"
    )
    gamma: float = option("SimPO's margin.", 0.5, parse=parse_number(low=0.0), metavar="X")
    model: Model = dataclasses.field(default_factory=Model)
    rows: Data = dataclasses.field(default_factory=Data)
    lora: Lora = dataclasses.field(default_factory=Lora)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    devices: Devices = dataclasses.field(default_factory=Devices)
    run: Run = dataclasses.field(default_factory=Run)
