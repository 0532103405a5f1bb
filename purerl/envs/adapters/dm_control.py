"""DeepMind's control suite on MuJoCo, with the interface of dm_env."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from purerl.envs.adapters.gymnasium import HostEnv
from purerl.envs.adapters.side_by_side import Single, side_by_side
from purerl.envs.adapters.spaces import compact_bound
from purerl.envs.families import Family, check_member
from purerl.spaces import Box, Dict
from purerl.types import PyTree

Environment: TypeAlias = Any
"""A `dm_env.Environment`."""


def _make(name: str, *, num_envs: int = 1, **settings: Any) -> HostEnv:
    """The task "domain-task", such as "cartpole-balance"; settings are those of the task, such as `time_limit=10.0`.

    terminated = last step ∧ discount = 0,   truncated = last step ∧ discount ≠ 0
    """
    from dm_control import suite

    check_member("dm_control", name, _names())
    domain, task = name.split("-", 1)
    loaded = [suite.load(domain, task, task_kwargs=dict(settings) or None) for _ in range(num_envs)]
    spec = loaded[0].action_spec()
    low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
    actions = Box(compact_bound(low), compact_bound(high), tuple(spec.shape))
    parts = {name: (np.size(each.generate_value()),) for name, each in loaded[0].observation_spec().items()}
    space = Dict(tuple((name, Box(-np.inf, np.inf, shape)) for name, shape in parts.items()))
    limit = loaded[0]._step_limit
    make = _singles(domain, task, settings)
    steps = None if np.isinf(limit) else int(limit)
    return side_by_side([make(env) for env in loaded], space, actions, steps)


def _singles(domain: str, task: str, settings: dict[str, Any]) -> Any:
    from dm_control import suite

    def make(env: Environment) -> Single:
        held = [env]

        def reset(seed: int | None) -> PyTree:
            if seed is not None:  # a task takes its seed when it is loaded
                held[0] = suite.load(domain, task, task_kwargs=dict(settings) | {"random": seed})
            return _observe(held[0].reset().observation)

        def step(action: PyTree) -> tuple[PyTree, float, bool, bool]:
            timestep = held[0].step(np.asarray(action, np.float64))
            ended = timestep.last() and timestep.discount == 0
            return _observe(timestep.observation), float(timestep.reward or 0.0), ended, timestep.last() and not ended

        return Single(reset, step, lambda: held[0].close())

    return make


def _observe(observation: PyTree) -> PyTree:
    return {name: np.ravel(value).astype(np.float32) for name, value in observation.items()}


def _names() -> Sequence[str]:
    from dm_control import suite

    return sorted(f"{domain}-{task}" for domain, task in suite.ALL_TASKS)


FAMILY = Family(_make, _names, "dm_control", "dm_control", "control on MuJoCo", "cartpole-balance", on_host=True)
