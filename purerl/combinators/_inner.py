"""The functions that a combinator passes on to the agent that it wraps, whose state is its state's field `agent`."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

from purerl.types import ActFn, Agent, CutFn, Key, MemoryFn, PyTree, State


def act(agent: Agent) -> ActFn:
    """The wrapped agent's `act`."""

    def act(key: Key | None, state: State, obs: PyTree, *memory: Any) -> Any:
        return agent.act(key, state.agent, obs, *memory)

    return act


def memory(agent: Agent) -> MemoryFn | None:
    """The wrapped agent's `memory`, None if it has none."""
    begin = agent.memory
    return None if begin is None else lambda key, state: begin(key, state.agent)


def cut(agent: Agent) -> CutFn | None:
    """The wrapped agent's `cut`, None if it has none."""
    inner = agent.cut
    return None if inner is None else lambda state: state._replace(agent=inner(state.agent))


def refused(message: str) -> Agent:
    """The agent that an unsound composition gives: its first use raises a `ValueError` with the message.

    The composition itself only warns, so that code which builds agents for several runs goes on to the sound ones;
    `train`, `fit` and `evaluate` raise the error before anything is compiled.
    """
    warnings.warn(f"{message} (an error as soon as this agent is used)", stacklevel=4)

    def refuse(*arguments: Any) -> NoReturn:
        raise ValueError(message)

    return Agent(refuse, refuse, refuse)
