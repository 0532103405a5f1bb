"""Jumanji: combinatorial problems, routing, packing and small games."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.adapters.spaces import compact_bound
from purerl.envs.families import Family, check_member
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from purerl.types import Env, EnvStep, Key, PyTree, RenderFn

Environment: TypeAlias = Any
"""A `jumanji.Environment`."""
Spec: TypeAlias = Any
"""A `jumanji.specs.Spec`."""

_MASK, _TIME = "action_mask", "step_count"


def from_jumanji(env: Environment) -> Env:
    """Wrap an environment of Jumanji.

        terminated = last step ∧ discount = 0,   truncated = last step ∧ discount ≠ 0,   reward = Σ over agents

    Most environments of Jumanji observe the number of the step and give their limit a discount of 0: there the limit is
    part of the task, and terminates. Observations become dicts. An action of several numbers with one mask over all
    their combinations becomes a single number, whose mask is that mask as a vector.

    Args:
      env: a `jumanji.Environment`, without its `AutoResetWrapper`.

    Returns:
      An `Env`. A new one in every call, so keep it: environments compare by identity.

    Raises:
      TypeError: an action that is neither discrete nor a bounded array.
    """
    space, jointly = _observation_space(env)
    actions, encode = _action_space(env.action_spec, jointly)

    def reset(key: Key, env_params: PyTree = None) -> tuple[PyTree, PyTree]:
        state, timestep = env.reset(key)
        return _observe(timestep.observation, jointly), state

    def step(key: Key, env_state: PyTree, action: jax.Array, env_params: PyTree = None) -> EnvStep:
        state, timestep = env.step(env_state, encode(action))
        terminated = timestep.last() & (jnp.max(timestep.discount) == 0)
        truncated = timestep.last() & ~terminated
        reward = jnp.sum(timestep.reward).astype(jnp.float32)
        return EnvStep(_observe(timestep.observation, jointly), state, reward, terminated, truncated, _info(timestep))

    limit = getattr(env, "time_limit", None)
    return Env(reset, step, space, actions, _renderer(env), None if limit is None else int(limit))


def _renderer(env: Environment) -> RenderFn | None:
    """A function that draws with the environment's viewer; None if it has none on Matplotlib."""
    viewer: Any = getattr(env, "_viewer", None)
    if not hasattr(viewer, "_display_rgb_array"):
        return None

    def render(env_state: PyTree) -> np.ndarray:
        viewer._display = viewer._display_rgb_array  # by default it opens a window
        return np.asarray(viewer.render(env_state), np.uint8)[..., :3]

    return render


def _info(timestep: PyTree) -> PyTree:
    return {name: value for name, value in timestep.extras.items() if jnp.ndim(value) == 0} or ()


def _observe(observation: PyTree, jointly: bool) -> PyTree:
    """NamedTuples and dataclasses as dicts, all the way down; a mask over combinations as a vector."""
    if hasattr(observation, "_asdict"):
        fields = observation._asdict()
    elif hasattr(observation, "__dataclass_fields__"):
        fields = dict(observation.__dict__)
    else:
        return jnp.asarray(observation)
    parts = {name: _observe(part, False) for name, part in fields.items()}
    return parts | {_MASK: parts[_MASK].reshape(-1)} if jointly else parts


def _observation_space(env: Environment) -> tuple[Space, bool]:
    """The space, and whether the mask is over all combinations of an action of several numbers."""
    space = _converted(env.observation_spec)
    numbers = np.shape(getattr(env.action_spec, "num_values", ()))
    if not isinstance(space, Dict) or _MASK not in space or not numbers:
        return space, False
    counts = tuple(np.asarray(env.action_spec.num_values).tolist())
    mask_space = space[_MASK]
    if len(numbers) != 1 or not isinstance(mask_space, Box) or mask_space.shape != counts:
        return space, False
    mask = Box(0, 1, (int(np.prod(counts)),), "bool")
    return Dict(tuple((name, mask if name == _MASK else part) for name, part in space.spaces)), True


def _action_space(spec: Spec, jointly: bool) -> tuple[Space, Any]:
    """The space of actions, and the function to an action of the environment."""
    from jumanji import specs

    if isinstance(spec, specs.DiscreteArray):
        return Discrete(int(spec.num_values)), lambda action: action
    if isinstance(spec, specs.MultiDiscreteArray):
        counts = tuple(int(count) for count in np.ravel(spec.num_values))
        if jointly:
            return Discrete(int(np.prod(counts))), lambda action: jnp.stack(jnp.unravel_index(action, counts))
        return MultiDiscrete(counts), lambda action: action.reshape(spec.shape).astype(spec.dtype)
    if isinstance(spec, specs.BoundedArray):
        space = _converted(spec)
        low, high = space.bounds()  # type: ignore[union-attr]
        return space, lambda action: jnp.clip(action, low, high)
    raise TypeError(f"an action of the kind {spec} has no counterpart")


def _converted(spec: Spec) -> Space:
    from jumanji import specs

    if isinstance(spec, specs.DiscreteArray):
        return Discrete(int(spec.num_values))
    if isinstance(spec, specs.MultiDiscreteArray) and len(spec.shape) == 1:
        return MultiDiscrete(tuple(int(count) for count in np.ravel(spec.num_values)))
    if isinstance(spec, specs.BoundedArray):
        low, high = (np.broadcast_to(np.asarray(bound, float), spec.shape) for bound in (spec.minimum, spec.maximum))
        return Box(compact_bound(low), compact_bound(high), tuple(spec.shape), np.dtype(spec.dtype).name)
    if isinstance(spec, specs.Array):
        return Box(-float("inf"), float("inf"), tuple(spec.shape), np.dtype(spec.dtype).name)
    parts = spec._specs.items()
    return Dict(tuple((name, _count(part) if name == _TIME else _converted(part)) for name, part in parts))


def _count(spec: Spec) -> Space:
    """The number of a step: a quantity, not a category, and one more than its spec says in the last step."""
    most = int(getattr(spec, "num_values", getattr(spec, "maximum", 0)))
    return Box(0, most, (), np.dtype(spec.dtype).name)


def _make(name: str, **settings: Any) -> Env:
    import jumanji

    check_member("jumanji", name, _names())
    return from_jumanji(jumanji.make(name, **settings))


def _names() -> Sequence[str]:
    import jumanji

    return sorted(jumanji.registered_environments())


FAMILY = Family(_make, _names, "jumanji", "jumanji", "routing, packing and puzzles", "Snake-v1")
