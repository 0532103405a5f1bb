"""CrossQ: settings by environment."""

from __future__ import annotations

import purerl
from purerl.presets import sac
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import SMALL, builder, replay

_RATES = {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "temperature_learning_rate": 1e-3}
_PRESETS = {
    "Pendulum-v1": Preset(
        "crossq", 20_000, 3, 1, _RATES | {"temperature_learning_rate": 3e-3}, network=SMALL,
        replay=replay(20_000, 3 * 64, 500),
    ),
    "continuous": Preset("crossq", 1_000_000, 3, 1, _RATES, replay=replay(1_000_000, 3 * 256, 5_000)),
}  # fmt: skip
_SPACE = {name: text for name, text in sac.ENTRY.space.items() if name != "tau"}
ENTRY: Algorithm = Algorithm(
    "soft actor-critic with batch normalization, without targets", builder("crossq", critic="batch_norm_critic"),
    lambda: purerl.SACHparams, _PRESETS, _SPACE, ("Box",),
)  # fmt: skip
