"""What one agent of several sees and does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from purerl.envs.adapters.spaces import compact_bound
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, check_spaces
from purerl.types import HasSpaces


class OneAgent(NamedTuple):
    """The spaces of one agent, for the factories of networks and agents."""

    observation_space: Space
    action_space: Space
    num_agents: int


def one_agent(env: HasSpaces) -> OneAgent:
    """The spaces of one of the A agents of an environment such as those of `from_jaxmarl`, and A.

    Raises:
      TypeError: the environment is not one of several agents, or their numbers of actions differ.

    Examples:
      >>> from purerl.types import Env
      >>> both = Env(None, None, Dict({"agents": Box(-1.0, 1.0, (2, 3))}), MultiDiscrete((5, 5)))
      >>> one_agent(both).observation_space.shape, one_agent(both).action_space.n, one_agent(both).num_agents
      ((3,), 5, 2)
    """
    check_spaces(env)
    space, actions = env.observation_space, env.action_space
    if not isinstance(space, Dict) or "agents" not in space:
        raise TypeError(f'observations must have the entry "agents", as those of envs.from_jaxmarl; got {space}')
    agents = _row(space["agents"])
    seen: Space = Dict({"obs": agents, "action_mask": _row(space["action_mask"])}) if "action_mask" in space else agents
    if isinstance(actions, MultiDiscrete):
        if len(set(actions.num_values)) > 1:
            raise TypeError(f"all agents must have the same number of actions, got {actions.num_values}")
        return OneAgent(seen, Discrete(actions.num_values[0]), len(actions.num_values))
    return OneAgent(seen, _row(actions), actions.shape[0])  # type: ignore[union-attr]


def _row(space: Space) -> Box:
    assert isinstance(space, Box)
    low, high = (np.array(bound[0]) for bound in space.bounds())
    return Box(compact_bound(low), compact_bound(high), low.shape, space.dtype)
