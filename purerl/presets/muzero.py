"""MuZero: settings by environment. It needs the optional extra `planning`."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_PRESETS = {
    "any": Preset(
        "muzero", 200_000, 32, 32, {"learning_rate": 2e-3, "value_coef": 0.1, "max_grad_norm": 10.0},
        {"num_simulations": 16, "unroll_length": 5, "num_epochs": 4, "num_minibatches": 32}, anneal=True,
    ),
}  # fmt: skip
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "trace_decay": "uniform(0.8, 1.0)",
    "value_coef": "uniform(0.1, 1.0)",
    "reward_coef": "uniform(0.3, 3.0)",
    "exploration": "uniform(0.0, 0.6)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.muzero(purerl.networks.latent_model(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "search through a learned model", _build, lambda: purerl.MuZeroHparams, _PRESETS, _SPACE, ("Discrete",)
)
