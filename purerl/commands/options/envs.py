"""Options of `purerl envs`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import option


@dataclasses.dataclass(frozen=True)
class Options:
    """List the environments, libraries and algorithms, or show the presets for one environment."""

    EXAMPLES: ClassVar = ("purerl envs", "purerl envs CartPole-v1", "purerl envs brax/")

    env: str | None = option(
        "An environment, to see its presets, or a library with / at its end, to see its environments.",
        metavar="ID",
        positional=True,
    )
