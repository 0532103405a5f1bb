"""Options of `purerl export`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import option, several

FORMATS = ("stablehlo", "onnx", "safetensors", "hub")


def parse_format(text: str) -> str:
    """One of `FORMATS`."""
    if text not in FORMATS:
        raise ValueError(f"{text!r} is not one of {', '.join(FORMATS)}")
    return text


@dataclasses.dataclass(frozen=True)
class Options:
    """Write a saved policy for other programs, and check that it acts as before.

    stablehlo: a program with the parameters in it, which jax alone runs (policy.stablehlo)
    onnx: the same for onnxruntime (policy.onnx)
    safetensors: the arrays of the agent's state (policy.safetensors)
    hub: a folder with a model card for the Hugging Face Hub (hub/), which purerl.load reads
    """

    EXAMPLES: ClassVar = (
        "purerl export first",
        "purerl export first --formats onnx hub --output exported",
    )

    run: str = option("Name or directory of the run, or a saved policy.", "", metavar="RUN", positional=True)
    runs_dir: str = option("Directory of all runs.", "runs", metavar="RUNS_DIR")
    formats: tuple[str, ...] = several(
        "What to write.", ("stablehlo",), parse=parse_format, metavar="FORMAT", shown="stablehlo"
    )
    output: str | None = option("Directory of the files.", metavar="DIR", shown="RUN/export")
    push: str | None = option("Also upload the folder of the format hub to this repository.", metavar="USER/NAME")
