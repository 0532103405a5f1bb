"""Conservative Q-learning: settings by environment. It learns from a dataset."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_PRESETS = {"any": Preset("cql", 1_000_000, 1, 256, {"learning_rate": 1e-3}, anneal=True)}
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "conservative_coef": "log_uniform(1e-2, 1e1)",
    "tau": "log_uniform(1e-3, 1e-1)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.cql(purerl.networks.q_network(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "conservative Q-learning, from recorded steps",
    _build,
    lambda: purerl.CQLHparams,
    _PRESETS,
    _SPACE,
    ("Discrete",),
    offline=True,
)
