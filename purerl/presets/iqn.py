"""IQN, DQN with implicit quantiles: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets import dqn
from purerl.presets.entries import Algorithm, Preset

_HEAD = {"head": "implicit", "huber": True, "double": False}


def _of_iqn(preset: Preset) -> Preset:
    return preset._replace(algorithm="iqn", agent=_HEAD)


_PRESETS = {name: _of_iqn(preset) for name, preset in dqn.ENTRY.presets.items()}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.dqn(purerl.networks.implicit_quantile_network(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "implicit quantile network", _build, lambda: purerl.DQNHparams, _PRESETS, dqn.ENTRY.space, ("Discrete",)
)
