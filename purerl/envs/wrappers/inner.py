"""Checks of what a wrapper is put around."""

from __future__ import annotations

from purerl.envs.adapters.gymnasium import HostEnv
from purerl.spaces import Dict, Space, check_spaces
from purerl.types import Env, PyTree


def check_inner(env: Env, wrapper: str) -> None:
    """Reject something that a wrapper of functions of JAX cannot be put around.

    Args:
      env: what is to be wrapped.
      wrapper: name of the wrapper.

    Raises:
      TypeError: it is not an environment, or one that runs on the host; says what to do instead.

    Examples:
      >>> check_inner("CartPole-v1", "flatten")
      Traceback (most recent call last):
      ...
      TypeError: env is the string 'CartPole-v1', not an environment; pass purerl.envs.make('CartPole-v1')
    """
    if isinstance(env, HostEnv):
        raise TypeError(
            f"envs.{wrapper} wraps environments in JAX, but this one runs on the host: wrap it with one of "
            "gymnasium.wrappers, and pass the vector environment of such to envs.from_gymnasium"
        )
    check_spaces(env)


def check_order(obs: PyTree, space: Space, wrapper: str) -> None:
    """Reject observations of `with_state` in a wrapper with a state of its own, which a planner would not be shown.

    Args:
      obs: of the environment inside.
      space: its observation space.
      wrapper: name of the wrapper.

    Raises:
      ValueError: says the right order.

    Examples:
      >>> check_order({"obs": 0.0, "env_state": (), "env_params": None}, Dict({}), "time_limit")
      Traceback (most recent call last):
      ...
      ValueError: time_limit(with_state(env)) hides its own state: write with_state(time_limit(env))
    """
    named = space if isinstance(space, Dict) else Dict({})
    if isinstance(obs, dict) and {"env_state", "env_params"} <= set(obs) and "env_state" not in named:
        raise ValueError(f"{wrapper}(with_state(env)) hides its own state: write with_state({wrapper}(env))")
