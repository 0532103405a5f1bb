"""TD3+BC: settings by environment. It learns from a dataset."""

from __future__ import annotations

import purerl
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import SPACE, builder

_PRESETS = {"continuous": Preset("td3_bc", 10_240_000, 1, 512, combinators=("with_observation_normalization",))}
_SPACE = SPACE | {"value_coef": "log_uniform(0.3, 20)"}
ENTRY: Algorithm = Algorithm(
    "TD3 with behavior cloning, from recorded steps", builder("td3_bc", "deterministic_actor"),
    lambda: purerl.TD3BCHparams, _PRESETS, _SPACE, ("Box",), offline=True,
)  # fmt: skip
