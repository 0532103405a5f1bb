"""Implicit Q-learning: settings by environment. It learns from a dataset."""

from __future__ import annotations

import purerl
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import builder

_PRESETS = {
    "continuous": Preset("iql", 5_120_000, 1, 256, network={"hidden": (256, 256), "activation": "relu"}),
}
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 3e-3)",
    "expectile": "uniform(0.5, 0.95)",
    "inverse_temperature": "log_uniform(0.3, 10)",
}
ENTRY: Algorithm = Algorithm(
    "implicit Q-learning, from recorded steps", builder("iql", "actor_critic"), lambda: purerl.IQLHparams, _PRESETS,
    _SPACE, ("Box",), offline=True,
)  # fmt: skip
