"""Environments around environments, `Env -> Env`."""

from purerl.envs.wrappers.observations import flatten, frame_stack, select_observation, with_state
from purerl.envs.wrappers.time import action_repeat, time_limit

__all__ = ["action_repeat", "flatten", "frame_stack", "select_observation", "time_limit", "with_state"]
