"""Calls of an agent's functions by the loops, which say what a function of one's own takes or returns wrongly.

All of it happens while the functions are traced, so it costs nothing when they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args, get_type_hints

import jax

from purerl import hparams as ranges
from purerl.envs.checking import check_arguments, described
from purerl.types import Agent, Env, Hparams, Key, Metrics, PyTree, Requirements, State


def check_agent(agent: Agent) -> None:
    """Reject what is not an agent, or one whose requirements are not known.

    Raises:
      TypeError: `agent` is not an `Agent`, or its `requires` not a `Requirements`.
      ValueError: `requires.data` is unknown.

    Examples:
      >>> check_agent(Agent(init=print, act=print, update=print, requires=Requirements(data="windows")))
      Traceback (most recent call last):
      ...
      ValueError: Agent.requires.data must be one of rows, trajectory, stream, episodes, whole; got 'windows'
    """
    if not isinstance(agent, Agent):
        hint = ": the agent comes before the environment" if isinstance(agent, Env) else ", such as purerl.ppo returns"
        raise TypeError(f"agent must be a purerl.Agent, got {described(agent)}{hint}")
    requires, known = agent.requires, get_args(get_type_hints(Requirements)["data"])
    if not isinstance(requires, Requirements):
        wanted = f"a purerl.types.Requirements, such as Requirements(data={known[1]!r})"
        raise TypeError(f"Agent.requires must be {wanted}; got {requires!r}")
    if requires.data not in known:
        raise ValueError(f"Agent.requires.data must be one of {', '.join(known)}; got {requires.data!r}")


def check_learns_from_rollouts(agent: Agent) -> None:
    """Reject an agent for `fit`.

    Raises:
      ValueError: its data are fixed, and taken as a whole.

    Examples:
      >>> check_learns_from_rollouts(Agent(print, print, print, requires=Requirements("whole")))
      Traceback (most recent call last):
      ...
      ValueError: this agent learns from fixed data as a whole, such as an MDP or minibatches: use purerl.fit
    """
    if agent.requires.data == "whole":
        raise ValueError("this agent learns from fixed data as a whole, such as an MDP or minibatches: use purerl.fit")


def check_hparams(agent: Agent, hparams: Hparams) -> None:
    """Reject hyperparameters that are out of range, or that the agent cannot use.

    Raises:
      TypeError, ValueError: as `purerl.hparams.check_hparams` and `Agent.check` raise them.
    """
    ranges.check_hparams(hparams)
    if agent.check is not None and not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(hparams)):
        with ranges.naming_what_is_missing(hparams):
            agent.check(hparams)


def init(agent: Agent, key: Key, hparams: Hparams, example: PyTree, *num_envs: int) -> State:
    """`agent.init`.

    Raises:
      TypeError: it does not take these arguments.
    """
    arguments = (key, hparams, example, *num_envs)
    check_arguments("Agent.init", agent.init, arguments, "(key, hparams, example, num_envs=1)")
    return agent.init(*arguments)


def act(agent: Agent, key: Key | None, state: State, obs: PyTree, memory: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """`agent.act` as (action, aux, memory); the memory stays as it is for an agent without memory.

    Raises:
      TypeError: it does not take these arguments, does not return a tuple of two (with memory three), or draws random
        numbers without a key.
    """
    carried = (memory,) if agent.memory else ()
    arguments = (key, state, obs, *carried)
    check_arguments("Agent.act", agent.act, arguments, "(key, state, obs, memory)" if carried else "(key, state, obs)")
    try:
        result = agent.act(*arguments)
    except TypeError as error:
        if key is None and "key" in str(error) and "NoneType" in str(error):
            raise TypeError(
                "Agent.act draws random numbers with key=None, for which it must return the greedy action, such as "
                f"distribution.mode(): {error}"
            ) from error
        raise
    if not isinstance(result, tuple) or len(result) != 2 + len(carried):
        wanted = "(action, aux, memory), because Agent.memory is not None" if carried else "(action, aux)"
        raise TypeError(f"Agent.act must return {wanted}; got {described(result)}")
    return result if carried else (*result, memory)


def update(agent: Agent, key: Key, state: State, data: PyTree) -> tuple[State, Metrics]:
    """`agent.update`.

    Raises:
      TypeError: it does not take these arguments, does not return (state, metrics), or the metrics are not a dict.
    """
    check_arguments("Agent.update", agent.update, (key, state, data), "(key, state, data)")
    result = agent.update(key, state, data)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"Agent.update must return (state, metrics); got {described(result)}")
    state, metrics = result
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"Agent.update must return (state, metrics), with metrics a dict of scalars by name; "
            f"the metrics are {described(metrics)}"
        )
    return state, dict(metrics)
