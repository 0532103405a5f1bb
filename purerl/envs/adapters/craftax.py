"""Craftax: Crafter and NetHack in JAX."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from purerl.envs.adapters.gymnax import from_gymnax
from purerl.envs.families import Family, check_member
from purerl.types import Env, PyTree, RenderFn

_NAMES = ("Craftax-Classic-Symbolic-v1", "Craftax-Classic-Pixels-v1", "Craftax-Symbolic-v1", "Craftax-Pixels-v1")
_ENDLESS = 2**30


def _make(name: str, **settings: Any) -> Env:
    """The environment without its resets; settings are fields of its `EnvParams`.

    Craftax reports one end for a death and for `max_timesteps`. Here a death terminates, also at the limit:

        truncated = time ≥ max_timesteps ∧ ¬ (terminal if there were no limit)
    """
    from craftax.craftax_env import make_craftax_env_from_name

    check_member("craftax", name, _NAMES)
    env = make_craftax_env_from_name(name, auto_reset=False)

    def is_truncated(state: PyTree, params: PyTree) -> jax.Array:
        dead = env.is_terminal(state, dataclasses.replace(params, max_timesteps=_ENDLESS))
        return (state.timestep >= params.max_timesteps) & ~dead

    params = dataclasses.replace(env.default_params, **settings)
    made = from_gymnax(env, params, is_truncated=is_truncated)
    return made._replace(max_steps=int(params.max_timesteps), render=_renderer("Classic" in name))


def _renderer(classic: bool) -> RenderFn:
    """A function that draws what the agent sees, 16 pixels a block. The textures are loaded at the first picture."""

    @functools.cache
    def compiled() -> Any:
        part = importlib.import_module(f"craftax.{'craftax_classic' if classic else 'craftax'}.renderer")
        return jax.jit(part.make_craftax_pixel_renderer(16))

    return lambda env_state: np.asarray(compiled()(env_state)).clip(0, 255).astype(np.uint8)


def _names() -> Sequence[str]:
    return _NAMES


FAMILY = Family(_make, _names, "craftax", "craftax", "Crafter and NetHack", "Craftax-Classic-Symbolic-v1")
