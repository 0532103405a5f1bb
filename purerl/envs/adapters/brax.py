"""Brax: rigid bodies under forces, as in MuJoCo's tasks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs import drawings
from purerl.envs.adapters.spaces import observed_space
from purerl.envs.families import Family, check_member
from purerl.envs.wrappers import time_limit
from purerl.envs.wrappers.rendering import Drawing
from purerl.spaces import Box
from purerl.types import Env, EnvStep, Key, PyTree, RenderFn

Environment: TypeAlias = Any
"""A `brax.envs.Env`, or anything with its `reset(key) -> State` and `step(State, action) -> State`."""


def from_brax(env: Environment) -> Env:
    """Wrap an environment with the interface of brax, such as one of MuJoCo Playground.

        terminated = `State.done`,   truncated = false,   info = the scalars of `State.metrics`

    Actions are clipped to [−1, 1]. The environment must be bare: brax's `EpisodeWrapper` and `AutoResetWrapper` hide
    the true successor. Its limit of steps is a wrapper too; `envs.time_limit(env, 1000)` takes its place.

    Args:
      env: a `brax.envs.Env` or a `mujoco_playground.MjxEnv`.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.
    """
    observed = jax.eval_shape(lambda key: env.reset(key).obs, jax.eval_shape(lambda: jax.random.key(0)))

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return state.obs, state

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        state = env.step(env_state, jnp.clip(action, -1.0, 1.0))
        done = jnp.asarray(state.done, bool)
        info = {name: value for name, value in state.metrics.items() if jnp.ndim(value) == 0}
        return EnvStep(state.obs, state, jnp.asarray(state.reward, jnp.float32), done, jnp.zeros_like(done), info or ())

    actions = Box(-1.0, 1.0, (int(env.action_size),))
    return Env(reset, step, observed_space(observed), actions, _renderer(env))


def _renderer(env: Environment) -> RenderFn | None:
    """A function that draws the solid bodies: of brax from the poses of its links, of Playground from those of MJX."""
    model = getattr(env, "mj_model", None) or getattr(getattr(env, "sys", None), "mj_model", None)
    if model is None:
        return None
    kinds, sizes = np.asarray(model.geom_type), np.asarray(model.geom_size)
    reach = min(1.6, 0.6 * float(model.stat.extent))

    def render(env_state: PyTree) -> np.ndarray:
        if hasattr(env_state, "data"):
            data = env_state.data
            places, turns = np.asarray(data.geom_xpos), np.asarray(data.geom_xmat).reshape(-1, 3, 3)
        else:
            places, turns = _poses(model, env_state.pipeline_state.x)
        moving = places[np.asarray(model.geom_bodyid) > 0]
        center = np.array([*moving[0, :2], moving[:, 2].mean()])
        return drawings.bodies(drawings.Geoms(kinds, sizes, places, turns), center, reach)

    return Drawing(render, functools.partial(_page, env)) if hasattr(env, "sys") else render


def _page(env: Environment, env_states: PyTree) -> str:
    """The states [L + 1] of an episode in brax's own viewer, whose script a browser fetches from the net."""
    from brax.io import html

    poses = env_states.pipeline_state
    each = [jax.tree.map(lambda leaf: leaf[t], poses) for t in range(len(poses.x.pos))]  # noqa: B023
    return str(html.render(env.sys.tree_replace({"opt.timestep": env.dt}), each))


def _poses(model: Any, links: Any) -> tuple[np.ndarray, np.ndarray]:
    """Centres [G, 3] and rotations [G, 3, 3] of geoms in the world; link i of brax is body i + 1 of MuJoCo."""
    body = np.asarray(model.geom_bodyid)
    origin = np.concatenate([np.zeros((1, 3)), np.asarray(links.pos)])[body]  # [G, 3]
    turn = drawings.rotation(np.concatenate([[[1.0, 0, 0, 0]], np.asarray(links.rot)]))[body]  # [G, 3, 3]
    places = origin + np.einsum("gij,gj->gi", turn, np.asarray(model.geom_pos))
    return places, turn @ drawings.rotation(np.asarray(model.geom_quat))


def _make(name: str, *, max_steps: int = 1000, **settings: Any) -> Env:
    from brax import envs

    check_member("brax", name, _names())
    return time_limit(from_brax(envs.get_environment(name, **settings)), max_steps)


def _names() -> Sequence[str]:
    from brax import envs

    return sorted(envs._envs)


FAMILY = Family(_make, _names, "brax", "brax", "rigid bodies", "ant")
