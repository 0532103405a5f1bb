"""Truncated quantile critics: settings by environment."""

from __future__ import annotations

import purerl
from purerl.presets import sac
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import SMALL, builder, replay

_QUANTILES = {"num_quantiles": 25}
_PRESETS = {
    "Pendulum-v1": Preset(
        "tqc", 20_000, 2, 1, {"actor_learning_rate": 1e-3, "temperature_learning_rate": 3e-3}, {"num_critics": 2},
        SMALL | _QUANTILES, replay=replay(20_000, 64, 500),
    ),
    "continuous": Preset(
        "tqc", 1_000_000, 1, 1, {"critic_learning_rate": 3e-4, "temperature_learning_rate": 3e-4}, network=_QUANTILES,
        replay=replay(1_000_000, 256, 5_000),
    ),
}  # fmt: skip
ENTRY: Algorithm = Algorithm(
    "truncated quantile critics", builder("tqc"), lambda: purerl.SACHparams, _PRESETS, sac.ENTRY.space, ("Box",)
)
