"""Environments around environments, `Env -> Env`."""

from purerl.envs.wrappers.agents import OneAgent, central_critic, one_agent
from purerl.envs.wrappers.observations import channels_last, flatten, frame_stack, select_observation, with_state
from purerl.envs.wrappers.resets import cached_resets
from purerl.envs.wrappers.time import action_repeat, time_limit

__all__ = [
    "OneAgent", "action_repeat", "cached_resets", "central_critic", "channels_last", "flatten", "frame_stack",
    "one_agent", "select_observation", "time_limit", "with_state",
]  # fmt: skip
