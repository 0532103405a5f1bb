"""Options of `purerl bench`."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import ClassVar

from purerl.commands.options import Setup, cores, option, parse_number, several
from purerl.text import parse_count


def parse_size(text: str) -> tuple[int, int]:
    """`64x128` as 64 environments and 128 steps."""
    with contextlib.suppress(ValueError):
        num_envs, rollout_length = map(parse_count, text.lower().split("x"))
        return num_envs, rollout_length
    raise ValueError(f"{text!r} is not of the form ENVSxSTEPS, such as 64x128")


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure how fast an agent trains on this machine: environment steps per second, compile time, memory.

    Training runs for a few seconds at each size, once compiled. The rate is over all agents; what other programs do on
    the machine slows it down.
    """

    EXAMPLES: ClassVar = (
        "purerl bench --sizes 4x128 64x128 2048x32",
        "purerl bench --sizes 4x128 --cores one",
        "purerl bench --algorithm sac --env Pendulum-v1 --agents 1 8 64",
    )

    setup: Setup = dataclasses.field(default_factory=Setup)
    sizes: tuple[tuple[int, int], ...] = several(
        "Sizes to measure: environments of each agent x steps in each between two updates.",
        parse=parse_size,
        metavar="ENVSxSTEPS",
        shown="the preset's",
    )
    agents: tuple[int, ...] = several(
        "Numbers of agents to train side by side, spread over the devices.", (1,), parse=parse_count, metavar="N",
        shown="1",
    )  # fmt: skip
    seconds: float = option(
        "Seconds to train at each size.", 3.0, parse=parse_number(low=0.1), metavar="SECONDS", shown="3"
    )
    cores: str | None = cores("all")
    output: Path | None = option("Also write the figures to this JSON file.", parse=Path, metavar="FILE", shown="none")
