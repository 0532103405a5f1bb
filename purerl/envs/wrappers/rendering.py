"""Pictures of environments inside wrappers, and environments that write pages beside pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from purerl.types import Env, PyTree, RenderFn


class Drawing(NamedTuple):
    """`Env.render` of an environment whose library also shows an episode as a page for a browser.

    Attributes:
      draw: `env_state -> image`, as in `RenderFn`.
      page: from the states of an episode, leaves [L + 1, ...], to a page of HTML.
    """

    draw: RenderFn
    page: Callable[[PyTree], str]

    def __call__(self, env_state: PyTree, /) -> PyTree:
        """The image of one state."""
        return self.draw(env_state)


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

    if isinstance(draw, Drawing):
        page = draw.page
        return Drawing(render, lambda env_states: page(env_states.env_state))
    return render
