"""TD3: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_NETWORK = {"hidden": (64, 64)}
_PRESETS = {
    "Pendulum-v1": Preset(
        "td3", 20_000, 4, 1, {"actor_learning_rate": 1e-3, "tau": 0.01, "exploration_noise": 0.3}, network=_NETWORK,
        replay={"capacity": 20_000, "batch_size": 128, "min_size": 500},
    ),
    "MountainCarContinuous-v0": Preset(
        "td3", 40_000, 4, 1, {"actor_learning_rate": 1e-3, "exploration_noise": 0.8, "noise_theta": 0.02},
        {"exploration": "ou"}, _NETWORK, replay={"capacity": 40_000, "batch_size": 256, "min_size": 2_000},
    ),
    "continuous": Preset(
        "td3", 1_000_000, 1, 2, replay={"capacity": 1_000_000, "batch_size": 512, "min_size": 5_000}
    ),
}  # fmt: skip
_SPACE = {
    "actor_learning_rate": "log_uniform(1e-4, 3e-3)",
    "critic_learning_rate": "log_uniform(1e-4, 3e-3)",
    "tau": "log_uniform(1e-3, 5e-2)",
    "exploration_noise": "uniform(0.05, 0.5)",
    "target_noise": "uniform(0.0, 0.4)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    networks = purerl.networks
    actor, critic = networks.deterministic_actor(env, **preset.network), networks.critic(env, **preset.network)
    return purerl.td3(actor, critic, **preset.agent)


ENTRY = Algorithm("TD3, and DDPG as a setting of it", _build, lambda: purerl.TD3Hparams, _PRESETS, _SPACE, ("Box",))
