"""Single environments on the host, stepped one after the other as one `HostEnv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from purerl.envs.adapters.gymnasium import HostEnv, HostStep
from purerl.spaces import Space, clip_action
from purerl.types import PyTree


class Single(NamedTuple):
    """One environment on the host.

    Attributes:
      reset: `(seed) -> obs`; None continues the environment's own random numbers.
      step: `(action) -> (obs, reward, terminated, truncated)`, obs the true successor.
      close: `() -> None`.
    """

    reset: Callable[[int | None], PyTree]
    step: Callable[[PyTree], tuple[PyTree, float, bool, bool]]
    close: Callable[[], None]


def side_by_side(
    singles: Sequence[Single], observation_space: Space, action_space: Space, max_steps: int | None = None
) -> HostEnv:
    """N environments as one: each is reset as soon as its episode ends; actions of a `Box` are clipped to its bounds.

    Examples:
      >>> from purerl.spaces import Box, Discrete
      >>> counter = Single(lambda seed: np.float32(0), lambda action: (np.float32(1), 2.0, True, False), lambda: None)
      >>> env = side_by_side([counter] * 2, Box(0.0, 1.0), Discrete(2))
      >>> _ = env.reset(0)
      >>> step = env.step(np.array([0, 1]))
      >>> step.obs.tolist(), step.next_obs.tolist(), step.reward.tolist()
      ([0.0, 0.0], [1.0, 1.0], [2.0, 2.0])
    """

    def reset(seed: int) -> PyTree:
        return _stack([single.reset(seed + i) for i, single in enumerate(singles)])

    def step(action: PyTree) -> HostStep:
        action = jax.device_get(clip_action(action, action_space))
        results = [single.step(jax.tree.map(lambda x: x[i], action)) for i, single in enumerate(singles)]  # noqa: B023
        successors, reward, terminated, truncated = zip(*results)
        ended = np.asarray(terminated, bool)
        cut = np.asarray(truncated, bool) & ~ended
        starts = [singles[i].reset(None) if done else successors[i] for i, done in enumerate(ended | cut)]
        return HostStep(_stack(starts), _stack(successors), np.asarray(reward, np.float32), ended, cut)

    def close() -> None:
        for single in singles:
            single.close()

    return HostEnv(reset, step, close, len(singles), observation_space, action_space, max_steps)


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)  # N times [...] -> [N, ...]
