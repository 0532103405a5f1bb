"""Texts as columns of arrays: which columns there must be, and the log-probabilities that models give them.

One text per row: `tokens`, `mask` (true on everything but padding), `completion` (true on what is scored), each [B, W].
Ranked texts of one prompt: the same with [B, K, W], best first; a pair is K = 2, chosen before rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.rlhf.models import logits_of
from purerl.types import Network, Params, PyTree

Columns: TypeAlias = Mapping[str, Any]
"""Arrays of JAX or NumPy by name, each leading with [B]."""

TEXT = ("tokens", "mask", "completion")
_HINTS = {
    "ref_log_prob": ": add it by rlhf.with_reference(network, reference_params, data)",
    "kl_ref_log_prob": ": add it by rlhf.with_reference(network, reference_params, data)",
    "label": ": rlhf.encode_labelled makes it from rows with a label",
    "kl_tokens": ": rlhf.encode_labelled makes it from rows with a label",
}


def require_columns(data: Columns, agent: str, names: Iterable[str], layout: str) -> None:
    """Reject data that lack a column, or whose texts are laid out differently.

    Args:
      data: the columns.
      agent: name of the agent, or of its loss, for the message.
      names: columns that it reads.
      layout: of `tokens`: "[B, W]" for one text per row, "[B, K, W]" for ranked texts.

    Raises:
      ValueError: names the column that is missing, or the shape found and the one expected.

    Examples:
      >>> require_columns({"tokens": jnp.zeros((4, 7))}, "dpo", ["tokens", "ref_log_prob"], "[B, W]")
      Traceback (most recent call last):
      ValueError: dpo needs the column 'ref_log_prob': add it by rlhf.with_reference(network, reference_params, data)
    """
    for name in names:
        if name not in data:
            raise ValueError(f"{agent} needs the column {name!r}{_HINTS.get(name, f'; there are {sorted(data)}')}")
    shape = data["tokens"].shape
    if len(shape) != layout.count(",") + 1:
        raise ValueError(f"{agent} needs tokens of shape {layout}, got {list(shape)}")


def apply_to_texts(network: Network, params: Params, data: Columns) -> PyTree:
    """The network's output on every text: tokens [..., W] to logits [..., W, V], with values [..., W] or without."""

    return _map_texts(network.apply, params, data, TEXT[:2])


def _map_texts(function: Callable[..., PyTree], params: Params, data: Columns, names: tuple[str, ...]) -> PyTree:
    """A function of the parameters and of columns of one text, on every text."""

    def one(*columns: jax.Array) -> PyTree:
        return function(params, *columns)

    for _ in range(data["tokens"].ndim - 1):
        one = jax.vmap(one)
    return one(*(data[name] for name in names))


def log_probs(network: Network, params: Params, data: Columns) -> jax.Array:
    """Summed log-probability of each completion, nats: tokens [..., W] to [...].

    Examples:
      >>> from purerl import rlhf
      >>> network = rlhf.table_network(vocab_size=4, length=2, order=1)
      >>> tokens = jnp.array([[0, 1, 2], [0, 3, 3]])
      >>> data = {"tokens": tokens, "mask": tokens >= 0, "completion": jnp.arange(3) + 0 * tokens > 0}
      >>> params = network.init(jax.random.key(0), tokens[0], data["mask"][0])
      >>> (log_probs(network, params, data) / jnp.log(4)).round().tolist()  # two tokens of four
      [-2.0, -2.0]
    """
    if hasattr(network, "token_log_probs"):
        return jnp.sum(_map_texts(network.token_log_probs, params, data, TEXT), axis=-1)
    logits = logits_of(apply_to_texts(network, params, data))
    return losses.sequence_log_probs(logits, data["tokens"], data["completion"])


def with_prefix(data: Columns, prefix: str = "") -> dict[str, jax.Array]:
    """The three columns of the texts whose names begin with a prefix."""
    return {name: jnp.asarray(data[prefix + name]) for name in TEXT}


def with_reference(network: Network, params: Params, data: Columns, batch_size: int = 1024) -> dict[str, jax.Array]:
    """The data and a column `ref_log_prob`, computed once, `batch_size` rows at a time.

    Args:
      network, params: the reference policy.
      data: one text or K ranked texts per row; if it has `kl_tokens` (KTO), `kl_ref_log_prob` is added too.
      batch_size: rows computed at once.
    """

    @jax.jit
    def column(params: Params, part: Columns) -> jax.Array:
        return jax.lax.map(lambda row: log_probs(network, params, row), part, batch_size=batch_size)

    out = dict(data) | {"ref_log_prob": column(params, with_prefix(data))}
    if "kl_tokens" in data:
        out["kl_ref_log_prob"] = column(params, with_prefix(data, "kl_"))
    return out
