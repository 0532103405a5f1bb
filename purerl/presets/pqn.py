"""PQN: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_PRESETS = {
    "CartPole-v1": Preset(
        "pqn", 500_000, 32, 64, {"learning_rate": 1e-3, "trace_decay": 0.95},
        {"num_epochs": 4, "num_minibatches": 16}, anneal=True,
    ),
    "image": Preset(
        "pqn", 5_000_000, 128, 32, {"learning_rate": 1.5e-3, "epsilon": 0.01},
        {"num_epochs": 2, "num_minibatches": 32}, {"hidden": (128, 64), "convolution": False}, anneal=True,
    ),
    "any": Preset(
        "pqn", 500_000, 32, 64, {"learning_rate": 1e-3, "trace_decay": 0.95},
        {"num_epochs": 4, "num_minibatches": 16}, anneal=True,
    ),
}  # fmt: skip
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "trace_decay": "uniform(0.5, 1.0)",
    "epsilon": "uniform(0.01, 0.2)",
    "epsilon_anneal_updates": "log_uniform(30, 300)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    network = purerl.networks.q_network(env, layer_norm=True, **preset.network)
    return purerl.pqn(network, **preset.agent)


ENTRY: Algorithm = Algorithm(
    "Q-learning on rollouts, no replay", _build, lambda: purerl.PQNHparams, _PRESETS, _SPACE, ("Discrete",)
)
