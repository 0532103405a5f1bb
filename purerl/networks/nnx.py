"""Modules of flax nnx as networks of pure functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax

from purerl.types import Key, Params

Rngs: TypeAlias = Any
"""A `flax.nnx.Rngs`."""
Module: TypeAlias = Any
"""A `flax.nnx.Module` that is called with the network's inputs."""


class NNXNetwork(NamedTuple):
    """See `from_nnx`."""

    build: Callable[[Rngs], Module]

    def init(self, key: Key, *inputs: Any) -> Params:
        """The parameters of a module built with this key, as nested dicts; the inputs are not used.

        Raises:
          TypeError: the module holds state that is not a parameter, such as the statistics of BatchNorm.
        """
        from flax import nnx

        parts: Any = nnx.split(self.build(nnx.Rngs(key)), nnx.Param, ...)
        _, params, rest = parts
        others = sorted({type(variable).__name__ for _, variable in nnx.to_flat_state(rest)})
        if others:
            raise TypeError(
                f"the module holds {', '.join(others)}, which agents do not carry: use LayerNorm, not BatchNorm, and "
                "no dropout"
            )
        return nnx.to_pure_dict(params)

    def apply(self, params: Params, *inputs: Any) -> Any:
        """The module with these parameters, called with the inputs."""
        from flax import nnx

        graph, state = _structure(self.build)
        state = jax.tree.map(lambda x: x, state)  # a copy, whose leaves are replaced
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(*inputs)


def from_nnx(build: Callable[[Rngs], Module]) -> NNXNetwork:
    """A network from a function that builds a module of flax nnx.

    The module is built anew from its graph whenever it is applied, so nothing is kept outside the parameters.

    Args:
      build: `nnx.Rngs -> module`; the module is called as the role of the network asks, such as `obs -> (distribution,
        value)`. It may hold parameters only.

    Raises:
      TypeError: `build` is a module and not what builds one.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> network = from_nnx(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
      >>> params = network.init(jax.random.key(0), jnp.zeros(4))
      >>> sorted(params), network.apply(params, jnp.ones(4)).shape
      (['bias', 'kernel'], (2,))
    """
    if is_module(build) and not isinstance(build, type):
        name = type(build).__name__
        raise TypeError(f"from_nnx takes what builds the module, not a module: pass networks.from_nnx({name})")
    return NNXNetwork(build)


def is_module(value: object) -> bool:
    """Whether this is a module of flax nnx or a class of them, found without importing flax."""
    bases = (value if isinstance(value, type) else type(value)).__mro__
    return any(base.__module__.startswith("flax.nnx") and base.__name__ == "Module" for base in bases)


@functools.lru_cache(maxsize=64)
def _structure(build: Callable[[Rngs], Module]) -> tuple[Any, Any]:
    """The graph and the shapes of a module's parameters."""
    from flax import nnx

    with jax.ensure_compile_time_eval():
        abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    return nnx.split(abstract)
