"""Any gymnax environment as an `Env`: no reset in `step`, the true successor, termination apart from time-out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl.envs.adapters.spaces import converted
from purerl.spaces import Box, Dict, Space, Tuple
from purerl.types import Env, EnvStep, Key, PyTree

Environment: TypeAlias = Any
"""A `gymnax.environments.environment.Environment`; gymnax is imported only if it is used."""
Foreign: TypeAlias = Any
"""A space of `gymnax.environments.spaces`."""
Dtype: TypeAlias = Any
IsTruncated: TypeAlias = Callable[[PyTree, PyTree], Any]
"""`(state, params) -> bool`: whether the limit of steps is reached in a state."""

_NOT_METRICS = ("discount", "p")  # entries of gymnax's info that say nothing about an agent


def from_gymnax(env: Environment, default_params: PyTree = None, *, is_truncated: IsTruncated | None = None) -> Env:
    """Wrap an environment that follows the interface of gymnax 1.x, or of 0.x with `is_truncated`.

    `step` calls only the environment's `step_env` and `is_truncated`, so that it computes no reset:

        1.x:  terminated = the flag of `step_env`,   truncated = `is_truncated` ∧ ¬terminated
        0.x:  truncated = `is_truncated`,   terminated = the flag of `step_env` ∧ ¬truncated

    The flag of gymnax 0.x (craftax, popjym, ...) means either end, so those environments need an `is_truncated` that
    tells time-outs apart, such as `lambda state, params: state.time >= params.max_steps_in_episode`.

    Exactly one of the two is set when an episode ends. Rewards become float32 scalars. Observations have the dtype
    that the space declares, unless it declares integers and floats are observed: then the space becomes float32.
    Continuous actions are clipped to the bounds that hold under the `env_params` of the call. The environment computes
    in 32 bits also under `jax_enable_x64`, because gymnax's environments mix the two then.

    The two spaces are static and hold under `default_params`; parameters that move their bounds belong there.

    Args:
      env: an instance of a `gymnax.environments.environment.Environment`.
      default_params: its parameters if a call passes no `env_params`; None for `env.default_params`.
      is_truncated: `(state, params) -> bool` for an environment whose `step_env` reports one flag for both ends; None
        for the environment's own.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.

    Raises:
      TypeError: `env` lacks a method of the gymnax interface, or has a space that has no counterpart here.
      ValueError: an observation does not have the shape that its space declares.

    Examples:
      >>> from gymnax.environments.classic_control.cartpole import CartPole
      >>> env = from_gymnax(CartPole())
      >>> env.observation_space.shape, env.action_space.n
      ((4,), 2)
    """
    _check_interface(env, is_truncated)
    with jax.ensure_compile_time_eval(), jax.enable_x64(False):
        defaults = env.default_params if default_params is None else default_params
        observed = jax.eval_shape(lambda key: env.reset_env(key, defaults)[0], jax.random.key(0))
        observation_space = _observation_space(env.observation_space(defaults), observed)
        action_space = converted(env.action_space(defaults))

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        with jax.enable_x64(False):
            obs, state = env.reset_env(key, _narrow(defaults if env_params is None else env_params))
            return _cast(observation_space, obs), _narrow(state)

    def step(key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None) -> EnvStep:
        with jax.enable_x64(False):
            params = _narrow(defaults if env_params is None else env_params)
            action = _admissible(action_space, env.action_space(params), _narrow(action))
            obs, state, reward, terminated, info = env.step_env(key, env_state, action, params)
            terminated = jnp.asarray(terminated, jnp.bool_).reshape(())
            if is_truncated is None:
                truncated = jnp.asarray(env.is_truncated(state, params), jnp.bool_).reshape(()) & ~terminated
            else:
                truncated = jnp.asarray(is_truncated(state, params), jnp.bool_).reshape(())
                terminated &= ~truncated
            return EnvStep(
                obs=_cast(observation_space, obs),
                env_state=_narrow(state),
                reward=jnp.asarray(reward, jnp.float32).reshape(()),
                terminated=terminated,
                truncated=truncated,
                info=_metrics(info),
            )

    limit = getattr(defaults, "max_steps_in_episode", None)
    return Env(reset, step, observation_space, action_space, max_steps=None if limit is None else int(limit))


def _check_interface(env: Environment, is_truncated: IsTruncated | None) -> None:
    needed = ("default_params", "reset_env", "step_env", "observation_space", "action_space")
    missing = [name for name in needed if not hasattr(env, name)]
    if missing:
        raise TypeError(f"{type(env).__name__} is not a gymnax environment: it lacks {', '.join(missing)}")
    if is_truncated is None and not hasattr(env, "is_truncated"):
        raise TypeError(
            f"{type(env).__name__} has no is_truncated, as in gymnax 0.x: pass from_gymnax(env, is_truncated=...), "
            "such as lambda state, params: state.time >= params.max_steps_in_episode"
        )


def _observation_space(space: Foreign, observed: PyTree) -> Space:
    """The space that observations have in fact; `observed` holds their shapes and dtypes."""
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


def _is_float(dtype: Dtype) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def _cast(space: Space, value: PyTree) -> PyTree:
    """The value with its space's dtypes; for a `Dict`, a dict of the space's names."""
    if isinstance(space, Dict):
        return {name: _cast(part, value[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(_cast(part, leaf) for part, leaf in zip(space.spaces, value, strict=True))
    return jnp.asarray(value, space.dtype)


def _admissible(space: Space, now: Foreign, action: PyTree) -> PyTree:
    """The action as the environment takes it; `now` is gymnax's space, whose bounds follow the parameters."""
    if isinstance(space, Dict):
        return {name: _admissible(part, now.spaces[name], action[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        parts = zip(space.spaces, now.spaces, action, strict=True)
        return tuple(_admissible(part, current, leaf) for part, current, leaf in parts)
    if isinstance(space, Box):
        return jnp.clip(jnp.asarray(action, space.dtype), now.low, now.high)
    return jnp.asarray(action, space.dtype)


def _narrow(tree: PyTree) -> PyTree:
    """The leaves as arrays of 32-bit dtypes, never weakly typed: a loop must not carry what changes its type."""

    def narrow(leaf: PyTree) -> jax.Array:
        dtype = jnp.result_type(leaf)
        if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):  # typed keys
            return leaf
        return jax.lax.convert_element_type(leaf, jax.dtypes.canonicalize_dtype(dtype) if dtype.itemsize > 4 else dtype)

    with jax.enable_x64(False):
        return jax.tree.map(narrow, tree)


def _metrics(info: dict[str, Any]) -> PyTree:
    scalars = {name: value for name, value in info.items() if name not in _NOT_METRICS and jnp.ndim(value) == 0}
    return scalars or ()
