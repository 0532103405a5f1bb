"""The definition of a run: all settings that decide its numbers, by name and under one digest. Only it resumes.

Whatever a call was given is part of the definition, apart from limits, the machine, and what only watches. The traced
programs of agent and environment are beside it in the journal, one per group of static choices; see `fingerprint`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import platform
import re
from collections.abc import Mapping
from typing import Any

import jax
import jaxlib

import purerl
from purerl.checkpoint import Json
from purerl.sweep.run.fingerprint import digest_of
from purerl.sweep.run.journal import Journal
from purerl.types import PyTree

# Settings of JAX that change what a program computes. What they change of its text is in the fingerprint, too.
_SETTINGS = (
    "jax_default_matmul_precision", "jax_default_prng_impl", "jax_enable_x64", "jax_numpy_dtype_promotion",
    "jax_random_seed_offset", "jax_threefry_partitionable",
)  # fmt: skip


def check(journal: Journal, definition: Mapping[str, Json]) -> None:
    """Record the definition of a run in a new journal; when resuming, reject another one.

    Names that a journal of an earlier version does not have are not compared: it has no digest either.

    Args:
      journal: of the run.
      definition: JSON data by name, such as `settings | surroundings() | parts_of("hyperparameter", hparams)`.

    Raises:
      ValueError: names the first difference.
    """
    now = json.loads(json.dumps(definition))
    digest = hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()
    before = journal.find("plan")
    if before is None:
        journal.add("plan", plan=now, digest=digest)
    elif before.get("digest") != digest:
        then, whole = before["plan"], "digest" in before
        for name in [*now, *then] if whole else filter(then.__contains__, now):
            if name not in then or name not in now or then[name] != now[name]:
                raise ValueError(
                    f"{journal.directory} was begun with {_difference(name, then.get(name), now.get(name))}: resume "
                    "with the same settings, or begin in another directory"
                )


def _difference(name: str, before: Json, now: Json) -> str:
    hashed = any(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in (before, now))
    return f"another {name}" if hashed else f"{name} = {before!r}, not {now!r}"


def surroundings() -> dict[str, Json]:
    """The versions and the settings of JAX that the bits of a run depend on. Another machine is allowed."""
    versions = {"purerl": purerl.__version__, "jax": jax.__version__, "jaxlib": jaxlib.__version__}
    versions["Python"] = ".".join(platform.python_version_tuple()[:2])
    found: dict[str, Json] = {f"version of {name}": version for name, version in versions.items()}
    return found | {name: getattr(jax.config, name) for name in _SETTINGS if hasattr(jax.config, name)}


def parts_of(name: str, tree: PyTree) -> dict[str, Json]:
    """A digest of each leaf of a tree by its path, such as `"hyperparameter learning_rate"`."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    parts: dict[str, Json] = {f"{name} {path}".strip(): digest_of(leaf) for path, (_, leaf) in zip(paths, leaves)}
    return parts | {f"structure of each {name}": hashlib.sha256(repr(structure).encode()).hexdigest()}


def of_function(function: Any) -> str:
    """SHA-256 of a function: its source, or its name if it is one of purerl, with what it has closed over.

    Examples:
      >>> of_function(functools.partial(max, 1)) == of_function(functools.partial(max, 2))
      False
    """
    return hashlib.sha256(_text_of(function, frozenset()).encode()).hexdigest()


def _text_of(value: Any, seen: frozenset[int]) -> str:
    """A text of a function or of a value that it has closed over; a function within itself is left out."""
    if id(value) in seen:
        return ""
    inside = functools.partial(_text_of, seen=seen | {id(value)})
    if isinstance(value, functools.partial):
        return repr([inside(value.func), *map(inside, value.args), *map(inside, value.keywords.items())])
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return repr([_source(value), *map(inside, (*cells, *(value.__defaults__ or ())))])
    if isinstance(value, tuple | list):
        return repr([inside(each) for each in value])
    try:
        return digest_of(value)
    except (TypeError, ValueError):
        return re.sub(r"0x[0-9a-f]+", "0x", repr(value))


def _source(function: Any) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if name.startswith("purerl."):
        return name
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt
        code = function.__code__
        return repr((name, code.co_code, code.co_names, re.sub(r"0x[0-9a-f]+", "0x", repr(code.co_consts))))
