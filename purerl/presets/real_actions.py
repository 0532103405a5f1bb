"""The part that presets of agents with an actor and critics of real actions share."""

from __future__ import annotations

from collections.abc import Callable

import purerl
from purerl import types
from purerl.presets.entries import Preset

SMALL = {"hidden": (64, 64)}
SPACE = {
    "actor_learning_rate": "log_uniform(1e-4, 3e-3)",
    "critic_learning_rate": "log_uniform(1e-4, 3e-3)",
    "tau": "log_uniform(1e-3, 5e-2)",
}


def replay(capacity: int, batch_size: int, min_size: int) -> dict[str, int]:
    """Keywords of `with_replay`."""
    return {"capacity": capacity, "batch_size": batch_size, "min_size": min_size}


def builder(agent: str, actor: str) -> Callable[[types.Env, Preset], types.Agent]:
    """A builder from the names of an agent's factory in `purerl` and of its actor in `purerl.networks`."""

    def build(env: types.Env, preset: Preset) -> types.Agent:
        networks = [getattr(purerl.networks, name)(env, **preset.network) for name in (actor, "critic")]
        return getattr(purerl, agent)(*networks, **preset.agent)

    return build
