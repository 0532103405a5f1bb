"""Soft actor-critic: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_NETWORK = {"hidden": (64, 64)}
_PRESETS = {
    "Pendulum-v1": Preset(
        "sac", 20_000, 2, 1, {"actor_learning_rate": 1e-3, "temperature_learning_rate": 3e-3}, network=_NETWORK,
        replay={"capacity": 20_000, "batch_size": 64, "min_size": 500},
    ),
    "MountainCarContinuous-v0": Preset(
        "sac", 40_000, 4, 1, {"actor_learning_rate": 1e-3, "temperature": 0.1, "noise_theta": 0.02},
        {"exploration": "ou"}, _NETWORK, replay={"capacity": 40_000, "batch_size": 128, "min_size": 2_000},
    ),
    "continuous": Preset(
        "sac", 1_000_000, 1, 1, replay={"capacity": 1_000_000, "batch_size": 256, "min_size": 5_000}
    ),
}  # fmt: skip
_SPACE = {
    "actor_learning_rate": "log_uniform(1e-4, 3e-3)",
    "critic_learning_rate": "log_uniform(1e-4, 3e-3)",
    "temperature_learning_rate": "log_uniform(1e-4, 1e-2)",
    "tau": "log_uniform(1e-3, 5e-2)",
    "target_entropy": "uniform(-2.0, 0.0)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    networks = purerl.networks
    actor, critic = networks.gaussian_actor(env, **preset.network), networks.critic(env, **preset.network)
    return purerl.sac(actor, critic, **preset.agent)


ENTRY = Algorithm("soft actor-critic", _build, lambda: purerl.SACHparams, _PRESETS, _SPACE, ("Box",))
