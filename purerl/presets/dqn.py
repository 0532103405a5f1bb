"""DQN: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_REPLAY = {"capacity": 50_000, "batch_size": 128, "min_size": 1000}
_IMAGE = {"hidden": (128, 64), "convolution": False}
_STEPS = _REPLAY | {"length": 3, "num_updates": 10}
_HPARAMS = {"learning_rate": 5e-4, "epsilon_anneal_updates": 4000.0, "target_period": 50}
_PRESETS = {
    "MountainCar-v0": Preset(
        "dqn", 500_000, 16, 16, {"learning_rate": 1e-3, "epsilon_anneal_updates": 10_000.0},
        replay=_REPLAY | {"length": 3, "num_updates": 16},
    ),
    "image": Preset(
        "dqn", 1_000_000, 16, 4, {"learning_rate": 2.5e-4, "epsilon_anneal_updates": 10_000.0, "target_period": 1000},
        network=_IMAGE, replay={"capacity": 100_000, "batch_size": 64, "min_size": 5000, "num_updates": 4},
    ),
    "any": Preset("dqn", 200_000, 10, 10, _HPARAMS, replay=_STEPS, anneal=True),
}  # fmt: skip
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "epsilon": "uniform(0.01, 0.2)",
    "epsilon_anneal_updates": "log_uniform(1e3, 2e4)",
    "target_period": "choice(20, 50, 100, 200, 500)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.dqn(purerl.networks.q_network(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm("deep Q-network", _build, lambda: purerl.DQNHparams, _PRESETS, _SPACE, ("Discrete",))
