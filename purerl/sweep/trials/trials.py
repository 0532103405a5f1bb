"""The trials of a search: hyperparameters, parameters of the environment and static choices, drawn from one space.

Hyperparameters and environment parameters are data: they are one more axis of a program. Static choices (layer sizes,
rollout length, number of environments) shape the program, so the trials that share them form a group, which compiles
once.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from purerl.hparams import cast, check_env_params, check_hparams, check_positive, python_number, suggestion
from purerl.sweep.trials import draws
from purerl.sweep.trials.spaces import (
    Choice,
    Range,
    SearchSpace,
    Space,
    When,
    check_kind,
    check_space,
    choice,
    ends,
)
from purerl.types import Hparams, PyTree

ENV_PREFIX = "env."


class Constraint(Protocol):
    """Says which settings of a trial are allowed, so that a search spends nothing on those that make no sense."""

    def __call__(self, settings: dict[str, Any], /) -> bool:
        """`settings` has everything that is searched, by name, as Python numbers."""


class Trials(NamedTuple):
    """P points of a search space.

    Attributes:
      hparams: the agent's NamedTuple with leaves [P].
      env_params: parameters of the environment, leaves [P]; None for its own.
      group: [P] index of each trial's static choices.
      groups: the distinct static choices, each a dict of keywords.
      columns: everything that was searched, values [P] by name: hyperparameters, `env.` parameters and static choices.
      space: the space that it was drawn from, by name.
      reference: the environment's parameters apart from those that were searched; None if none were.
    """

    hparams: Hparams
    env_params: PyTree
    group: np.ndarray
    groups: tuple[dict[str, Any], ...]
    columns: dict[str, np.ndarray]
    space: dict[str, Space]
    reference: PyTree = None

    @property
    def size(self) -> int:
        """P."""
        return len(self.group)


def make(
    key: jax.Array,
    hparams: Hparams,
    space: SearchSpace | None,
    num_trials: int | None,
    *,
    method: draws.Method = "random",
    static: Mapping[str, Choice] | None = None,
    env_params: PyTree = None,
    constraint: Constraint | None = None,
) -> Trials:
    """Draw the trials of a search.

    Args:
      key: typed key.
      hparams: the agent's hyperparameters; without a space a table of trials, leaves [P], or `Trials`, used unchanged.
      space: a mapping from names of hyperparameters, and `env.` with fields of `env_params`, to spaces or constants.
      num_trials: number of trials; None takes the grid.
      method: "random" or "sobol".
      static: a mapping from names of static choices to `choice([...])`.
      env_params: parameters of the environment, the same for all trials except those in the space.
      constraint: which settings are allowed; draws that are not are left out, and further ones take their places.

    Raises:
      TypeError, ValueError: a space does not fit, the message names it; or less than one draw in a hundred is allowed.
    """
    if isinstance(hparams, Trials):
        return hparams
    if space is None:
        return _from_table(hparams, num_trials, env_params, static)
    parts = split(hparams, space, static=static, env_params=env_params)
    if num_trials is None:
        drawn = _grid(parts)
        made = assemble(parts, drawn, len(next(iter(drawn.values()))) if drawn else 1)
        return made if constraint is None else _kept(parts, drawn, allowed(made, constraint))
    if constraint is None:
        return assemble(parts, draws.columns(key, parts.drawn, num_trials, method), num_trials)
    for count in num_trials * 2 ** np.arange(8):  # a larger search begins with the draws of the smaller one
        drawn = draws.columns(key, parts.drawn, int(count), method)
        good = allowed(assemble(parts, drawn, int(count)), constraint)
        if good.sum() >= num_trials:
            return _kept(parts, drawn, np.flatnonzero(good)[:num_trials])
    raise ValueError(f"constraint: only {good.sum()} of {count} draws are allowed; narrow the space instead")


def _grid(parts: Parts) -> dict[str, np.ndarray]:
    """Every combination of grid points that differ where they count: a condition that fails adds none of its name."""
    drawn = draws.grid_columns({name: each for name, each in parts.drawn.items() if name not in parts.conditions})
    for name in _parents_first(parts.conditions):
        points = draws.grid_columns({name: parts.drawn[name]})[name]
        numbers = np.where(_active(parts, drawn, name), len(points), 1)  # of rows that each row becomes, [N]
        place = np.concatenate([np.arange(number) for number in numbers.tolist()])
        drawn = {other: np.repeat(column, numbers) for other, column in drawn.items()} | {name: points[place]}
        drawn[name] = _with_default(parts, drawn, name)
    return {name: drawn[name] for name in parts.drawn}


def first_trials(trials: Trials, count: int) -> Trials:
    """The first trials of a table."""

    def first(leaf: np.ndarray) -> np.ndarray:
        return leaf[:count]

    group = trials.group[:count]
    return trials._replace(
        hparams=jax.tree.map(first, trials.hparams), env_params=jax.tree.map(first, trials.env_params),
        group=group, groups=trials.groups[: group.max(initial=0) + 1],
        columns={name: column[:count] for name, column in trials.columns.items()},
    )  # fmt: skip


def allowed(trials: Trials, constraint: Constraint) -> np.ndarray:
    """[P] bool, which trials a constraint allows."""
    rows = zip(*([python_number(value) for value in column] for column in trials.columns.values()))
    return np.array([bool(constraint(dict(zip(trials.columns, row)))) for row in rows], bool)


def _kept(parts: Parts, drawn: Mapping[str, np.ndarray], chosen: np.ndarray) -> Trials:
    """The trials of some rows, a mask or indices."""
    rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    if not rows.size:
        raise ValueError("constraint: no point of the grid is allowed")
    return assemble(parts, {name: column[rows] for name, column in drawn.items()}, len(rows))


class Parts(NamedTuple):
    """A search space by kind: constants, and what is searched.

    Attributes:
      hparams, env_params: with the constants of the space inserted.
      searched, env_searched: spaces of hyperparameters and of `env.` parameters, by name.
      static: static choices, by name.
      conditions: names that are searched only in some trials.
    """

    hparams: Hparams
    searched: dict[str, Space]
    env_params: PyTree
    env_searched: dict[str, Space]
    static: dict[str, Choice]
    conditions: dict[str, When]

    @property
    def drawn(self) -> dict[str, Space]:
        """The spaces that are drawn from; static choices are drawn by index."""
        indices = {name: choice(range(len(each.values)), each.in_turn) for name, each in self.static.items()}
        return {**self.searched, **self.env_searched, **indices}


def split(
    hparams: Hparams, space: SearchSpace, *, static: Mapping[str, Choice] | None = None, env_params: PyTree = None
) -> Parts:
    """Check a search space and split it by kind; arguments and errors as in `make`."""
    conditions = {name: each for name, each in space.items() if isinstance(each, When)}
    space = {name: each.space if isinstance(each, When) else each for name, each in space.items()}
    env_space = {name: each for name, each in space.items() if name.startswith(ENV_PREFIX)}
    hparams, searched = check_space(hparams, {name: space[name] for name in space if name not in env_space})
    checked = _check_static(static or {})
    env_params, env_searched = _check_env_space(env_params, env_space)
    found = Parts(hparams, searched, env_params, env_searched, checked, conditions)
    _check_conditions(found)
    return found


def assemble(parts: Parts, drawn: Mapping[str, np.ndarray], count: int) -> Trials:
    """Trials from drawn values, [count] for each name in `parts.drawn`; where a condition fails the default stays."""
    drawn = _with_defaults(parts, drawn)
    table = draws.table(parts.hparams, {name: drawn[name] for name in parts.searched}, count)
    group, groups = _groups({name: drawn[name] for name in parts.static}, parts.static, count)
    env_columns = {name: drawn[name] for name in parts.env_searched}
    columns = {name: getattr(table, name) for name in parts.searched} | env_columns
    columns |= {name: each.grid()[drawn[name]] for name, each in parts.static.items()}
    params = None if parts.env_params is None else _env_table(parts.env_params, env_columns, count)
    space = {**parts.searched, **parts.env_searched, **parts.static}
    reference = cast(parts.env_params) if parts.env_searched else None
    return Trials(table, params, group, groups, columns, space, reference)


def _with_defaults(parts: Parts, drawn: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The drawn values, and the defaults where a condition fails; conditions ask for the values that are there then."""
    drawn = dict(drawn)
    for name in _parents_first(parts.conditions):
        drawn[name] = _with_default(parts, drawn, name)
    return drawn


def _with_default(parts: Parts, drawn: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return np.where(_active(parts, drawn, name), drawn[name], default_of(parts, name))


def default_of(parts: Parts, name: str) -> np.ndarray:
    """The value of a name in trials in which it is not searched."""
    source = parts.env_params if name in parts.env_searched else parts.hparams
    return np.asarray(getattr(source, name.removeprefix(ENV_PREFIX)))


def _active(parts: Parts, drawn: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """[N] bool, in which rows the condition of a name holds."""
    each = parts.conditions[name]
    holds = _has(parts, drawn, each.parent, each.values)
    return holds if each.also is None else holds & _has(parts, drawn, *each.also)


def _has(parts: Parts, drawn: Mapping[str, np.ndarray], name: str, values: Sequence[Any]) -> np.ndarray:
    """[N] bool, in which rows a name has one of some values."""
    column = drawn[name]
    if name in parts.static:
        column = parts.static[name].grid()[column]
    return is_one_of(column, values)


def is_one_of(column: np.ndarray, values: Sequence[Any]) -> np.ndarray:
    """[N] bool, which entries of a column are one of some values, up to the rounding of float32."""
    return np.array([any(_same(value, option) for option in values) for value in column.tolist()], bool)


def _same(value: Any, option: Any) -> bool:
    numeric = isinstance(value, int | float) and isinstance(option, int | float)
    return math.isclose(value, option, rel_tol=1e-6) if numeric else value == option


def _parents_first(conditions: Mapping[str, When]) -> list[str]:
    """Names with conditions, each after the name that it depends on.

    Raises:
      ValueError: they depend on each other in a circle.
    """
    order: list[str] = []
    while len(order) < len(conditions):
        ready = [
            name for name, each in conditions.items()
            if name not in order and (each.parent not in conditions or each.parent in order)
        ]  # fmt: skip
        if not ready:
            raise ValueError(f"the conditions of {', '.join(sorted(set(conditions) - set(order)))} form a circle")
        order += ready
    return order


def _check_conditions(parts: Parts) -> None:
    known = parts.drawn
    for name, each in parts.conditions.items():
        if each.parent not in known:
            hint = suggestion(each.parent, known)
            raise ValueError(f"space[{name!r}] depends on {each.parent!r}, which is not searched{hint}")
        if name in parts.static:
            raise ValueError(f"space[{name!r}]: a static choice cannot depend on another name")
    _parents_first(parts.conditions)
    for name, each in parts.conditions.items():
        if not any(_occurs(parts, each.parent, value) for value in each.values):
            values = ", ".join(map(str, each.values))
            raise ValueError(f"space[{name!r}] depends on {each.parent} = {values}, which its space never has")


def _occurs(parts: Parts, name: str, value: Any) -> bool:
    """Whether a searched name may have a value: a number of a continuous range only as a point of its grid."""
    space = parts.static.get(name) or parts.drawn[name]
    if name in parts.conditions and _same(default_of(parts, name).item(), value):
        return True
    if isinstance(space, Range) and space.integer:
        return isinstance(value, int | float) and value == int(value) and space.low <= value <= space.high
    if isinstance(space, Range) and space.points is None:
        return False
    return any(_same(value, option) for option in space.grid().tolist())


def _from_table(
    hparams: Hparams, num_trials: int | None, env_params: PyTree, static: Mapping[str, Choice] | None
) -> Trials:
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(hparams)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError("without a space, every leaf of hparams must have the same leading axis: one entry per trial")
    if num_trials is not None:
        raise ValueError(f"num_trials = {num_trials} needs a space to draw from; hparams is a table of trials")
    if static:
        raise ValueError("static choices need a space; pass space={} to search nothing else")
    check_hparams(hparams)
    table = jax.tree.map(np.asarray, cast(hparams))
    count = int(next(iter(sizes))[0])
    varied = {name: column for name, column in table._asdict().items() if (column != column[0]).any()}
    params = env_params if env_params is None else _env_table(env_params, {}, count)
    return Trials(table, params, np.zeros(count, int), ({},), varied, {})


def _groups(
    indices: Mapping[str, np.ndarray], static: Mapping[str, Choice], count: int
) -> tuple[np.ndarray, tuple[dict[str, Any], ...]]:
    """The group of each trial, and the static choices of each group, in the order of their first trials."""
    if not static:
        return np.zeros(count, int), ({},)
    rows = np.stack(list(indices.values()), axis=1)
    found, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # by the first trial of each, so that further trials leave the numbers of groups alone
    choices = tuple({name: static[name].values[i] for name, i in zip(static, row)} for row in found[order].tolist())
    return np.argsort(order)[group.reshape(-1)], choices


def _check_static(static: Mapping[str, Choice]) -> dict[str, Choice]:
    for name, each in static.items():
        if not isinstance(each, Choice):
            raise TypeError(f"static[{name!r}] = {each!r} must be choice([...]): each value is a separate program")
        for value in each.values:
            if name in ("num_envs", "rollout_length"):
                check_positive(**{name: value})
            try:
                hash(value)
            except TypeError:
                raise TypeError(f"static[{name!r}]: {value!r} must be hashable, such as (64, 64)") from None
    return dict(static)


def _check_env_space(env_params: PyTree, space: SearchSpace) -> tuple[PyTree, dict[str, Space]]:
    """The environment's parameters with the constants inserted, and the remaining spaces."""
    if not space:
        return env_params, {}
    if env_params is None:
        raise ValueError(
            f"space[{next(iter(space))!r}] needs the parameters to vary: pass env_params=purerl.envs.env_params(id)"
        )
    fields = _fields(env_params)
    for name in space:
        if name.removeprefix(ENV_PREFIX) not in fields:
            hint = suggestion(name.removeprefix(ENV_PREFIX), fields)
            raise ValueError(f"space[{name!r}]: {type(env_params).__name__} has no such parameter{hint}")
        for value in ends(space[name]):
            check_kind(name, value, getattr(env_params, name.removeprefix(ENV_PREFIX)))
            if not np.isfinite(value).all():
                raise ValueError(f"space[{name!r}]: {value!r} is not finite")
            check_env_params({name: value})
    constants = {name: each for name, each in space.items() if not isinstance(each, Range | Choice)}
    env_params = _replace(env_params, {name.removeprefix(ENV_PREFIX): value for name, value in constants.items()})
    return env_params, {name: each for name, each in space.items() if isinstance(each, Range | Choice)}


def _env_table(env_params: PyTree, columns: Mapping[str, np.ndarray], count: int) -> PyTree:
    base = jax.tree.map(np.asarray, cast(env_params))
    full = jax.tree.map(lambda leaf: np.repeat(leaf[None], count, axis=0), base)
    fields = {name.removeprefix(ENV_PREFIX): values for name, values in columns.items()}
    return _replace(full, {name: values.astype(getattr(base, name).dtype) for name, values in fields.items()})


def _fields(env_params: PyTree) -> tuple[str, ...]:
    if dataclasses.is_dataclass(env_params):
        return tuple(field.name for field in dataclasses.fields(env_params))
    return tuple(getattr(env_params, "_fields", ()))


def _replace(env_params: PyTree, values: Mapping[str, Any]) -> PyTree:
    if dataclasses.is_dataclass(env_params) and not isinstance(env_params, type):
        return dataclasses.replace(env_params, **values)
    return env_params._replace(**values)


def label(static: Mapping[str, Any]) -> str:
    """A group in words.

    Examples:
      >>> label({"hidden": (64, 64), "num_envs": 4})
      'hidden=(64, 64) num_envs=4'
    """
    return " ".join(itertools.starmap("{}={}".format, static.items()))
