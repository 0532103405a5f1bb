"""PPO with memory: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets import ppo
from purerl.presets.entries import Algorithm, Preset

_EPOCHS = {"num_epochs": 4, "num_minibatches": 4}
_PRESETS = {
    "PositionCartPole-v1": Preset(
        "recurrent_ppo", 1_000_000, 32, 64,
        {"learning_rate": 2e-3, "discount": 0.98, "gae_lambda": 0.8, "entropy_coef": 0.0}, _EPOCHS,
        {"hidden": (32,), "memory_size": 32},
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    "MemoryChain-bsuite": Preset(
        "recurrent_ppo", 200_000, 64, 16, {"learning_rate": 5e-3}, _EPOCHS, {"hidden": (16,), "memory_size": 16},
        anneal=True,
    ),
    "continuous": Preset(
        "recurrent_ppo", 1_000_000, 16, 128, {"learning_rate": 1e-3, "entropy_coef": 0.0}, _EPOCHS,
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    "any": Preset("recurrent_ppo", 1_000_000, 32, 64, {"learning_rate": 1e-3}, _EPOCHS, anneal=True),
}  # fmt: skip


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.ppo(purerl.networks.recurrent_actor_critic(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "proximal policy optimisation with a GRU or LSTM", _build, lambda: purerl.PPOHparams, _PRESETS, ppo.ENTRY.space
)
