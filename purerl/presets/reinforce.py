"""REINFORCE: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_PRESETS = {
    "CartPole-v1": Preset(
        "reinforce", 800_000, 8, 500, {"learning_rate": 1e-2}, {"normalize_advantage": True},
        anneal=True, rollout="rollout_episodes",
    ),
    "continuous": Preset(
        "reinforce", 5_000_000, 32, 200, {"learning_rate": 1e-3}, {"normalize_advantage": True},
        combinators=("with_observation_normalization",), anneal=True, rollout="rollout_episodes",
    ),
    "any": Preset(
        "reinforce", 5_000_000, 16, 500, {"learning_rate": 1e-3, "entropy_coef": 0.01}, {"normalize_advantage": True},
        anneal=True, rollout="rollout_episodes",
    ),
}  # fmt: skip
_SPACE = {
    "learning_rate": "log_uniform(3e-4, 3e-2)",
    "entropy_coef": "log_uniform(1e-4, 3e-2)",
    "discount": "uniform(0.95, 1.0)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.reinforce(purerl.networks.actor_critic(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm("Monte Carlo policy gradient", _build, lambda: purerl.ReinforceHparams, _PRESETS, _SPACE)
