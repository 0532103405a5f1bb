"""The part that presets of agents with an actor and critics of real actions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


_OF_CRITICS = ("num_quantiles", "dropout", "momentum", "warmup_steps")


def builder(
    agent: str, actor: str = "gaussian_actor", critic: str = "critic", **of_critic: Any
) -> Callable[[types.Env, Preset], types.Agent]:
    """A builder from the names of an agent's factory in `purerl` and of its networks in `purerl.networks`.

    Settings that only critics have do not reach the actor; `of_critic` are settings of critics by default.
    """

    def build(env: types.Env, preset: Preset) -> types.Agent:
        shared = {name: value for name, value in preset.network.items() if name not in _OF_CRITICS}
        networks = [getattr(purerl.networks, name)(env, **settings) for name, settings in (
            (actor, shared), (critic, of_critic | dict(preset.network)),
        )]  # fmt: skip
        return getattr(purerl, agent)(*networks, **preset.agent)

    return build
