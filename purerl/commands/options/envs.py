"""Options of `purerl envs`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import option


@dataclasses.dataclass(frozen=True)
class Options:
    """List the environments and the algorithms, or show the presets for one environment."""

    EXAMPLES: ClassVar = ("purerl envs", "purerl envs CartPole-v1")

    env: str | None = option("An environment, to see its presets.", metavar="ID", positional=True)
