"""Actor-critic (A2C): settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_PRESETS = {
    "CartPole-v1": Preset(
        "actor_critic", 500_000, 16, 8, {"learning_rate": 2e-3, "discount": 0.98, "gae_lambda": 0.8}, anneal=True
    ),
    "Acrobot-v1": Preset("actor_critic", 300_000, 16, 16, {"learning_rate": 2e-3}, anneal=True),
    "image": Preset(
        "actor_critic", 5_000_000, 64, 16, {"learning_rate": 1e-3}, network={"activation": "relu"}, anneal=True
    ),
    "continuous": Preset(
        "actor_critic", 1_000_000, 16, 16, {"learning_rate": 7e-4, "entropy_coef": 0.0},
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    "any": Preset("actor_critic", 500_000, 16, 16, {"learning_rate": 1e-3}, anneal=True),
}  # fmt: skip
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "gae_lambda": "uniform(0.8, 1.0)",
    "entropy_coef": "log_uniform(1e-4, 3e-2)",
    "value_coef": "uniform(0.25, 1.0)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.actor_critic(purerl.networks.actor_critic(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "advantage actor-critic: A2C, one-step, V-trace", _build, lambda: purerl.ActorCriticHparams, _PRESETS, _SPACE
)
