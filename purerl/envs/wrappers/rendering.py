"""Pictures of environments inside wrappers."""

from __future__ import annotations

from purerl.types import Env, PyTree, RenderFn


def inner_render(env: Env) -> RenderFn | None:
    """`render` for a wrapper whose state keeps that of the environment in a field `env_state`.

    Examples:
      >>> from purerl import envs
      >>> inner_render(envs.endless()) is None
      True
    """
    draw = env.render
    if draw is None:
        return None

    def render(env_state: PyTree) -> PyTree:
        return draw(env_state.env_state)

    return render
