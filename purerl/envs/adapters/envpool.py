"""EnvPool: many environments stepped by threads in C++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from purerl.envs.adapters.gymnasium import HostEnv, HostStep
from purerl.envs.adapters.images import images_last, last_space
from purerl.envs.adapters.spaces import converted, from_purerl, to_purerl
from purerl.envs.families import Family, check_member
from purerl.types import PyTree

Pool: TypeAlias = Any
"""What `envpool.make_gymnasium` returns."""


def _make(name: str, *, num_envs: int = 1, **settings: Any) -> HostEnv:
    """An EnvPool of a name; settings are those of `envpool.make_gymnasium`, such as `num_threads=2`.

    EnvPool resets an environment in the step after its end. Here it is reset at once, so no action is lost. Images with
    their channels first are transposed to [H, W, C].
    """
    import envpool

    check_member("envpool", name, _names())
    pools: dict[str, Pool] = {}

    def pool(seed: int) -> Pool:
        """A pool with a seed: EnvPool takes one when it is made."""
        if "pool" in pools:
            pools["pool"].close()
        pools["pool"] = envpool.make_gymnasium(name, num_envs=num_envs, seed=seed, **settings)
        return pools["pool"]

    first = pool(0)
    theirs, their_actions = first.observation_space, first.action_space
    plain, actions = converted(theirs), converted(their_actions)
    space = last_space(plain)

    def observed(obs: PyTree) -> PyTree:
        return images_last(plain, to_purerl(theirs, plain, obs))

    def reset(seed: int) -> PyTree:
        return observed(pool(seed).reset()[0])

    def step(action: PyTree) -> HostStep:
        action = from_purerl(their_actions, actions, jax.device_get(action))
        obs, reward, terminated, truncated, _ = pools["pool"].step(action)
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        successor = observed(obs)
        ended = np.flatnonzero(terminated | truncated)
        start = jax.tree.map(np.array, successor)
        if ended.size:
            fresh = observed(pools["pool"].reset(ended)[0])
            jax.tree.map(lambda whole, part: whole.__setitem__(ended, part), start, fresh)
        return HostStep(start, successor, np.array(reward, np.float32), terminated, truncated & ~terminated)

    limit = first.spec.config.max_episode_steps
    return HostEnv(reset, step, lambda: pools["pool"].close(), num_envs, space, actions, int(limit))


def _names() -> Sequence[str]:
    import envpool

    return sorted(envpool.list_all_envs())


FAMILY = Family(_make, _names, "envpool", "envpool", "many environments in C++", "CartPole-v1", on_host=True)
