"""The files of a result: CSV and JSON for people and other programs, and checkpoints from which it is loaded."""

from __future__ import annotations

import collections
import csv
import functools
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import checkpoint, loops
from purerl.checkpoint import Json
from purerl.sweep.trials.algorithms import AgentSource, built
from purerl.text import csv_text
from purerl.types import Env, Hparams, PyTree

Row: TypeAlias = Mapping[str, Any]
"""A row of a table, values by the names of its columns."""

_FLOAT = "float"


def write_csv(rows: Sequence[Row], path: str | os.PathLike[str]) -> Path:
    """A header and one line per row; NaN becomes an empty field."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return Path(path)


def _cell(value: Any) -> Any:
    return csv_text(value) if isinstance(value, str) else "" if value != value else value


def write_json(content: Json, path: str | os.PathLike[str]) -> Path:
    """Strict JSON: NaN becomes null, an infinity the string "inf" or "-inf"."""
    Path(path).write_text(json.dumps(_plain(content, _readable), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return Path(path)


def write_json_items(about: Mapping[str, Json], name: str, items: Iterable[Json], path: str | os.PathLike[str]) -> Path:
    """As `write_json`, with a last member `name` whose items, one line each, are made one after the other."""
    with open(path, "w", encoding="utf-8") as file:
        head = json.dumps(_plain(about, _readable), indent=1, allow_nan=False).removesuffix("\n}")
        file.write(f"{head},\n {json.dumps(name)}: [")
        for number, item in enumerate(items):
            text = json.dumps(_plain(item, _readable), allow_nan=False)
            file.write(f"{',' * (number > 0)}\n  {text}")
        file.write("\n ]\n}\n")
    return Path(path)


def write_blocks(names: Sequence[str], blocks: Iterable[Iterable[Sequence[Any]]], path: str | os.PathLike[str]) -> Path:
    """A CSV file from blocks of rows, each a sequence of values; a long table is never whole in memory."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for rows in blocks:
            writer.writerows(rows)
    return Path(path)


def made_with() -> dict[str, str]:
    """The kind of the devices and the versions, for the record."""
    return {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "purerl": purerl.__version__}


def write_arrays(
    directory: Path, arrays: Mapping[str, np.ndarray], hparams: Hparams, about: Mapping[str, Json]
) -> None:
    """A checkpoint `directory/arrays`; `about` is JSON."""
    content = {"arrays": dict(arrays), "hparams": hparams._asdict()}
    shapes = jax.tree.map(lambda leaf: {"shape": leaf.shape, "dtype": str(leaf.dtype)}, content)
    about = {**about, "shapes": shapes, "name": type(hparams).__name__, "fields": hparams._fields}
    checkpoint.save(directory / "arrays", content, _plain(about, _tagged), overwrite=True)


def write_states(directory: Path, states: Sequence[PyTree] | None, groups: np.ndarray) -> None:
    """A checkpoint `directory/states` of K agents' states, stacked by their groups; no states write no file."""
    if not states:
        return
    stacked = {}
    for group in np.unique(groups).tolist():
        members = [state for state, owner in zip(states, groups) if owner == group]
        stacked[f"group{group}"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    checkpoint.save(directory / "states", stacked, overwrite=True)


def read_arrays(directory: Path, hparams: Hparams = None) -> tuple[dict[str, np.ndarray], Any, dict[str, Any]]:
    """The arrays, the table of hyperparameters and `about`, as they were given to `write_arrays`.

    Args:
      directory: the directory given to `write_arrays`.
      hparams: a NamedTuple whose class the table shall have; None makes one of the same name and fields.

    Raises:
      CheckpointError: a file is damaged or missing.
      TypeError: `hparams` has other fields.
    """
    about = checkpoint.read_metadata(directory / "arrays")
    like = jax.tree.map(lambda leaf: np.empty(**leaf), about["shapes"], is_leaf=lambda leaf: "dtype" in leaf)
    stored = jax.tree.map(np.asarray, checkpoint.restore(directory / "arrays", like))
    make: Any = collections.namedtuple(about["name"], about["fields"]) if hparams is None else type(hparams)
    if set(make._fields) != set(about["fields"]):
        raise TypeError(f"the search was over {', '.join(about['fields'])}; {make.__name__} has other fields")
    return stored["arrays"], make(**stored["hparams"]), about


def read_states(
    directory: Path,
    agent: AgentSource,
    env: Env,
    hparams: Hparams,
    num_envs: int,
    owners: np.ndarray,
    groups: Sequence[Row],
) -> tuple[PyTree, ...] | None:
    """The kept states, one per agent; None if there are none.

    Args:
      directory: the directory given to `write_states`.
      agent: the agent, or a function from static choices to one.
      env, hparams, num_envs: those of the search.
      owners: [K] the group of each.
      groups: the static choices of each group.

    Raises:
      CheckpointError: a file is damaged, or the states are not those of this agent in this environment.
    """
    if not (directory / "states").exists():
        return None
    like = {}
    for group, count in zip(*(each.tolist() for each in np.unique(owners, return_counts=True))):
        static = {name: value for name, value in groups[group].items() if name not in ("num_envs", "rollout_length")}
        made = built(agent, static)
        count_envs = groups[group].get("num_envs", made.num_envs or num_envs)
        begin = functools.partial(
            loops.start, agent=made.agent, env=made.env or env, hparams=one_of(hparams), num_envs=count_envs
        )
        state = jax.eval_shape(lambda key, begin=begin: begin(key).agent_state, jax.random.key(0))
        like[f"group{group}"] = jax.tree.map(
            lambda leaf, count=count: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), state
        )
    stored = checkpoint.restore(directory / "states", like)
    places = [int((owners[:i] == group).sum()) for i, group in enumerate(owners)]
    return tuple(
        jax.tree.map(lambda leaf, place=place: leaf[place], stored[f"group{group}"])
        for group, place in zip(owners.tolist(), places)
    )


def one_of(hparams: Hparams) -> Hparams:
    """The first trial's hyperparameters from a table, or the hyperparameters unchanged."""
    return jax.tree.map(lambda leaf: leaf[0] if np.ndim(leaf) else leaf, hparams)


def with_tuples(value: Json) -> Any:
    """JSON data with tuples instead of lists, and the floats that `write_arrays` tagged.

    Examples:
      >>> with_tuples({"sizes": [64, [1, 2]], "clip": {"float": "inf"}})
      {'sizes': (64, (1, 2)), 'clip': inf}
    """
    if isinstance(value, list | tuple):
        return tuple(with_tuples(each) for each in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {_FLOAT}:
        return float(value[_FLOAT])
    return {name: with_tuples(each) for name, each in value.items()}


def _plain(value: Json, not_finite: Callable[[float], Json]) -> Json:
    """The same data in the types of strict JSON, which has no infinity and no NaN: these go through `not_finite`."""
    if isinstance(value, Mapping):
        return {name: _plain(each, not_finite) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, not_finite) for each in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and np.isfinite(value).all():
        return value.tolist()
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), not_finite)
    return not_finite(value) if isinstance(value, float) and not math.isfinite(value) else value


def _readable(value: float) -> str | None:
    """NaN and infinity for other programs."""
    return None if math.isnan(value) else str(value)


def _tagged(value: float) -> dict[str, str]:
    """NaN and infinity, distinct from any string, so that they are read back as numbers."""
    return {_FLOAT: str(value)}
