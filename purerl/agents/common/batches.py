"""Networks over batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from purerl.types import Network, Params, PyTree


def apply_batch(network: Network, params: Params, *inputs: PyTree) -> Any:
    """`network.apply` for a batch of inputs, whose leaves lead with [B], and one set of parameters.

    A network may have a function of its own for that, `apply_batch(params, *inputs)`, with the same values. The default
    networks do, since on an accelerator they differentiate a whole batch in fewer steps than one example at a time.
    A subclass does not inherit it, because it may compute something else.
    """
    own = _own(network, "apply_batch")
    return (own or jax.vmap(network.apply, (None, *(0 for _ in inputs))))(params, *inputs)


def apply_each(network: Network, params: Sequence[Params], *inputs: PyTree) -> list[Any]:
    """`apply_batch` for each of several sets of parameters, or the network's own `apply_each(params, *inputs)`."""
    own = _own(network, "apply_each")
    return own(params, *inputs) if own else [apply_batch(network, one, *inputs) for one in params]


def _own(network: Network, name: str) -> Callable[..., Any] | None:
    """The function of that name that belongs to the network or to its very class."""
    return getattr(network, name) if name in vars(type(network)) or name in getattr(network, "__dict__", {}) else None
