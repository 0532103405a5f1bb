"""Things that are built once: the same arguments give the same object, which JAX has compiled for already."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Built = TypeVar("Built")

MOST = 1024  # things that one function remembers; the one that was asked for longest ago is forgotten first


def build_once(build: Callable[P, Built]) -> Callable[P, Built]:
    """A function that gives what it built before for the same arguments.

    Agents and environments hold functions, which are equal only if they are the same object; JAX compiles for each
    anew. Defaults and keywords count as if they were spelled out in order; 1, 1.0 and True differ. It builds anew for
    an argument without a hash, such as an array, and for one that equals no other, such as a lambda.

    Args:
      build: a function whose result depends on its arguments alone and never changes.

    Examples:
      >>> @build_once
      ... def scaled(factor, offset=0):
      ...     return lambda x: factor * x + offset
      >>> scaled(2) is scaled(factor=2, offset=0), scaled(2) is scaled(2.0)
      (True, False)
      >>> scaled([1]) is scaled([1])
      False
    """
    signature = inspect.signature(build)
    remembered = functools.lru_cache(MOST, typed=True)(build)

    @functools.wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> Built:
        try:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            hash(given.args + tuple(given.kwargs.values()))
        except TypeError:  # wrong arguments, which `build` refuses in its own words, or some without a hash
            return build(*args, **kwargs)
        return remembered(*given.args, **given.kwargs)

    return built
