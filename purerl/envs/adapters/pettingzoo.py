"""PettingZoo: several agents on the host, by its parallel API."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from purerl.envs.adapters.gymnasium import HostEnv
from purerl.envs.adapters.side_by_side import Single, side_by_side
from purerl.envs.adapters.spaces import converted, from_purerl, repeated
from purerl.envs.families import Family, check_member
from purerl.envs.wrappers import agents
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from purerl.types import PyTree

Environment: TypeAlias = Any
"""A `pettingzoo.ParallelEnv`."""

_KINDS = ("atari", "butterfly", "sisl", "classic")


def from_pettingzoo(envs: Sequence[Environment], max_steps: int | None = None) -> HostEnv:
    """Wrap parallel environments of PettingZoo, N copies of one: one observation holds what all A agents see.

        obs = {"agents": [A, ...]},   action: [A] or [A, K],   reward = mean over agents of their rewards

    Every agent's observation and action must have the same shape. An observation also has "rewards" [A] and "alive"
    [A], as those of `from_jaxmarl`. An episode ends when no agent is left, and terminates unless the last were
    truncated. What an agent that has left would observe is what it saw last.

    Raises:
      TypeError: agents whose spaces differ.
    """
    agents = list(envs[0].possible_agents)
    theirs = [envs[0].observation_space(agent) for agent in agents]
    spaces, actions = [converted(each) for each in theirs], [converted(envs[0].action_space(each)) for each in agents]
    if len(set(spaces)) > 1 or not isinstance(spaces[0], Box) or len(set(actions)) > 1:
        raise TypeError(f"the agents' spaces must be the same, with observations of a Box; got {spaces}, {actions}")
    one, joint = spaces[0], _joint(actions[0], len(agents))
    seen = Dict({"agents": repeated(one, len(agents))})
    make = lambda env: _single(env, agents, one, actions[0])  # noqa: E731
    made = side_by_side([make(env) for env in envs], seen, joint, max_steps)
    drawn = getattr(envs[0], "render_mode", None) == "rgb_array"
    return made._replace(render=(lambda: np.asarray(envs[0].render())) if drawn else None)


def _single(env: Environment, agents: list[str], space: Box, action_space: Space) -> Single:
    last = {agent: np.zeros(space.shape, space.dtype) for agent in agents}

    def observed(obs: PyTree, rewards: PyTree, alive: Sequence[str]) -> PyTree:
        last.update({agent: np.asarray(value, space.dtype) for agent, value in obs.items()})
        own = np.array([rewards.get(agent, 0.0) for agent in agents], np.float32)
        still = np.array([agent in alive for agent in agents])
        return {"agents": np.stack([last[agent] for agent in agents]), "rewards": own, "alive": still}

    def reset(seed: int | None) -> PyTree:
        return observed(env.reset(seed=seed)[0], {}, agents)

    def step(action: PyTree) -> tuple[PyTree, float, bool, bool]:
        playing = [agent for agent in agents if agent in env.agents]
        chosen = {
            agent: from_purerl(env.action_space(agent), action_space, np.asarray(action[i])[None])[0]
            for i, agent in enumerate(agents)
            if agent in playing
        }
        obs, rewards, terminated, truncated, _ = env.step(chosen)
        over = not env.agents
        cut = over and any(truncated[agent] for agent in playing)
        alive = [agent for agent in playing if not terminated[agent]]
        mean = float(np.mean([rewards.get(agent, 0.0) for agent in agents]))
        return observed(obs, rewards, alive), mean, over and not cut, cut

    return Single(reset, step, env.close)


def _joint(space: Space, num_agents: int) -> Space:
    if isinstance(space, Discrete):
        return MultiDiscrete((space.n,) * num_agents)
    if not isinstance(space, Box):
        raise TypeError(f"the agents' actions must be Discrete or a Box, got {space}")
    return repeated(space, num_agents)


def _make(name: str, *, num_envs: int = 1, central_critic: bool = False, **settings: Any) -> HostEnv:
    """The environment "kind/name", such as "sisl/pursuit_v5"; other settings are those of its `parallel_env`."""
    check_member("pettingzoo", name, _names())
    module = importlib.import_module(f"pettingzoo.{name.replace('/', '.')}")
    limit = settings.get("max_cycles")
    env = from_pettingzoo([module.parallel_env(**settings) for _ in range(num_envs)], limit)
    return agents.central_critic(env) if central_critic else env


def _names() -> Sequence[str]:
    """Environments of all kinds, whether what they need beside PettingZoo is installed or not."""
    found = []
    for kind in _KINDS:
        package = importlib.util.find_spec(f"pettingzoo.{kind}")
        modules = pkgutil.iter_modules(package.submodule_search_locations) if package else ()  # type: ignore[arg-type]
        found += [f"{kind}/{each.name}" for each in modules if not each.ispkg and "_v" in each.name]
    return found


_DRAWN = {"render_mode": "rgb_array"}
FAMILY = Family(_make, _names, "pettingzoo", "pettingzoo", "several agents", "sisl/pursuit_v5", True, _DRAWN)
