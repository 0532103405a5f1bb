"""The other way round: an `Env` as an environment of Gymnasium, for Stable-Baselines3, CleanRL and others."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.checking import check
from purerl.hparams import check_positive
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from purerl.types import Env, EnvStep, Key, PyTree

Foreign: TypeAlias = Any
"""A `gymnasium.Env`, a `gymnasium.vector.VectorEnv`, or one of Gymnasium's spaces."""


def to_gymnasium(env: Env, num_envs: int | None = None) -> Foreign:
    """The environment as a `gymnasium.Env`, or N of them as a `gymnasium.vector.VectorEnv` compiled as one program.

    The vector environment resets in the step that ends an episode (`AutoresetMode.SAME_STEP`), with the true successor
    in `info["final_obs"]`. The scalars of `EnvStep.info` are passed on. `render_mode` is "rgb_array" if the environment
    can be drawn. Integers have the dtypes of Gymnasium, int64 for `Discrete` and `MultiDiscrete`.

    Args:
      env: any environment.
      num_envs: N of a vector environment; None for a single one.

    Raises:
      ModuleNotFoundError: Gymnasium is not installed.
      ValueError: `num_envs` is not positive.

    Examples:
      >>> from purerl import envs
      >>> theirs = to_gymnasium(envs.make("CartPole-v1"))
      >>> obs, info = theirs.reset(seed=0)
      >>> theirs.observation_space.contains(obs), theirs.action_space.n.item()
      (True, 2)
    """
    env = check(env)
    if num_envs is None:
        return _classes()[0](env)
    check_positive(num_envs=num_envs)
    return _classes()[1](env, num_envs)


def to_gymnasium_space(space: Space) -> Foreign:
    """The counterpart of a space in Gymnasium.

    Examples:
      >>> from purerl.spaces import Box
      >>> to_gymnasium_space(Box(-1.0, 1.0, (2,)))
      Box(-1.0, 1.0, (2,), float32)
    """
    from gymnasium import spaces

    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return spaces.MultiDiscrete(np.asarray(space.num_values, np.int64))
    if isinstance(space, Dict):
        return spaces.Dict({name: to_gymnasium_space(part) for name, part in space.spaces})
    if isinstance(space, Tuple):
        return spaces.Tuple(map(to_gymnasium_space, space.spaces))
    if space.dtype == "bool":
        return spaces.MultiBinary(space.shape or (1,))
    low, high = space.bounds()
    return spaces.Box(low, high, space.shape, np.dtype(space.dtype))  # type: ignore[arg-type]


def _element(space: Space, value: PyTree) -> PyTree:
    """An observation as an element of the space's counterpart; leaves may lead with [N]."""
    if isinstance(space, Dict):
        return {name: _element(part, value[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(_element(part, leaf) for part, leaf in zip(space.spaces, value, strict=True))
    if isinstance(space, Discrete | MultiDiscrete):
        return np.asarray(value, np.int64)[()]  # a scalar, not an array of rank 0
    if space.dtype != "bool":
        return np.asarray(value, space.dtype)
    value = np.asarray(value, np.int8)
    return value if space.shape else value[..., None]  # MultiBinary has no scalars


def _from_element(space: Space, value: Any) -> PyTree:
    """The inverse, for actions."""
    if isinstance(space, Dict):
        return {name: _from_element(part, value[name]) for name, part in space.spaces}
    if isinstance(space, Tuple):
        return tuple(_from_element(part, leaf) for part, leaf in zip(space.spaces, value, strict=True))
    if isinstance(space, Box) and space.dtype == "bool":
        value = jnp.asarray(value, bool)
        return value if space.shape else value[..., 0]
    return jnp.asarray(value)


@functools.cache
def _classes() -> tuple[Any, Any]:
    """The two classes, made on first use so that Gymnasium is imported only then."""
    import gymnasium
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space

    class SingleEnv(gymnasium.Env):
        def __init__(self, env: Env) -> None:
            self._env, self._key, self._state = env, jax.random.key(0), None
            self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)
            self.observation_space = to_gymnasium_space(env.observation_space)
            self.action_space = to_gymnasium_space(env.action_space)
            self.metadata = {"render_modes": ["rgb_array"] if env.render else [], "render_fps": 30}
            self.render_mode = "rgb_array" if env.render else None

        def _next_key(self) -> Key:
            self._key, key = jax.random.split(self._key)
            return key

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            if seed is not None:
                self._key = jax.random.key(seed)
            obs, self._state = self._reset(self._next_key())
            return self._shown(obs), {}

        def step(self, action: Any) -> Any:
            new: EnvStep = self._step(self._next_key(), self._state, _from_element(self._env.action_space, action))
            self._state = new.env_state
            info = {name: np.asarray(value).item() for name, value in (new.info or {}).items()}
            return self._shown(new.obs), float(new.reward), bool(new.terminated), bool(new.truncated), info

        def _shown(self, obs: PyTree) -> Any:
            return _element(self._env.observation_space, jax.device_get(obs))

        def render(self) -> Any:
            return None if self._env.render is None else np.asarray(self._env.render(jax.device_get(self._state)))

    class ManyEnvs(VectorEnv):
        metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

        def __init__(self, env: Env, num_envs: int) -> None:
            self._env, self.num_envs, self._key = env, num_envs, jax.random.key(0)
            self.single_observation_space = to_gymnasium_space(env.observation_space)
            self.single_action_space = to_gymnasium_space(env.action_space)
            self.observation_space = batch_space(self.single_observation_space, num_envs)
            self.action_space = batch_space(self.single_action_space, num_envs)
            self._reset = jax.jit(lambda key: jax.vmap(env.reset)(jax.random.split(key, num_envs)))
            self._step = jax.jit(functools.partial(_step_and_reset, env, num_envs))

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if seed is not None:
                self._key = jax.random.key(seed)
            self._key, key = jax.random.split(self._key)
            obs, self._state = self._reset(key)
            return _element(self._env.observation_space, jax.device_get(obs)), {}

        def step(self, actions: Any) -> Any:
            self._key, key = jax.random.split(self._key)
            obs, self._state, new = self._step(key, self._state, _from_element(self._env.action_space, actions))
            obs, new = jax.device_get((obs, new._replace(env_state=())))
            space, done = self._env.observation_space, new.terminated | new.truncated
            info: dict[str, Any] = {name: np.asarray(value) for name, value in (new.info or {}).items()}
            info |= {f"_{name}": np.ones(self.num_envs, bool) for name in new.info or {}}
            if done.any():
                last = [jax.tree.map(lambda x: x[i], _element(space, new.obs)) for i in range(self.num_envs)]  # noqa: B023
                final = np.empty(self.num_envs, object)
                final[:] = [obs if ended else None for obs, ended in zip(last, done)]
                info |= {"final_obs": final, "_final_obs": done}
            return _element(space, obs), np.asarray(new.reward), new.terminated, new.truncated, info

    return SingleEnv, ManyEnvs


def _step_and_reset(
    env: Env, num_envs: int, key: Key, env_state: PyTree, action: PyTree
) -> tuple[PyTree, PyTree, EnvStep]:
    """What comes next: fresh episodes where one ended; and the step itself. Leaves lead with [N]."""
    step_key, reset_key = jax.random.split(key)
    new = jax.vmap(env.step)(jax.random.split(step_key, num_envs), env_state, action)
    fresh = jax.vmap(env.reset)(jax.random.split(reset_key, num_envs))
    done = new.terminated | new.truncated

    def chosen(first: jax.Array, then: jax.Array) -> jax.Array:
        return jnp.where(done.reshape(-1, *[1] * (then.ndim - 1)), first, then)

    obs, env_state = jax.tree.map(chosen, fresh, (new.obs, new.env_state))
    return obs, env_state, new
