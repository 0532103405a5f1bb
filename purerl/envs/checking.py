"""`check`: one description of everything that an environment of one's own may get wrong, before anything compiles."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl.hparams import cast
from purerl.prng import is_key
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple, check_spaces
from purerl.types import Env, EnvStep, Key, PyTree

Aval: TypeAlias = jax.ShapeDtypeStruct
"""Shape and dtype of an array."""
Shape: TypeAlias = tuple[int, ...]
Dtype: TypeAlias = Any


def check(env: Env, env_params: PyTree = None) -> Env:
    """The environment, once what it returns is found to be what the loops need; the loops call this themselves.

    `reset` and `step` are traced once, without being compiled or run. What is harmless is cast: a reward that is an
    integer or has shape (1,), flags that are 0 or 1, and observations of another dtype than their space's if no
    value can be lost. Everything else is refused.

    Args:
      env: an environment.
      env_params: the parameters it is used with; None takes its own.

    Returns:
      `env` itself if nothing needs a cast; otherwise an environment that casts, the same object in every call.

    Raises:
      TypeError: `env` is not an `Env`, such as a name or an environment of another library; `reset` or `step` does not
        take `env_params`; `reset` does not return
        a pair or `step` does not return an `EnvStep`; a field has the wrong dtype.
      ValueError: a field has the wrong shape or structure, or the state changes its shape from `reset` to `step`.

    Examples:
      >>> from purerl import types
      >>> def step(key, env_state, action, env_params=None):
      ...     return types.EnvStep(jnp.zeros(2), env_state, reward=1, terminated=True, truncated=False)
      >>> spaces = types.Box(-1.0, 1.0, (2,)), types.Discrete(2)
      >>> env = types.Env(lambda key, env_params=None: (jnp.zeros(2), ()), step, *spaces)
      >>> check(env).step(jax.random.key(0), (), 0).reward.dtype
      dtype('float32')
    """
    check_spaces(env)
    if not isinstance(env, Env):
        hint = ": it runs on the host; use train_on_host and evaluate_on_host" if hasattr(env, "num_envs") else ""
        raise TypeError(f"env must be a purerl.types.Env, got {type(env).__name__}{hint}")
    # Parameters may be traced; only their shapes and dtypes matter, so they are what the result is kept by.
    leaves, structure = jax.tree.flatten(cast(env_params))
    avals = tuple((jnp.shape(leaf), _dtype(leaf)) for leaf in leaves)
    return _checked(env, structure, avals, jax.dtypes.canonicalize_dtype(float))


@functools.lru_cache(maxsize=256)
def _checked(env: Env, structure: PyTree, avals: tuple[tuple[Shape, Dtype], ...], default_float: Dtype) -> Env:
    env_params = jax.tree.unflatten(structure, [Aval(shape, dtype) for shape, dtype in avals])
    key = jax.eval_shape(lambda: jax.random.key(0))
    obs, env_state, step = jax.eval_shape(functools.partial(_one_step, env), key, env_params)
    found = [
        _check_state(env_state, step.env_state),
        _check_obs(obs, env.observation_space, "the observation of reset"),
        _check_obs(step.obs, env.observation_space, "EnvStep.obs"),
        _check_scalar(step.reward, "reward", jnp.dtype("float32")),
        _check_scalar(step.terminated, "terminated", jnp.dtype(bool)),
        _check_scalar(step.truncated, "truncated", jnp.dtype(bool)),
    ]
    _check_rest(obs, step.obs)
    _check_info(step.info)
    return env if all(found) else _casting(env, tuple(leaf.dtype for leaf in jax.tree.leaves(step.env_state)))


def _dtype(leaf: PyTree) -> Dtype:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def _one_step(env: Env, key: Key, env_params: PyTree) -> tuple[PyTree, PyTree, EnvStep]:
    """A reset and a step, with structures that can be named checked at once."""
    reset_key, step_key = jax.random.split(key)
    check_arguments("reset", env.reset, (reset_key, env_params), "(key, env_params=None)")
    first = env.reset(reset_key, env_params)
    if not isinstance(first, tuple) or len(first) != 2:
        raise TypeError(f"reset must return (obs, env_state), got {described(first)}")
    arguments = (step_key, first[1], _some_action(env.action_space), env_params)
    check_arguments("step", env.step, arguments, "(key, env_state, action, env_params=None)")
    result = env.step(*arguments)
    if not isinstance(result, EnvStep):
        wanted = "EnvStep(obs, env_state, reward, terminated, truncated, info)"
        raise TypeError(f"step must return {wanted}, got {described(result)}")
    return *first, result


def check_arguments(name: str, function: Callable[..., Any], arguments: tuple[Any, ...], wanted: str) -> None:
    """Reject a function that cannot be called with these arguments.

    Raises:
      TypeError: names the function, what it must take, and its signature.

    Examples:
      >>> check_arguments("reset", lambda key: (), (0, None), "(key, env_params=None)")
      Traceback (most recent call last):
      ...
      TypeError: reset must take (key, env_params=None), but its signature is (key)
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in function has none
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise TypeError(f"{name} must take {wanted}, but its signature is {signature}") from None


def described(value: PyTree) -> str:
    """What something is, in the words of an error.

    Examples:
      >>> described((1, 2)), described(jnp.zeros(3)), described({})
      ('a tuple of 2', 'an array float32[3]', 'a value of type dict')
    """
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"a tuple of {len(value)}"
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    return f"an array {_short(value)}" if is_array else f"a value of type {type(value).__name__}"


def _some_action(space: Space) -> PyTree:
    """An element of the space, as an agent would return it."""
    if isinstance(space, Dict):
        return {name: _some_action(part) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(_some_action(part) for part in space.spaces)
    low = jnp.asarray(space.bounds()[0]) if isinstance(space, Box) else jnp.zeros(())
    return jnp.broadcast_to(jnp.nan_to_num(low), space.shape).astype(jax.dtypes.canonicalize_dtype(space.dtype))


def _check_scalar(found: Aval, field: str, wanted: Dtype) -> bool:
    """Whether a field of `EnvStep` is as it should be; False if a cast makes it so.

    Raises:
      TypeError, ValueError: it cannot be cast.
    """
    if not hasattr(found, "dtype"):
        raise TypeError(f"EnvStep.{field} must be a {wanted} scalar, got {found!r}")
    if found.shape not in ((), (1,)):
        raise ValueError(f"EnvStep.{field} must be a {wanted} scalar, got shape {found.shape} and dtype {found.dtype}")
    if not _is_number(found.dtype):
        raise TypeError(f"EnvStep.{field} must be a {wanted} scalar, got dtype {found.dtype}")
    return found.shape == () and found.dtype == wanted and not getattr(found, "weak_type", False)


def _is_number(dtype: Dtype) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def _check_obs(obs: PyTree, space: Space, name: str) -> bool:
    """Whether an observation is an element of its space; False if a cast makes it one.

    Raises:
      TypeError, ValueError: it cannot be cast.
    """
    if isinstance(space, Dict):
        if not isinstance(obs, dict) or not {part for part, _ in space.spaces} <= set(obs):
            got = f"entries {sorted(obs)}" if isinstance(obs, dict) else f"a value of type {type(obs).__name__}"
            raise ValueError(f"{name} must have the entries {[part for part, _ in space.spaces]}, got {got}")
        found = [_check_obs(obs[part], inner, f"{name}[{part!r}]") for part, inner in space.spaces]
        return all(found)
    if isinstance(space, Tuple):
        if not isinstance(obs, tuple) or len(obs) != len(space.spaces):
            raise ValueError(f"{name} must be a tuple of {len(space.spaces)}, got {described(obs)}")
        found = [_check_obs(leaf, part, f"{name}[{i}]") for i, (leaf, part) in enumerate(zip(obs, space.spaces))]
        return all(found)
    wanted = jax.dtypes.canonicalize_dtype(space.dtype)
    if not hasattr(obs, "dtype"):
        raise TypeError(f"{name} must be an array, got a value of type {type(obs).__name__}")
    if obs.shape != space.shape:
        raise ValueError(f"{name} has shape {obs.shape}, but observation_space says {space.shape}")
    if not _keeps_values(obs.dtype, wanted):
        raise TypeError(f"{name} has dtype {obs.dtype}, but observation_space says {space.dtype}")
    return obs.dtype == wanted


def _keeps_values(found: Dtype, wanted: Dtype) -> bool:
    """Whether a cast is harmless: from bool or integers to anything, from floats to floats."""
    whole = jnp.issubdtype(found, jnp.integer) or jnp.issubdtype(found, jnp.bool_)
    if wanted == jnp.bool_:
        return bool(whole)
    return bool(whole or (jnp.issubdtype(found, jnp.floating) and jnp.issubdtype(wanted, jnp.floating)))


def _check_state(first: PyTree, then: PyTree) -> bool:
    """Whether the state has the same dtypes after `reset` and `step`; False if Python numbers of `reset` need a cast.

    Raises:
      ValueError: `step` changes its structure, a shape, or the dtype of an array.
    """
    same = True
    for path, before, after in _pairs("env_state", first, then):
        same &= before.dtype == after.dtype
        if before.shape != after.shape or (before.dtype != after.dtype and not getattr(before, "weak_type", False)):
            raise ValueError(f"{path} is {_short(before)} after reset, but {_short(after)} after step")
    return same


def _check_rest(first: PyTree, then: PyTree) -> None:
    """Reject observations that differ between `reset` and `step` in entries that their space does not name."""
    for path, before, after in _pairs("obs", first, then):
        if before.shape != after.shape:
            raise ValueError(f"{path} is {_short(before)} after reset, but {_short(after)} after step")


def _pairs(name: str, first: PyTree, then: PyTree) -> Iterator[tuple[str, Aval, Aval]]:
    """The leaves after `reset` and after `step`, with their paths.

    Raises:
      ValueError: the trees have different structures.
    """
    leaves, before = jax.tree_util.tree_flatten_with_path(first)
    others, after = jax.tree.flatten(then)
    same = operator.eq(before, after)  # static parts that are equal may print differently
    if not same and str(before) != str(after):
        raise ValueError(f"{name} changes its structure: {before} after reset, but {after} after step")
    for (path, leaf), other in zip(leaves, others):
        yield name + jax.tree_util.keystr(path), leaf, other


def _short(aval: Aval) -> str:
    return f"{aval.dtype}{list(aval.shape)}"


def _check_info(info: PyTree) -> None:
    if not isinstance(info, dict) and jax.tree.leaves(info):
        raise TypeError(f"EnvStep.info must be a dict of scalars or (), got {described(info)}")
    for name, value in info.items() if isinstance(info, dict) else ():
        if getattr(value, "shape", None) != () or not _is_number(value.dtype):
            got = _short(value) if hasattr(value, "dtype") else type(value).__name__
            raise ValueError(f"EnvStep.info[{name!r}] must be a number of shape (), got {got}")


@functools.lru_cache(maxsize=256)
def _casting(env: Env, state_dtypes: tuple[Dtype, ...]) -> Env:
    """The same environment with everything that is harmless cast."""
    space = env.observation_space

    def cast_state(env_state: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(env_state)
        same = [
            leaf if is_key(leaf) or getattr(leaf, "dtype", None) == dtype else jnp.asarray(leaf, dtype)
            for leaf, dtype in zip(leaves, state_dtypes, strict=True)
        ]
        return jax.tree.unflatten(structure, same)

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        obs, env_state = env.reset(key, env_params)
        return cast_obs(space, obs), cast_state(env_state)

    def step(key: Key, env_state: PyTree, action: PyTree, env_params: PyTree = None) -> EnvStep:
        result = standard(env.step(key, env_state, action, env_params))
        return result._replace(obs=cast_obs(space, result.obs))

    return env._replace(reset=reset, step=step)


def standard(result: EnvStep) -> EnvStep:
    """The same step with a float32 reward and bool flags, all of shape ().

    Examples:
      >>> standard(EnvStep((), (), reward=jnp.array([2]), terminated=1, truncated=0)).reward.tolist()
      2.0
    """
    return result._replace(
        reward=jnp.asarray(result.reward, jnp.float32).reshape(()),
        terminated=jnp.asarray(result.terminated, bool).reshape(()),
        truncated=jnp.asarray(result.truncated, bool).reshape(()),
    )


def cast_obs(space: Space, obs: PyTree) -> PyTree:
    """The observation with the dtypes of its space; entries that the space does not name stay as they are.

      Examples:
    >>> from purerl.spaces import Box
    >>> cast_obs(Box(0.0, 1.0, (2,)), jnp.array([0, 1])).dtype
    dtype('float32')
    """
    if isinstance(space, Dict):
        return obs | {name: cast_obs(part, obs[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(cast_obs(part, leaf) for part, leaf in zip(space.spaces, obs, strict=True))
    assert isinstance(space, Box | Discrete | MultiDiscrete)
    return jnp.asarray(obs, jax.dtypes.canonicalize_dtype(space.dtype))
