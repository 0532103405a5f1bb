"""Libraries of environments by name: "brax/ant" is the environment "ant" of the family "brax".

A family is a file of `purerl.envs.adapters` with a `FAMILY`, found by its name. Its library is imported when one of its
environments is made, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from purerl.envs import adapters
from purerl.hparams import suggestion


class Family(NamedTuple):
    """A library of environments.

    Attributes:
      make: `(name, **settings) -> Env`, or a `HostEnv` with the setting `num_envs` for environments on the host.
      names: `() -> names`, of its environments as far as the library lists them. Both functions import the library.
      module: the library's module, whose presence says that it is installed.
      extra: the extra of this package that installs it.
      summary: what its environments are, in a few words.
      example: the name of one of them.
      on_host: its environments run on the host, under `train_on_host`.
      drawn: settings with which its environments on the host can be drawn.
    """

    make: Callable[..., Any]
    names: Callable[[], Sequence[str]]
    module: str
    extra: str
    summary: str
    example: str
    on_host: bool = False
    drawn: Mapping[str, str] = {}


def family_names() -> list[str]:
    """The names of all families, installed or not.

    Examples:
      >>> "brax" in family_names()
      True
    """
    files = [found.name for found in pkgutil.iter_modules(adapters.__path__)]
    return sorted(name for name in files if hasattr(_module(name), "FAMILY"))


def family(name: str) -> Family:
    """A family by its name, in any case of letters.

    Raises:
      ValueError: there is none; the message has the nearest names.

    Examples:
      >>> family("brax").module
      'brax'
      >>> family("brx")
      Traceback (most recent call last):
      ...
      ValueError: unknown family of environments 'brx'; did you mean 'brax'?
    """
    known = family_names()
    if name.lower() not in known:
        raise ValueError(f"unknown family of environments {name!r}{suggestion(name, known)}")
    return _module(name.lower()).FAMILY


def is_installed(found: Family) -> bool:
    """Whether a family's library can be imported, without importing it."""
    return importlib.util.find_spec(found.module) is not None


def make_member(env_id: str, settings: dict[str, Any]) -> Any:
    """The environment "family/name", with settings as the family takes them.

    Raises:
      ValueError: unknown family, or an environment that the library does not have.
      ModuleNotFoundError: the library is not installed; the message says what to install.
    """
    first, _, name = env_id.partition("/")
    found = family(first)
    check_installed(found, env_id)
    return found.make(name, **settings)


def check_installed(found: Family, env_id: str) -> None:
    """Reject an environment whose library is missing.

    Raises:
      ModuleNotFoundError: the message says what to install.
    """
    if not is_installed(found):
        raise ModuleNotFoundError(
            f"{env_id} needs the package {found.module}, which is not installed: pip install 'purerl[{found.extra}]'"
        )


def check_member(family_name: str, name: str, known: Sequence[str]) -> None:
    """Reject a name that a library does not list.

    Raises:
      ValueError: the message has the nearest names.

    Examples:
      >>> check_member("brax", "antt", ["ant", "hopper"])
      Traceback (most recent call last):
      ...
      ValueError: brax has no environment 'antt'; did you mean 'ant'?
    """
    if name not in known:
        raise ValueError(f"{family_name} has no environment {name!r}{suggestion(name, known)}")


def _module(name: str) -> Any:
    return importlib.import_module(f"{adapters.__name__}.{name}")
