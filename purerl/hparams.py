"""Hyperparameters as data: casting, ranges, checks, and reading and replacing them inside an agent's state."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import operator
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple, TypeAlias, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from purerl.prng import is_key
from purerl.types import ExperienceMark, Hparams, Params, PyTree, State


def get_hparams(state: State) -> Hparams:
    """The hyperparameters inside an agent's state, below any combinators' states.

    Raises:
      TypeError: the state has neither a field `hparams` nor a field `agent` that leads to one.

    Examples:
      >>> from purerl.types import TrainState
      >>> get_hparams(TrainState(params=(), opt_state=(), hparams={"discount": 0.9}, num_updates=0))
      {'discount': 0.9}
    """
    return _get(state, "hparams")


def set_hparams(state: State, hparams: Hparams) -> State:
    """The same state with other hyperparameters, below any combinators' states. Inverse of `get_hparams`.

    Scalars replace arrays as arrays of the same shape, such as the hyperparameters [A] of `with_separate_policies`.

    Examples:
      >>> from purerl.types import TrainState
      >>> state = TrainState(params=(), opt_state=(), hparams={"discount": 0.9}, num_updates=0)
      >>> set_hparams(state, {"discount": 0.5}).hparams
      {'discount': 0.5}
    """
    old = get_hparams(state)
    if operator.eq(jax.tree.structure(old), jax.tree.structure(hparams)):
        hparams = jax.tree.map(_of_shape, old, hparams)
    return _set(state, "hparams", hparams)


def _of_shape(old: PyTree, new: PyTree) -> PyTree:
    return jnp.broadcast_to(new, jnp.shape(old)) if jnp.ndim(old) > 0 and jnp.ndim(new) == 0 else new


def get_params(state: State) -> Params:
    """The parameters that an agent has learned, below any combinators' states.

    Examples:
      >>> from purerl.types import TrainState
      >>> get_params(TrainState(params={"w": 1.0}, opt_state=(), hparams=(), num_updates=0))
      {'w': 1.0}

    Raises:
      TypeError: the state has neither a field `params` nor a field `agent` that leads to one, as with tables.
    """
    return _get(state, "params")


def set_params(state: State, params: Params) -> State:
    """The same state with other parameters, below any combinators' states; target copies stay as they are.

    Inverse of `get_params`.
    """
    return _set(state, "params", params)


def _get(state: State, name: str) -> PyTree:
    if hasattr(state, name):
        return getattr(state, name)
    if hasattr(state, "agent"):
        return _get(state.agent, name)
    raise TypeError(f"state of type {type(state).__name__} has no field {name!r} and no field 'agent'")


def _set(state: State, name: str, value: PyTree) -> State:
    if hasattr(state, name):
        return state._replace(**{name: value})
    if hasattr(state, "agent"):
        return state._replace(agent=_set(state.agent, name, value))
    raise TypeError(f"state of type {type(state).__name__} has no field {name!r} and no field 'agent'")


def warn_if_annealed(state: State, hparams: Hparams) -> None:
    """Warn that an agent that continues from a trained state cannot learn, because its learning rate has reached 0.

    The learning rate is 0 once the state has made `anneal_updates` updates. Traced values, and agents that do not
    anneal, pass.

    Args:
      state: the trained state to continue from.
      hparams: the hyperparameters to continue with.
    """
    anneal_updates = getattr(hparams, "anneal_updates", None)
    try:
        num_updates = _get(state, "num_updates")
    except TypeError:
        return
    if anneal_updates is None or any(isinstance(x, jax.core.Tracer) for x in (anneal_updates, num_updates)):
        return
    if np.all(np.asarray(num_updates) >= np.asarray(anneal_updates)):
        warnings.warn(
            f"this state has made {np.max(num_updates)} updates and its learning rate has reached 0 at "
            f"anneal_updates = {np.max(anneal_updates)}, so it cannot learn; use a larger anneal_updates, or inf",
            stacklevel=3,
        )


def annealed_longer(state: State, stretch: float) -> State:
    """The state of agents that are trained further, with learning rates that have reached 0 annealed to the new end.

    Args:
      state: leaves [...] or [W, ...], of JAX or NumPy.
      stretch: the new number of updates over that of before. `anneal_updates` grows by it if less than one of its
        updates is left, and stays as it is otherwise.
    """
    try:
        hparams, made = get_hparams(state), _get(state, "num_updates")
    except TypeError:
        return state
    if not hasattr(hparams, "anneal_updates"):
        return state
    before = hparams.anneal_updates
    after = np.where(made > before - 1, before * stretch, before).astype(before.dtype)
    return set_hparams(state, hparams._replace(anneal_updates=after))


def get_learner(state: State) -> dict[str, PyTree]:
    """The part of an agent's state that it has learned: every field except those annotated `Experience`.

    It holds parameters, optimizer state, hyperparameters, counters and running statistics, never replay.

    Args:
      state: an agent's state, a NamedTuple. The field `agent` of a combinator's state is walked into.

    Returns:
      A dict from the names of fields to their values, a dict again for `agent`.

    Raises:
      TypeError: the state is not a NamedTuple.

    Examples:
      >>> from purerl.combinators.replay import ReplayState
      >>> from purerl.types import TrainState
      >>> state = ReplayState(TrainState("weights", (), (), 3), ring="many steps")
      >>> get_learner(state)
      {'agent': {'params': 'weights', 'opt_state': (), 'hparams': (), 'num_updates': 3}}
    """
    names = _learned(state)
    return {name: get_learner(state.agent) if name == "agent" else getattr(state, name) for name in names}


def set_learner(state: State, learner: dict[str, PyTree]) -> State:
    """The same state with another learner, as `get_learner` returned it: the experience stays, and so do typed keys.

    Examples:
      >>> from purerl.types import TrainState
      >>> mine, theirs = TrainState(1, (), (), 10), TrainState(2, (), (), 20)
      >>> set_learner(mine, get_learner(theirs)).params
      2
    """

    def field(name: str) -> PyTree:
        if name == "agent":
            return set_learner(state.agent, learner["agent"])
        return jax.tree.map(lambda old, new: old if is_key(old) else new, getattr(state, name), learner[name])

    return state._replace(**{name: field(name) for name in _learned(state)})


def _learned(state: State) -> list[str]:
    """Names of the fields of a state that are learned."""
    if not hasattr(state, "_fields"):
        raise TypeError(f"an agent's state must be a NamedTuple to be copied, not {type(state).__name__}")
    hints = get_type_hints(type(state), include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return [name for name in state._fields if not any(isinstance(m, ExperienceMark) for m in marks.get(name, ()))]


def cast(tree: PyTree) -> PyTree:
    """Strongly typed arrays for every leaf: float to the default float, int to int32, bool kept.

    A leaf of a NamedTuple or dataclass takes the kind of its field's default, so `learning_rate=1` is a float.
    Typed keys and tracers of the right dtype pass through; values never change the dtype, so they never trace again.

    Examples:
      >>> class Hparams(NamedTuple):
      ...     learning_rate: float = 3e-4
      ...     num_steps: int = 5
      >>> [leaf.dtype.name for leaf in cast(Hparams(learning_rate=1, num_steps=3))]
      ['float32', 'int32']
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


def _cast_field(value: PyTree, default: object) -> PyTree:
    if isinstance(default, bool | int | float) and len(jax.tree.leaves(value)) == 1:
        return jax.tree.map(lambda leaf: _cast_leaf(leaf, default), value)
    return cast(value)


def _cast_leaf(leaf: PyTree, like: PyTree) -> PyTree:
    """The leaf with the kind of `like`, except that a fraction stays one if an integer was expected."""
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
Positive: TypeAlias = Annotated[Any, Interval(1e-30, float("inf"))]
UnitInterval: TypeAlias = Annotated[Any, Interval(0.0, 1.0)]
SignedUnitInterval: TypeAlias = Annotated[Any, Interval(-1.0, 1.0)]
AtLeastOne: TypeAlias = Annotated[Any, Interval(1.0, float("inf"))]


def hparam_ranges(hparams_class: type) -> dict[str, Interval]:
    """The range of each field of a hyperparameter class that is annotated with an `Interval`.

    Examples:
      >>> class Hparams(NamedTuple):
      ...     discount: UnitInterval = 0.99
      ...     seed: int = 0
      >>> hparam_ranges(Hparams)
      {'discount': Interval(low=0.0, high=1.0)}
    """
    hints = get_type_hints(hparams_class, include_extras=True)
    found = {
        name: [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Interval)] for name, hint in hints.items()
    }
    return {name: intervals[0] for name, intervals in found.items() if intervals}


def check_hparams(hparams: Hparams) -> None:
    """Reject hyperparameters that are NaN, out of range or integers beyond int32, before anything is compiled.

    Traced values cannot be inspected and pass; `hparam_ranges` has the ranges. A class may have a method `check()`
    for relations between its fields, which is called too.

    Raises:
      TypeError: the hyperparameters are not a NamedTuple, or a field is not a number; it is named.
      ValueError: names the field, its value and its range.

    Examples:
      >>> class Hparams(NamedTuple):
      ...     discount: UnitInterval = 0.99
      >>> check_hparams(Hparams(discount=1.5))
      Traceback (most recent call last):
      ValueError: Hparams.discount = 1.5 is outside [0.0, 1.0]
    """
    check_instance(hparams)
    if not hasattr(hparams, "dtype") and any(leaf is hparams for leaf in jax.tree.leaves(hparams)):
        raise TypeError(f"hparams must be a NamedTuple of hyperparameters, not {type(hparams).__name__}")
    ranges = hparam_ranges(type(hparams))
    defaults = getattr(hparams, "_field_defaults", {})
    for name in getattr(hparams, "_fields", ()):
        for leaf in jax.tree.leaves(getattr(hparams, name)):
            if not isinstance(leaf, jax.core.Tracer) and not is_key(leaf):
                label, value = f"{type(hparams).__name__}.{name}", np.asarray(leaf)
                _check_value(label, value, ranges.get(name), defaults.get(name))
                _check_finite(type(hparams), name, value)
    check = getattr(hparams, "check", None)
    if check is not None and not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(hparams)):
        check()


def check_instance(hparams: Hparams) -> None:
    """Reject what is no instance of a class of hyperparameters, such as the class itself.

    Raises:
      TypeError: says what was given.
    """
    if isinstance(hparams, list | str | int | float | type):
        got = f"the class {hparams.__name__} itself" if isinstance(hparams, type) else type(hparams).__name__
        raise TypeError(f"hparams must be a NamedTuple, such as purerl.PPOHparams(); got {got}")


@contextlib.contextmanager
def naming_what_is_missing(hparams: Hparams) -> Iterator[None]:
    """Report an attribute that the body does not find in the hyperparameters as the field that it is.

    Raises:
      TypeError: names the class and the field.

    Examples:
      >>> with naming_what_is_missing({"discount": 0.9}):
      ...     {"discount": 0.9}.discount
      Traceback (most recent call last):
      TypeError: hparams must be a NamedTuple with the field 'discount', which this agent reads; got dict
    """
    try:
        yield
    except AttributeError as error:
        if type(error.obj) is not type(hparams):
            raise
        raise TypeError(
            f"hparams must be a NamedTuple with the field {error.name!r}, which this agent reads; "
            f"got {type(hparams).__name__}"
        ) from error


def check_env_params(env_params: PyTree) -> None:
    """Reject parameters of an environment with a scalar that is NaN, or an integer beyond int32.

    Raises:
      ValueError: names it.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(env_params)[0]:
        known = not isinstance(leaf, jax.core.Tracer) and not is_key(leaf) and np.ndim(leaf) == 0
        if known and np.asarray(leaf).dtype.kind == "f" and np.isnan(leaf):
            raise ValueError(f"env_params{jax.tree_util.keystr(path)} is NaN")
        if known and _beyond_int32(np.asarray(leaf)):
            raise ValueError(f"env_params{jax.tree_util.keystr(path)} = {leaf} is beyond the range of int32")


_FINITE = re.compile(r"(learning_rate|step_size|_coef|tau|discount|gae_lambda|temperature|beta|gamma)$")


def _check_finite(hparams_class: type, name: str, value: np.ndarray) -> None:
    """Reject infinity where it can only spoil the parameters; what it means in a class of the user's is not known.

    Raises:
      ValueError: names the field.
    """
    if hparams_class.__module__.startswith("purerl.") and _FINITE.search(name) and np.isinf(value).any():
        raise ValueError(f"{hparams_class.__name__}.{name} = {value} must be finite")


def _check_value(name: str, value: np.ndarray, limits: Interval | None, default: Any) -> None:
    if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
        raise TypeError(f"{name} = {value} is not a number")
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    if value.dtype.kind == "b" and is_number:
        raise TypeError(f"{name} = {value} is a bool, not a number")
    if np.issubdtype(value.dtype, np.floating) and np.isnan(value).any():
        raise ValueError(f"{name} is NaN")
    with np.errstate(over="ignore"):
        narrow = value.astype(np.float32) if isinstance(default, float) else value
    if (np.isinf(narrow) & np.isfinite(value)).any():
        raise ValueError(f"{name} = {value} is beyond the range of float32")
    if not isinstance(default, float) and _beyond_int32(value):
        raise ValueError(f"{name} = {value} is beyond the range of int32")
    if limits is None:
        return
    bad = value[(value < limits.low) | (value > limits.high)]
    if bad.size:
        raise ValueError(f"{name} = {bad.flat[0]} is outside [{limits.low}, {limits.high}]")


def _beyond_int32(value: np.ndarray) -> bool:
    """Whether an integer would change its value in `cast`."""
    return value.dtype.kind in "iu" and bool((value != value.astype(np.int32)).any())


def check_positive(**sizes: int) -> None:
    """Reject sizes that are not positive integers.

    Raises:
      ValueError: names the size.

    Examples:
      >>> check_positive(num_envs=0)
      Traceback (most recent call last):
      ValueError: num_envs must be a positive integer, got 0
    """
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size!r}")


def python_number(value: Any) -> Any:
    """A NumPy or JAX scalar as a Python number, a float32 in its fewest digits; anything else as it is.

    Examples:
      >>> python_number(np.float32(0.1)), python_number(jnp.int32(3)), python_number((64, 64))
      (0.1, 3, (64, 64))
    """
    if not hasattr(value, "dtype") or np.ndim(value) or is_key(value):
        return value
    return float(str(value)) if np.issubdtype(value.dtype, np.floating) else value.item()


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known ones, in any case of letters, or else all of them.

    Examples:
      >>> suggestion("learningrate", ["learning_rate", "discount"])
      "; did you mean 'learning_rate'?"
    """
    known = list(known)
    by_lower = {other.lower(): other for other in known}
    near = [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; known are {', '.join(known)}"
