"""LoRA as a transformation of the parameter tree: W + s A B, with A and B trained and W frozen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from purerl.rlhf.models import Network as Functions
from purerl.types import Key, Network, Params

TARGETS = r"(q|k|v|o|gate|up|down)_proj"
"""All projections of a decoder; not the embedding, the head or the norms."""


WHOLE = r"^score\.w$"
"""What is trained whole beside the factors: the head of values, which starts at zero."""


class Factors(NamedTuple):
    """A and B of one weight: [inputs, r] and [r, outputs]."""

    a: jax.Array
    b: jax.Array


Adapter: TypeAlias = dict[str, Factors | jax.Array]
"""By path: factors that are added to a weight, or an array that takes its place."""


def init(
    key: Key,
    params: Params,
    rank: int,
    targets: str = TARGETS,
    input_axes: Callable[[str], int] | None = None,
    whole: str = WHOLE,
) -> Adapter:
    """Factors of all weights whose path matches: A uniform, B zero, so that the model is unchanged at first.

    Args:
      key: typed key.
      params: any tree of arrays.
      rank: r.
      targets: regular expression, searched in the paths of the leaves, such as `layers.0.attn.q_proj.w`.
      input_axes: path to the number of leading axes that are inputs; None takes 2 for the three-dimensional `o_proj`,
        [heads, size, width], and 1 otherwise.
      whole: regular expression of the leaves that are trained whole.

    Returns:
      What is trained, by path.

    Raises:
      ValueError: the rank is not positive, or no matrix matches.

    Examples:
      >>> params = {"dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)}}
      >>> factors = init(jax.random.key(0), params, rank=2, targets="dense")
      >>> {name: (each.a.shape, each.b.shape) for name, each in factors.items()}
      {'dense.kernel': ((3, 2), (2, 4))}
    """
    if rank < 1:
        raise ValueError(f"rank = {rank} must be positive")
    axes = input_axes or _input_axes
    factors: Adapter = {}
    for i, (name, leaf) in enumerate(_leaves(params)):
        if len(leaf.shape) < 2 or not re.search(targets, name):
            continue
        split = axes(name) if len(leaf.shape) > 2 else 1
        inputs, outputs = math.prod(leaf.shape[:split]), math.prod(leaf.shape[split:])
        bound = math.sqrt(1 / inputs)  # Kaiming's with a = √5, as the reference implementation has it
        a = jax.random.uniform(jax.random.fold_in(key, i), (inputs, rank), jnp.float32, -bound, bound)
        factors[name] = Factors(a, jnp.zeros((rank, outputs), jnp.float32))
    if not factors:
        raise ValueError(f"no matrix of the model matches the targets {targets!r}")
    return factors | {name: leaf for name, leaf in _leaves(params) if re.search(whole, name)}


def merge(params: Params, factors: Adapter, scale: float | jax.Array) -> Params:
    """The parameters with s A B added to each weight that has factors, and the whole ones in their places.

    Examples:
      >>> merged = merge({"w": jnp.zeros((1, 2))}, {"w": Factors(jnp.ones((1, 1)), jnp.ones((1, 2)))}, scale=3.0)
      >>> merged["w"].tolist()
      [[3.0, 3.0]]
    """

    def one(path: Any, leaf: jax.Array) -> jax.Array:
        found = factors.get(_name(path))
        if not isinstance(found, Factors):
            return leaf if found is None else found
        return leaf + (scale * (found.a @ found.b)).reshape(leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, params)


def adapted(network: Network, base: Params, scale: float | jax.Array) -> Network:
    """The network as a function of the factors alone, at frozen parameters.

    Every loss and agent that takes a network takes this one. Call it inside `jax.jit`, with `base` as an argument of
    the jitted function, so that the base is not a constant of the program.

    Args:
      network: any; a NamedTuple of functions keeps its other functions.
      base: its parameters; no gradient reaches them.
      scale: s, commonly alpha / rank.
    """
    base = jax.lax.stop_gradient(base)

    def of_factors(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda factors, *args, **options: function(merge(base, factors, scale), *args, **options)

    names = ("apply", "prefill", "decode", "hidden", "token_log_probs")
    functions = {name: of_factors(getattr(network, name)) for name in names if hasattr(network, name)}
    return (
        network._replace(**functions) if hasattr(network, "_replace") else Functions(network.init, functions["apply"])
    )


def _input_axes(name: str) -> int:
    return 2 if "o_proj" in name else 1


def _leaves(params: Params) -> list[tuple[str, jax.Array]]:
    return [(_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
