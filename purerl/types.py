"""The types everything hangs on: agents, environments, the data that passes between them, and spaces.

Nothing here computes; the module imports jax alone, so that every other file can import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

PyTree: TypeAlias = Any
Metrics: TypeAlias = dict[str, jax.Array]


class Agent(NamedTuple):
    """A learner as pure functions. It holds no arrays, so it is hashable and static under `jax.jit`.

    Agents compare by the identity of their functions: build one once and keep it, or every call compiles again.

    Attributes:
      init: `(key, hparams, example, num_envs=1) -> state`. `example` is one observation, or the whole data for `fit`.
      act: `(key | None, state, obs) -> (action, aux)` for one observation. `key=None` takes the greedy action;
        `aux` has the same structure either way.
      update: `(key, state, data) -> (state, metrics)`; `metrics` is a dict of scalars.
      memory: None, or `(key | None, state) -> memory` of one environment at the start of an episode. Where it is not
        None, `act` is `(key, state, obs, memory) -> (action, aux, memory)`.
    """

    init: Callable[..., Any]
    act: Callable[..., Any]
    update: Callable[..., tuple[Any, Metrics]]
    memory: Callable[..., Any] | None = None


class Transition(NamedTuple):
    """One step of an environment; a trajectory is a Transition whose leaves lead with [T, N].

    Attributes:
      obs: observation the action was chosen from.
      action: action taken.
      reward: float32 reward of the step.
      terminated: bool, the episode ended here by the environment's own rule; nothing follows.
      truncated: bool, the episode was cut here; `next_obs` still has a value.
      next_obs: the true successor, never the first observation of the next episode.
      aux: what `act` returned beside the action, such as the log-probability.
      memory: [N], the agent's memory at the start of the trajectory only.
      mask: [T, N], 1 where the step counts; `()` where every step does.
    """

    obs: PyTree
    action: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: PyTree
    aux: PyTree = ()
    memory: PyTree = ()
    mask: PyTree = ()


class TrainState(NamedTuple):
    """Everything a gradient learner carries: arrays only, so every part of it can be vmapped.

    Unlike flax's TrainState it does not hold the optimizer: that is rebuilt from `hparams` in every update.
    """

    params: PyTree
    opt_state: PyTree
    hparams: Any
    num_updates: jax.Array


class Env(NamedTuple):
    """An environment as two pure functions and two static spaces. It never resets by itself: the loop does.

    Attributes:
      reset: `(key, env_params=None) -> (obs, env_state)`.
      step: `(key, env_state, action, env_params=None) -> EnvStep`.
      observation_space, action_space: one of the spaces below.
    """

    reset: Callable[..., tuple[Any, Any]]
    step: Callable[..., EnvStep]
    observation_space: Space
    action_space: Space


class EnvStep(NamedTuple):
    """What one step of an environment returns.

    Attributes:
      obs: the true successor, also where the episode ended.
      env_state: the environment's next state.
      reward: float32 scalar.
      terminated, truncated: bool scalars.
      info: dict of scalars whose means over a rollout become the metrics `env/<name>`; `()` for none.
    """

    obs: PyTree
    env_state: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: PyTree = ()


# --- Spaces: frozen and hashable, so an Env can be static under jit ---------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0, ..., n - 1."""

    n: int
    dtype: str = "int32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return ()


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers; element i lies in 0, ..., num_values[i] - 1."""

    num_values: tuple[int, ...]
    dtype: str = "int32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return (len(self.num_values),)


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape between bounds.

    Attributes:
      low, high: one bound for all elements, or a flat tuple with one bound an element in C order; may be infinite.
      shape: shape of an element of the space.
      dtype: its dtype's name.
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    shape: tuple[int, ...] = ()
    dtype: str = "float32"

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The two bounds as arrays of the space's shape."""
        low = np.asarray(self.low, self.dtype)
        high = np.asarray(self.high, self.dtype)
        if low.ndim:
            low = low.reshape(self.shape)
        if high.ndim:
            high = high.reshape(self.shape)
        return np.broadcast_to(low, self.shape), np.broadcast_to(high, self.shape)


@dataclasses.dataclass(frozen=True)
class Dict:
    """A dict of spaces, kept as a tuple of (name, space) so that it can be hashed."""

    spaces: tuple[tuple[str, Space], ...]

    def __getitem__(self, name: str) -> Space:
        return dict(self.spaces)[name]

    def __contains__(self, name: object) -> bool:
        return name in dict(self.spaces)


@dataclasses.dataclass(frozen=True)
class Tuple:
    """A tuple of spaces."""

    spaces: tuple[Space, ...]


Space: TypeAlias = Discrete | MultiDiscrete | Box | Dict | Tuple


# --- Hyperparameters are data -----------------------------------------------------------------------------------------


def get_hparams(state: Any) -> Any:
    """The hyperparameters inside an agent's state, below any combinators' states.

    Raises:
      TypeError: the state has neither a field `hparams` nor a field `agent` that leads to one.
    """
    if hasattr(state, "hparams"):
        return state.hparams
    if hasattr(state, "agent"):
        return get_hparams(state.agent)
    raise TypeError(f"state of type {type(state).__name__} has no field 'hparams' and no field 'agent'")


def set_hparams(state: Any, hparams: Any) -> Any:
    """The same state with other hyperparameters, below any combinators' states. Inverse of `get_hparams`."""
    if hasattr(state, "hparams"):
        return state._replace(hparams=hparams)
    if hasattr(state, "agent"):
        return state._replace(agent=set_hparams(state.agent, hparams))
    raise TypeError(f"state of type {type(state).__name__} has no field 'hparams' and no field 'agent'")


class _Experience:
    """Marks a field of an agent's state as experience; see `Experience`."""


Experience: TypeAlias = Annotated[Any, _Experience()]
"""A field of an agent's state that belongs to its environments: replay, traces, steps that wait. Not of the learner."""


def get_learner(state: Any) -> dict[str, PyTree]:
    """What an agent has learned, below any combinators: each field of its state but those annotated `Experience`.

    It holds parameters, optimizer state, hyperparameters, counters and running statistics, never replay.

    Args:
      state: an agent's state, a NamedTuple. The field `agent` of a combinator's state is walked into.

    Returns:
      A dict from the names of fields to their values, a dict again for `agent`.

    Raises:
      TypeError: the state is no NamedTuple.
    """
    names = _learned(state)
    return {name: get_learner(state.agent) if name == "agent" else getattr(state, name) for name in names}


def set_learner(state: Any, learner: dict[str, PyTree]) -> Any:
    """The same state with another learner, as `get_learner` returned it: the experience stays, and so do typed keys."""

    def field(name: str) -> Any:
        if name == "agent":
            return set_learner(state.agent, learner["agent"])
        return jax.tree.map(lambda old, new: old if is_key(old) else new, getattr(state, name), learner[name])

    return state._replace(**{name: field(name) for name in _learned(state)})


def _learned(state: Any) -> list[str]:
    if not hasattr(state, "_fields"):
        raise TypeError(f"an agent's state must be a NamedTuple to be copied, not {type(state).__name__}")
    hints = get_type_hints(type(state), include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return [name for name in state._fields if not any(isinstance(m, _Experience) for m in marks.get(name, ()))]


def cast(tree: PyTree) -> PyTree:
    """Strongly typed arrays for every leaf: float to the default float, int to int32, bool kept.

    A leaf of a NamedTuple or dataclass takes the kind of its field's default, so `learning_rate=1` is a float.
    Typed keys and tracers of the right dtype pass through; values never change the dtype, so they never trace again.
    """
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        defaults = getattr(tree, "_field_defaults", {})
        return type(tree)(*(_cast_field(value, defaults.get(name)) for name, value in zip(tree._fields, tree)))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        values = {
            f.name: _cast_field(getattr(tree, f.name), f.default) for f in dataclasses.fields(tree) if _is_data(f)
        }
        return dataclasses.replace(tree, **values)
    return jax.tree.map(lambda leaf: _cast_leaf(leaf, leaf), tree)


def _is_data(field: dataclasses.Field) -> bool:
    return bool(field.metadata.get("pytree_node", True)) and field.init


def _cast_field(value: Any, default: Any) -> Any:
    if isinstance(default, bool | int | float) and len(jax.tree.leaves(value)) == 1:
        return jax.tree.map(lambda leaf: _cast_leaf(leaf, default), value)
    return cast(value)


def _cast_leaf(leaf: Any, like: Any) -> Any:
    """The leaf with the kind of `like`, except that a fraction stays one where an integer was expected."""
    if is_key(leaf):
        return leaf
    kinds = [np.dtype(jnp.result_type(x)) for x in (leaf, like)]
    if any(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
        return jax.lax.convert_element_type(leaf, jax.dtypes.canonicalize_dtype(float))
    if any(jnp.issubdtype(kind, jnp.integer) for kind in kinds):
        return jax.lax.convert_element_type(leaf, jnp.int32)
    return jnp.asarray(leaf)


class Interval(NamedTuple):
    """The range of a hyperparameter, both ends allowed: `discount: Annotated[Any, Interval(0, 1)]`."""

    low: float
    high: float


NonNegative: TypeAlias = Annotated[Any, Interval(0.0, float("inf"))]
UnitInterval: TypeAlias = Annotated[Any, Interval(0.0, 1.0)]
AtLeastOne: TypeAlias = Annotated[Any, Interval(1.0, float("inf"))]


def hparam_ranges(hparams_class: type) -> dict[str, Interval]:
    """The range of each field of a hyperparameter class that is annotated with an `Interval`."""
    hints = get_type_hints(hparams_class, include_extras=True)
    found = {
        name: [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Interval)] for name, hint in hints.items()
    }
    return {name: intervals[0] for name, intervals in found.items() if intervals}


def check_hparams(hparams: Any) -> None:
    """Reject hyperparameters that are NaN or out of range, before anything is compiled.

    Traced values cannot be looked at and pass; `hparam_ranges` tells the ranges.

    Raises:
      ValueError: names the field, its value and its range.
    """
    ranges = hparam_ranges(type(hparams))
    for name in getattr(hparams, "_fields", ()):
        for leaf in jax.tree.leaves(getattr(hparams, name)):
            if not isinstance(leaf, jax.core.Tracer) and not is_key(leaf):
                _check_value(f"{type(hparams).__name__}.{name}", np.asarray(leaf), ranges.get(name))


def _check_value(name: str, value: np.ndarray, limits: Interval | None) -> None:
    if np.issubdtype(value.dtype, np.floating) and np.isnan(value).any():
        raise ValueError(f"{name} is NaN")
    if limits is None:
        return
    bad = value[(value < limits.low) | (value > limits.high)]
    if bad.size:
        raise ValueError(f"{name} = {bad.flat[0]} is outside [{limits.low}, {limits.high}]")


def action_mask(obs: PyTree) -> Any:
    """What `obs["action_mask"]` says of the actions, true where one is allowed; None where it says nothing."""
    return obs["action_mask"] if isinstance(obs, dict) and "action_mask" in obs else None


# --- Checks that say what is wrong before anything is compiled --------------------------------------------------------


def check_key(key: Any) -> None:
    """Reject anything but a typed key.

    Raises:
      TypeError: `key` is a raw uint32 key, a seed, or something else.
    """
    if not is_key(key):
        raise TypeError(f"key must be a typed key, jax.random.key(seed); got {type(key).__name__}")


def is_key(x: Any) -> bool:
    """Whether a leaf, or the spec of one, is a typed key."""
    return jax.dtypes.issubdtype(getattr(x, "dtype", np.dtype(object)), jax.dtypes.prng_key)


def key_implementation(spec: Any) -> Any:
    """How a typed key, or the spec of one, makes its numbers: the `impl` of `wrap_key_data`."""
    found: list[Any] = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), jax.ShapeDtypeStruct(spec.shape, spec.dtype))
    return found[0]


def check_positive(**sizes: int) -> None:
    """Reject sizes that are not positive integers.

    Raises:
      ValueError: names the size.
    """
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size!r}")


def check_action(action: Any, space: Space) -> None:
    """Reject an action whose shape or kind cannot belong to a space.

    Raises:
      TypeError: says what the agent returns and what the environment takes.
    """
    if isinstance(space, Dict | Tuple):
        return
    integer = not isinstance(space, Box) or np.issubdtype(np.dtype(space.dtype), np.integer)
    leaves = jax.tree.leaves(action)
    fits = len(leaves) == 1 and leaves[0].shape == space.shape
    if not fits or jnp.issubdtype(leaves[0].dtype, jnp.integer) != integer:
        got = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
        raise TypeError(f"the agent's action is {got}, but the environment's action space is {space}")
