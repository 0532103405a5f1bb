"""R2D2, recurrent Q-learning: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets import dqn
from purerl.presets.entries import Algorithm, Preset

_HPARAMS = {"learning_rate": 1e-3, "discount": 0.997, "epsilon_anneal_updates": 2000.0, "target_period": 100}
_REPLAY = {"batch_size": 32, "length": 16, "burn_in": 8, "prioritized": True}
_PRESETS = {
    "PositionCartPole-v1": Preset(
        "r2d2", 400_000, 16, 16, _HPARAMS | {"discount": 0.99}, network={"hidden": (32,), "memory_size": 32},
        replay=_REPLAY | {"capacity": 100_000, "min_size": 2_000, "num_updates": 4},
    ),
    "MemoryChain-bsuite": Preset(
        "r2d2", 200_000, 16, 16, _HPARAMS | {"discount": 0.99}, network={"hidden": (16,), "memory_size": 16},
        replay=_REPLAY | {"capacity": 50_000, "min_size": 1_000, "burn_in": 0},
    ),
    "any": Preset(
        "r2d2", 1_000_000, 16, 16, _HPARAMS, replay=_REPLAY | {"capacity": 100_000, "min_size": 5_000, "num_updates": 4}
    ),
}  # fmt: skip


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.r2d2(purerl.networks.recurrent_q_network(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "recurrent Q-learning from replay", _build, lambda: purerl.DQNHparams, _PRESETS, dqn.ENTRY.space, ("Discrete",)
)
