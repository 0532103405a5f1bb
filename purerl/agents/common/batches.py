"""Networks over batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from purerl.types import Network, Params, PyTree


def apply_batch(network: Network, params: Params, *inputs: PyTree) -> Any:
    """`network.apply` for a batch of inputs, whose leaves lead with [B], and one set of parameters.

    A network may have a function of its own for that, `apply_batch(params, *inputs)`, with the same values. The default
    networks do, since on an accelerator they differentiate a whole batch in fewer steps than one example at a time.
    """
    own = getattr(network, "apply_batch", None)
    return (own or jax.vmap(network.apply, (None, *(0 for _ in inputs))))(params, *inputs)


def apply_each(network: Network, params: Sequence[Params], *inputs: PyTree) -> list[Any]:
    """`apply_batch` for each of several sets of parameters, or the network's own `apply_each(params, *inputs)`."""
    own = getattr(network, "apply_each", None)
    return own(params, *inputs) if own else [apply_batch(network, one, *inputs) for one in params]
