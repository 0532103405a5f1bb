"""`deploy`: a trained agent as a function of observations, for use outside the loops."""

from __future__ import annotations

from typing import Protocol

import jax

from purerl.loops import checking
from purerl.spaces import check_spaces, clip_action
from purerl.types import Agent, HasSpaces, Key, PyTree, State


class Policy(Protocol):
    """An agent in use: it chooses an action for one observation.

    It is separate from `Agent.act` because the loops hand actions to environments that clip them, and a robot does not.
    """

    def __call__(self, obs: PyTree, memory: PyTree = None, *, key: Key | None = None) -> PyTree:
        """The action; for an agent with memory `(action, memory)`."""


def deploy(agent: Agent, env: HasSpaces, state: State) -> Policy:
    """A trained agent as `policy(obs) -> action`, whose actions never leave the bounds of the action space.

    `agent.act` returns what the agent learned from, which for a Gaussian policy may lie outside the bounds; the
    environments of `purerl.envs` clip it. The function returned here clips it itself. It is compiled once.

    Args:
      agent: the agent.
      env: the environment that it was trained on, read for its action space only.
      state: its trained state.

    Returns:
      `policy(obs, memory=None, *, key=None)`. Without a key the action is the greedy one, with a key it is sampled. An
      agent with memory returns `(action, memory)`; pass that memory at the next step, and None at the start of an
      episode.

    Raises:
      TypeError: `env` has no spaces.

    Examples:
      >>> import jax.numpy as jnp
      >>> from purerl import envs
      >>> from purerl.types import Agent
      >>> far = Agent(lambda *_: (), lambda key, state, obs: (18 * obs, ()), lambda key, state, data: (state, {}))
      >>> policy = deploy(far, envs.probe(continuous=True), state=())
      >>> policy(jnp.array([1.0])).tolist()
      [1.0]
    """
    check_spaces(env)

    @jax.jit
    def act(state: State, obs: PyTree, memory: PyTree, key: Key | None) -> PyTree:
        if agent.memory is not None and memory is None:
            memory = agent.memory(None if key is None else jax.random.fold_in(key, 1), state)
        action, _, memory = checking.act(agent, key, state, obs, memory)
        action = clip_action(action, env.action_space)
        return action if agent.memory is None else (action, memory)

    def policy(obs: PyTree, memory: PyTree = None, *, key: Key | None = None) -> PyTree:
        return act(state, obs, memory, key)

    return policy
