"""Soft actor-critic: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import SMALL, SPACE, builder, replay

_PRESETS = {
    "Pendulum-v1": Preset(
        "sac", 20_000, 2, 1,
        {"actor_learning_rate": 1e-3, "temperature_learning_rate": 3e-3, "discount": 0.98, "tau": 0.01}, network=SMALL,
        replay=replay(20_000, 64, 500),
    ),
    "MountainCarContinuous-v0": Preset(
        "sac", 40_000, 4, 1, {"actor_learning_rate": 1e-3, "temperature": 0.1, "noise_theta": 0.02},
        {"exploration": "ou"}, SMALL, replay=replay(40_000, 128, 2_000),
    ),
    "continuous": Preset("sac", 1_000_000, 1, 1, replay=replay(1_000_000, 256, 5_000)),
}  # fmt: skip
_SPACE = SPACE | {
    "temperature_learning_rate": "log_uniform(1e-4, 1e-2)",
    "target_entropy": "uniform(-2.0, 0.0)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    actor = "gsde_actor" if preset.agent.get("exploration") == "gsde" else "gaussian_actor"
    return builder("sac", actor)(env, preset)


ENTRY: Algorithm = Algorithm("soft actor-critic", _build, lambda: purerl.SACHparams, _PRESETS, _SPACE, ("Box",))
