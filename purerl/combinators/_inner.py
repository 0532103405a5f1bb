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


def check_agent(agent: Agent, name: str) -> None:
    """Reject what a combinator of this name cannot wrap, such as a network or a factory that was not called.

    Raises:
      TypeError: says what was given.

    Examples:
      >>> check_agent(3, "with_replay")
      Traceback (most recent call last):
      ...
      TypeError: with_replay wraps a purerl.Agent, such as purerl.ppo returns; got a value of type int
    """
    if not isinstance(agent, Agent):
        wanted = f"{name} wraps a purerl.Agent, such as purerl.ppo returns"
        raise TypeError(f"{wanted}; got a value of type {type(agent).__name__}")


def why_not_joint(agent: Agent, name: str) -> str:
    """Why a combinator of this name must be inside one for several agents; empty for a single agent.

    What each of several agents is paid is an entry of their observations, which must neither be normalised nor cut into
    frames, and which scaling the reward of the environment does not reach.
    """
    if not agent.requires.joint:
        return ""
    return (
        f"{name} must not be around with_shared_policy or with_separate_policies, which find what each agent is paid "
        f"in the observations; the right order is with_shared_policy({name}(agent), num_agents)"
    )


def refused(message: str) -> Agent:
    """The agent that an unsound composition gives: its first use raises a `ValueError` with the message.

    The composition itself only warns, so that code which builds agents for several runs goes on to the sound ones;
    `train`, `fit` and `evaluate` raise the error before anything is compiled.
    """
    warnings.warn(f"{message} (an error as soon as this agent is used)", stacklevel=4)

    def refuse(*arguments: Any) -> NoReturn:
        raise ValueError(message)

    return Agent(refuse, refuse, refuse)
