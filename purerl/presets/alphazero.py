"""AlphaZero: settings by environment. It needs the optional extra `planning`."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_SEARCH = {"num_simulations": 16, "num_epochs": 4, "num_minibatches": 16}
_PRESETS = {
    "CartPole-v1": Preset(
        "alphazero", 150_000, 32, 16, {"learning_rate": 2e-3, "discount": 0.95, "trace_decay": 0.9}, _SEARCH,
        anneal=True,
    ),
    "any": Preset("alphazero", 100_000, 32, 16, {"learning_rate": 2e-3}, _SEARCH, anneal=True),
}  # fmt: skip
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "trace_decay": "uniform(0.8, 1.0)",
    "value_coef": "uniform(0.1, 1.0)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.alphazero(purerl.networks.actor_critic(env, **preset.network), env, **preset.agent)


ENTRY: Algorithm = Algorithm(
    "search through the environment itself, guided by a network",
    _build,
    lambda: purerl.AlphaZeroHparams,
    _PRESETS,
    _SPACE,
    ("Discrete",),
    lambda env: purerl.envs.with_state(env),
)
