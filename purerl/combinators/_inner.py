"""What a combinator passes on unchanged to the agent that it wraps, whose state is its own state's field `agent`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from purerl.types import Agent


def act(agent: Agent) -> Callable[..., Any]:
    """The wrapped agent's `act`."""

    def act(key: jax.Array | None, state: Any, obs: Any, *memory: Any) -> Any:
        return agent.act(key, state.agent, obs, *memory)

    return act


def memory(agent: Agent) -> Callable[..., Any] | None:
    """The wrapped agent's `memory`, None where it has none."""
    begin = agent.memory
    return None if begin is None else lambda key, state: begin(key, state.agent)
