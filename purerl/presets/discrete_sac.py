"""Soft actor-critic for discrete actions: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset
from purerl.presets.real_actions import SMALL, replay

_RATES = {"actor_learning_rate": 1e-3, "temperature_learning_rate": 1e-3, "tau": 0.01}
_IMAGE = {"hidden": (128, 64), "convolution": False}
_PRESETS = {
    "CartPole-v1": Preset(
        "discrete_sac",
        200_000,
        8,
        1,
        _RATES | {"temperature": 0.5, "tau": 0.02, "target_entropy": 0.1},
        network=SMALL,
        replay=replay(50_000, 128, 1_000) | {"length": 3},
    ),
    "image": Preset("discrete_sac", 1_000_000, 16, 1, network=_IMAGE, replay=replay(100_000, 64, 5_000)),
    "any": Preset("discrete_sac", 200_000, 8, 1, _RATES, network=SMALL, replay=replay(100_000, 128, 2_000)),
}
_SPACE = {
    "actor_learning_rate": "log_uniform(1e-4, 3e-3)",
    "critic_learning_rate": "log_uniform(1e-4, 3e-3)",
    "temperature_learning_rate": "log_uniform(1e-4, 1e-2)",
    "target_entropy": "uniform(0.05, 0.9)",
    "tau": "log_uniform(1e-3, 5e-2)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    actor, critic = (make(env, **preset.network) for make in (purerl.networks.actor_critic, purerl.networks.q_network))
    return purerl.discrete_sac(actor, critic, **preset.agent)


ENTRY: Algorithm = Algorithm(
    "soft actor-critic, discrete", _build, lambda: purerl.DiscreteSACHparams, _PRESETS, _SPACE, ("Discrete",)
)
