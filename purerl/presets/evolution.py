"""Evolution strategies: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_PRESETS = {
    "CartPole-v1": Preset(
        "evolution", 1_600_000, 64, 500, {"learning_rate": 3e-2, "noise_std": 0.1}, network={"hidden": (16,)},
        rollout="rollout_episodes",
    ),
    "any": Preset(
        "evolution", 6_400_000, 64, 500, {"learning_rate": 3e-2, "noise_std": 0.1}, network={"hidden": (32,)},
        combinators=("with_observation_normalization",), rollout="rollout_episodes",
    ),
}  # fmt: skip
_SPACE = {"learning_rate": "log_uniform(3e-3, 1e-1)", "noise_std": "log_uniform(0.02, 0.5)"}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.evolution(purerl.networks.actor_critic(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "evolution strategies (OpenAI-ES)", _build, lambda: purerl.EvolutionHparams, _PRESETS, _SPACE
)
