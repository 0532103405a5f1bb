"""The trials of a search: hyperparameters, parameters of the environment and static choices, drawn from one space.

Hyperparameters and environment parameters are data: they are one more axis of a program. Static choices (layer sizes,
rollout length, number of environments) shape the program, so the trials that share them form a group, which compiles
once.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl.hparams import cast, check_hparams, suggestion
from purerl.sweep.trials import draws
from purerl.sweep.trials.spaces import Choice, Range, SearchSpace, Space, check_space, choice
from purerl.types import Hparams, PyTree

ENV_PREFIX = "env."


class Trials(NamedTuple):
    """P points of a search space.

    Attributes:
      hparams: the agent's NamedTuple with leaves [P].
      env_params: parameters of the environment, leaves [P]; None for its own.
      group: [P] index of each trial's static choices.
      groups: the distinct static choices, each a dict of keywords.
      columns: everything that was searched, values [P] by name: hyperparameters, `env.` parameters and static choices.
      space: the space that it was drawn from, by name.
    """

    hparams: Hparams
    env_params: PyTree
    group: np.ndarray
    groups: tuple[dict[str, Any], ...]
    columns: dict[str, np.ndarray]
    space: dict[str, Space]

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

    Raises:
      TypeError, ValueError: a space does not fit; the message names it.
    """
    if isinstance(hparams, Trials):
        return hparams
    if space is None:
        return _from_table(hparams, num_trials, env_params, static)
    parts = split(hparams, space, static=static, env_params=env_params)
    together = parts.drawn
    drawn = draws.grid_columns(together) if num_trials is None else draws.columns(key, together, num_trials, method)
    return assemble(parts, drawn, num_trials or (len(next(iter(drawn.values()))) if drawn else 1))


class Parts(NamedTuple):
    """A search space by kind: constants, and what is searched.

    Attributes:
      hparams, env_params: with the constants of the space inserted.
      searched, env_searched: spaces of hyperparameters and of `env.` parameters, by name.
      static: static choices, by name.
    """

    hparams: Hparams
    searched: dict[str, Space]
    env_params: PyTree
    env_searched: dict[str, Space]
    static: dict[str, Choice]

    @property
    def drawn(self) -> dict[str, Space]:
        """The spaces that are drawn from; static choices are drawn by index."""
        indices = {name: choice(range(len(each.values))) for name, each in self.static.items()}
        return {**self.searched, **self.env_searched, **indices}


def split(
    hparams: Hparams, space: SearchSpace, *, static: Mapping[str, Choice] | None = None, env_params: PyTree = None
) -> Parts:
    """Check a search space and split it by kind; arguments and errors as in `make`."""
    env_space = {name: each for name, each in space.items() if name.startswith(ENV_PREFIX)}
    hparams, searched = check_space(hparams, {name: space[name] for name in space if name not in env_space})
    checked = _check_static(static or {})
    env_params, env_searched = _check_env_space(env_params, env_space)
    return Parts(hparams, searched, env_params, env_searched, checked)


def assemble(parts: Parts, drawn: Mapping[str, np.ndarray], count: int) -> Trials:
    """Trials from drawn values, [count] for each name in `parts.drawn`."""
    table = draws.table(parts.hparams, {name: drawn[name] for name in parts.searched}, count)
    group, groups = _groups({name: drawn[name] for name in parts.static}, parts.static, count)
    env_columns = {name: drawn[name] for name in parts.env_searched}
    columns = {name: getattr(table, name) for name in parts.searched} | env_columns
    columns |= {name: each.grid()[drawn[name]] for name, each in parts.static.items()}
    params = None if parts.env_params is None else _env_table(parts.env_params, env_columns, count)
    space = {**parts.searched, **parts.env_searched, **parts.static}
    return Trials(table, params, group, groups, columns, space)


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
    """The group of each trial, and the static choices of each group that has trials, in the order of the choices."""
    if not static:
        return np.zeros(count, int), ({},)
    rows = np.stack(list(indices.values()), axis=1)
    found, group = np.unique(rows, axis=0, return_inverse=True)
    choices = tuple({name: static[name].values[i] for name, i in zip(static, row)} for row in found.tolist())
    return group.reshape(-1), choices


def _check_static(static: Mapping[str, Choice]) -> dict[str, Choice]:
    for name, each in static.items():
        if not isinstance(each, Choice):
            raise TypeError(f"static[{name!r}] = {each!r} must be choice([...]): each value is a separate program")
        for value in each.values:
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
