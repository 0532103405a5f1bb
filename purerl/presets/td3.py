"""TD3: settings by environment."""

from __future__ import annotations

import purerl
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import SMALL, SPACE, builder, replay

_PRESETS = {
    "Pendulum-v1": Preset(
        "td3", 30_000, 4, 1,
        {"actor_learning_rate": 1e-3, "discount": 0.98, "tau": 0.01, "exploration_noise": 0.3}, network=SMALL,
        replay=replay(20_000, 128, 500),
    ),
    "MountainCarContinuous-v0": Preset(
        "td3", 40_000, 4, 1, {"actor_learning_rate": 1e-3, "exploration_noise": 0.8, "noise_theta": 0.02},
        {"exploration": "ou"}, SMALL, replay=replay(40_000, 256, 2_000),
    ),
    "continuous": Preset("td3", 1_000_000, 1, 2, replay=replay(1_000_000, 512, 5_000)),
}  # fmt: skip
_SPACE = SPACE | {"exploration_noise": "uniform(0.05, 0.5)", "target_noise": "uniform(0.0, 0.4)"}
ENTRY: Algorithm = Algorithm(
    "TD3, and DDPG as a setting of it",
    builder("td3", "deterministic_actor"),
    lambda: purerl.TD3Hparams,
    _PRESETS,
    _SPACE,
    ("Box",),
)
