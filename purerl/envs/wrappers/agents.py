"""What one agent of several sees and does, and what a critic may see of all."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from purerl.envs.adapters.gymnasium import HostEnv, HostStep
from purerl.envs.adapters.spaces import compact_bound
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, check_spaces
from purerl.types import Env, EnvStep, HasSpaces, Key, PyTree


class OneAgent(NamedTuple):
    """The spaces of one agent, for the factories of networks and agents."""

    observation_space: Space
    action_space: Space
    num_agents: int


def one_agent(env: HasSpaces) -> OneAgent:
    """The spaces of one of the A agents of an environment such as those of `from_jaxmarl`, and A.

    Raises:
      TypeError: the environment is not one of several agents, what they observe is not made of boxes, or their numbers
        of actions differ.

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
    seen = _row(space["agents"])
    if "action_mask" in space:
        parts = dict(seen.spaces) if isinstance(seen, Dict) else {"obs": seen}
        seen = Dict(parts | {"action_mask": _row(space["action_mask"])})
    if isinstance(actions, MultiDiscrete):
        if len(set(actions.num_values)) > 1:
            raise TypeError(f"all agents must have the same number of actions, got {actions.num_values}")
        return OneAgent(seen, Discrete(actions.num_values[0]), len(actions.num_values))
    return OneAgent(seen, _row(actions), actions.shape[0])  # type: ignore[union-attr]


AnyEnv = TypeVar("AnyEnv", Env, HostEnv)


def central_critic(env: AnyEnv) -> AnyEnv:
    """Show the critic of every agent what all agents see; the actor sees its own part alone.

        obs["agents"] = {"actor": [A, D], "critic": [A, D + A · D]},   critic[i] = (own[i], own[0], ..., own[A - 1])

    Images [A, H, W, C] are stacked as channels, [A, H, W, C + A · C], and of a dict each part is. With
    `with_shared_policy` and PPO this is MAPPO: `networks.actor_critic` gives actor and critic their own parts. Only
    learning needs the critic's, so the trained policies act apart.

    Args:
      env: such as those of `from_jaxmarl` and `from_pettingzoo`, with `obs["agents"]` [A, ...], an array or a dict.

    Raises:
      TypeError: the environment is not one of several agents, or what they observe is not made of boxes.

    Source: Yu et al. 2022, "The surprising effectiveness of PPO in cooperative multi-agent games", arXiv:2103.01955,
    section 3; the concatenation of all observations is its "CL", here with the agent's own in front.
    """
    space = env.observation_space
    if not isinstance(space, Dict) or "agents" not in space:
        raise TypeError(f'observations must have the entry "agents", as those of envs.from_jaxmarl; got {space}')
    own = space["agents"]
    parts = Dict(dict(space.spaces) | {"agents": Dict({"actor": own, "critic": _space_of_all(own)})})
    if isinstance(env, HostEnv):
        return _on_host(env, own)._replace(observation_space=parts)
    return _in_jax(env, own)._replace(observation_space=parts)


def _space_of_all(own: Space) -> Space:
    """The observation space of the critic, given that of the A agents."""
    if isinstance(own, Dict):
        return Dict({name: _space_of_all(part) for name, part in own.spaces})
    if not isinstance(own, Box) or not own.shape:
        raise TypeError(f"a central critic needs observations of a Box [A, ...], or a dict of such; got {own}")
    low, high = (_with_all(bound, own) for bound in own.bounds())
    return Box(compact_bound(low), compact_bound(high), low.shape, own.dtype)


def _in_jax(env: Env, own: Space) -> Env:
    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        obs, env_state = env.reset(key, env_params)
        return _seen(obs, own), env_state

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        new = env.step(key, env_state, action, env_params)
        return new._replace(obs=_seen(new.obs, own))

    return env._replace(reset=reset, step=step)


def _on_host(env: HostEnv, own: Space) -> HostEnv:
    def step(action: PyTree) -> HostStep:
        new = env.step(action)
        return new._replace(obs=_seen(new.obs, own), next_obs=_seen(new.next_obs, own))

    return env._replace(reset=lambda seed: _seen(env.reset(seed), own), step=step)


def _seen(obs: PyTree, own: Space) -> PyTree:
    return obs | {"agents": {"actor": obs["agents"], "critic": _with_all(obs["agents"], own)}}


def _with_all(seen: Any, own: Space) -> Any:
    """Every agent's own part and then those of all, along the last axis; of NumPy or JAX.

    Args:
      seen: [..., A, D], [..., A, H, W, C] or the like, or a dict of such; [..., A] counts as [..., A, 1].
      own: its space, without the axes in front.
    """
    if isinstance(own, Dict):
        return {name: _with_all(seen[name], part) for name, part in own.spaces}
    assert isinstance(own, Box)
    xp, rank = seen.__array_namespace__(), len(own.shape)
    seen = seen if rank > 1 else seen[..., None]
    agents = -max(rank, 2)  # the axis
    everyone = xp.moveaxis(seen, agents, -2)  # [..., H, W, A, C]
    everyone = everyone.reshape(*everyone.shape[:-2], -1)  # [..., H, W, A · C]
    everyone = xp.broadcast_to(xp.expand_dims(everyone, agents), (*seen.shape[:-1], everyone.shape[-1]))
    return xp.concatenate([seen, everyone], axis=-1)  # [..., A, H, W, C + A · C]


def _row(space: Space) -> Space:
    if isinstance(space, Dict):
        return Dict({name: _row(part) for name, part in space.spaces})
    if not isinstance(space, Box) or not space.shape:
        raise TypeError(f"what several agents see and do must be of a Box [A, ...], or a dict of such; got {space}")
    low, high = (np.array(bound[0]) for bound in space.bounds())
    return Box(compact_bound(low), compact_bound(high), low.shape, space.dtype)
