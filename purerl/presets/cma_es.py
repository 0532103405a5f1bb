"""CMA-ES: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_SMALL = {"hidden": (8,), "shared_torso": True}
_PRESETS = {
    "any": Preset(
        "cma_es", 1_600_000, 32, 500, network=_SMALL, combinators=("with_observation_normalization",),
        rollout="rollout_episodes",
    ),
    "CartPole-v1": Preset(
        "cma_es", 800_000, 32, 500, network={"hidden": (), "shared_torso": True}, rollout="rollout_episodes"
    ),
}  # fmt: skip
_SPACE = {"noise_std": "log_uniform(0.05, 2)"}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.cma_es(purerl.networks.actor_critic(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm("CMA-ES, an evolution strategy", _build, lambda: purerl.CMAESHparams, _PRESETS, _SPACE)
