"""Behaviour cloning: settings by environment. It learns from a dataset."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_PRESETS = {"any": Preset("behavior_cloning", 500_000, 1, 256, {"learning_rate": 3e-3}, anneal=True)}
_SPACE = {"learning_rate": "log_uniform(3e-4, 3e-2)", "entropy_coef": "log_uniform(1e-5, 1e-1)"}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.behavior_cloning(purerl.networks.actor_critic(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "behaviour cloning, from recorded steps", _build, lambda: purerl.CloningHparams, _PRESETS, _SPACE, offline=True
)
