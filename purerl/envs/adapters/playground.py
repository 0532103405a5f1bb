"""MuJoCo Playground: DeepMind's control suite, walking and manipulating robots on MJX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from purerl.envs.adapters.brax import from_brax
from purerl.envs.families import Family, check_member
from purerl.envs.wrappers import action_repeat, time_limit
from purerl.types import Env


def _make(name: str, *, max_steps: int | None = None, impl: str = "jax", **settings: Any) -> Env:
    """The environment under the limit and the repeated actions of its own configuration.

    `impl="jax"` is the physics that runs everywhere; the library's default, "warp", needs a GPU. Environments of robots
    download their meshes at first use.
    """
    from mujoco_playground import registry

    check_member("playground", name, registry.ALL_ENVS)
    config = registry.get_default_config(name)
    config.update(impl=impl, **settings)
    env = from_brax(registry.load(name, config=config))
    repeated = action_repeat(env, config.action_repeat) if config.action_repeat > 1 else env
    return time_limit(repeated, max_steps or config.episode_length // config.action_repeat)


def _names() -> Sequence[str]:
    from mujoco_playground import registry

    return registry.ALL_ENVS


FAMILY = Family(_make, _names, "mujoco_playground", "playground", "robots and control on MJX", "CartpoleBalance")
