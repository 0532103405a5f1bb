"""The files of a result: CSV and JSON for people and other programs, checkpoints from which it is read again."""

from __future__ import annotations

import collections
import csv
import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl import checkpoint, loops
from purerl.types import Agent, Env, PyTree


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> Path:
    """A header and a line a row; NaN becomes an empty field."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: "" if value != value else value for name, value in row.items()} for row in rows)
    return Path(path)


def write_json(content: Any, path: str | os.PathLike[str]) -> Path:
    """Strict JSON: NaN becomes null, an infinity the string "inf" or "-inf"."""
    Path(path).write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return Path(path)


def write_arrays(
    directory: Path, arrays: Mapping[str, np.ndarray], hparams: Any, states: PyTree, about: Mapping[str, Any]
) -> None:
    """Two checkpoints, `directory/arrays` and, if there are states, `directory/states`; `about` is JSON."""
    content = {"arrays": dict(arrays), "hparams": hparams._asdict()}
    shapes = jax.tree.map(lambda leaf: {"shape": leaf.shape, "dtype": str(leaf.dtype)}, content)
    about = {**about, "shapes": shapes, "name": type(hparams).__name__, "fields": hparams._fields}
    checkpoint.save(directory / "arrays", content, _plain(about), overwrite=True)
    if states is not None:
        checkpoint.save(directory / "states", states, overwrite=True)


def read_arrays(directory: Path, hparams: Any = None) -> tuple[dict[str, np.ndarray], Any, dict[str, Any]]:
    """The arrays, the table of hyperparameters and `about`, as they were given to `write_arrays`.

    Args:
      directory: where they are.
      hparams: of the class that the table shall have; None makes a NamedTuple of the same name and fields.

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


def read_states(directory: Path, agent: Agent, env: Env, hparams: Any, num_envs: int, num_kept: int) -> PyTree:
    """The kept states, with leaves [num_kept, ...]; None where there are none.

    Raises:
      CheckpointError: a file is damaged, or the states are not those of this agent in this environment.
    """
    if not (directory / "states").exists():
        return None
    begin = functools.partial(loops.start, agent=agent, env=env, hparams=hparams, num_envs=num_envs)
    state = jax.eval_shape(lambda key: begin(key).agent_state, jax.random.key(0))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_kept, *leaf.shape), leaf.dtype), state)
    return checkpoint.restore(directory / "states", like)


def _plain(value: Any) -> Any:
    """The same data in the types that strict JSON has."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
