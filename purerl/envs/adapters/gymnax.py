"""Any gymnax 1.x environment as an `Env`: no reset in `step`, the true successor, termination apart from time-out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from purerl.envs.adapters.spaces import converted
from purerl.spaces import Box, Dict, Space, Tuple
from purerl.types import Env, EnvStep, PyTree

_NOT_METRICS = ("discount", "p")  # what gymnax's own environments report, which says nothing about how an agent does


def from_gymnax(env: Any, default_params: Any = None) -> Env:
    """Wrap an environment that follows the interface of gymnax 1.x.

    `step` calls the environment's `step_env` and `is_truncated` and nothing else, so that it computes no reset:

        terminated = the flag of `step_env`,   truncated = `is_truncated` ∧ ¬terminated

    Exactly one of the two is set where an episode ends. Rewards become float32 scalars. Observations have the dtype
    that the space declares, unless it declares integers and floats are observed: then the space becomes float32.
    Continuous actions are clipped to the bounds that hold under the `env_params` of the call.

    The two spaces are static and hold under `default_params`; parameters that move their bounds belong there.

    Args:
      env: an instance of a `gymnax.environments.environment.Environment`.
      default_params: its parameters where a call passes no `env_params`; None for `env.default_params`.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.

    Raises:
      TypeError: `env` lacks a method of the gymnax interface, or has a space that has no counterpart here.
      ValueError: an observation does not have the shape that its space declares.
    """
    _check_interface(env)
    with jax.ensure_compile_time_eval():
        defaults = env.default_params if default_params is None else default_params
        observed = jax.eval_shape(lambda key: env.reset_env(key, defaults)[0], jax.random.key(0))
        observation_space = _observation_space(env.observation_space(defaults), observed)
        action_space = converted(env.action_space(defaults))

    def reset(key: jax.Array, env_params: Any = None) -> tuple[PyTree, Any]:
        obs, state = env.reset_env(key, defaults if env_params is None else env_params)
        return _cast(observation_space, obs), jax.tree.map(_strong, state)

    def step(key: jax.Array, env_state: Any, action: PyTree, env_params: Any = None) -> EnvStep:
        params = defaults if env_params is None else env_params
        action = _admissible(action_space, env.action_space(params), action)
        obs, state, reward, terminated, info = env.step_env(key, env_state, action, params)
        terminated = jnp.asarray(terminated, jnp.bool_).reshape(())
        truncated = jnp.asarray(env.is_truncated(state, params), jnp.bool_).reshape(()) & ~terminated
        return EnvStep(
            obs=_cast(observation_space, obs),
            env_state=jax.tree.map(_strong, state),
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            terminated=terminated,
            truncated=truncated,
            info=_metrics(info),
        )

    return Env(reset, step, observation_space, action_space)


def _check_interface(env: Any) -> None:
    needed = ("default_params", "reset_env", "step_env", "is_truncated", "observation_space", "action_space")
    missing = [name for name in needed if not hasattr(env, name)]
    if missing:
        raise TypeError(f"{type(env).__name__} is no gymnax 1.x environment: it lacks {', '.join(missing)}")


def _observation_space(space: Any, observed: PyTree) -> Space:
    """The space that observations really have; `observed` holds their shapes and dtypes."""
    kind = type(space).__name__
    if kind == "Dict":
        parts = {name: _observation_space(part, observed[name]) for name, part in space.spaces.items()}
        return Dict(tuple(parts.items()))
    if kind == "Tuple":
        return Tuple(tuple(_observation_space(part, leaf) for part, leaf in zip(space.spaces, observed, strict=True)))
    declared: Any = converted(space)
    if declared.shape != observed.shape:
        raise ValueError(f"observations have the shape {observed.shape}, their space declares {declared.shape}")
    if isinstance(declared, Box) and _is_float(observed.dtype) and not _is_float(declared.dtype):
        return Box(declared.low, declared.high, declared.shape, "float32")
    return declared


def _is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def _cast(space: Space, value: PyTree) -> PyTree:
    """The value with its space's dtypes; a dict of the space's names where the space is a Dict."""
    if isinstance(space, Dict):
        return {name: _cast(part, value[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(_cast(part, leaf) for part, leaf in zip(space.spaces, value, strict=True))
    return jnp.asarray(value, space.dtype)


def _admissible(space: Space, now: Any, action: PyTree) -> PyTree:
    """The action as the environment takes it; `now` is gymnax's space, whose bounds follow the parameters."""
    if isinstance(space, Dict):
        return {name: _admissible(part, now.spaces[name], action[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        parts = zip(space.spaces, now.spaces, action, strict=True)
        return tuple(_admissible(part, current, leaf) for part, current, leaf in parts)
    if isinstance(space, Box):
        return jnp.clip(jnp.asarray(action, space.dtype), now.low, now.high)
    return jnp.asarray(action, space.dtype)


def _strong(leaf: Any) -> jax.Array:
    """The leaf as an array of its own dtype, never weakly typed: a loop must not carry what changes its type."""
    return jax.lax.convert_element_type(leaf, jnp.result_type(leaf))


def _metrics(info: dict[str, Any]) -> PyTree:
    scalars = {name: value for name, value in info.items() if name not in _NOT_METRICS and jnp.ndim(value) == 0}
    return scalars or ()
