"""DroQ: settings by environment."""

from __future__ import annotations

import purerl
from purerl.presets import sac
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import SMALL, builder, replay

_DROPOUT = {"dropout": 0.01}
_PRESETS = {
    "Pendulum-v1": Preset(
        "droq", 5_000, 1, 1, {"actor_learning_rate": 1e-3, "temperature_learning_rate": 3e-3}, {"policy_delay": 5},
        SMALL | _DROPOUT, replay=replay(5_000, 5 * 64, 500),
    ),
    "continuous": Preset(
        "droq", 300_000, 1, 1, {"critic_learning_rate": 3e-4, "temperature_learning_rate": 3e-4}, network=_DROPOUT,
        replay=replay(300_000, 20 * 256, 5_120),
    ),
}  # fmt: skip
ENTRY: Algorithm = Algorithm(
    "soft actor-critic with dropout and many updates", builder("droq", layer_norm=True, dropout=0.01),
    lambda: purerl.SACHparams, _PRESETS, sac.ENTRY.space, ("Box",),
)  # fmt: skip
