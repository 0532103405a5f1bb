"""Agents for `fit` on texts: supervised fine-tuning, reward models, and the direct losses (DPO and its family, KTO).

Data are dicts of arrays. One text a row: `tokens`, `mask` (no padding), `completion` (what is scored), each [B, W].
Ranked texts of one prompt: the same with [B, K, W], best first; a pair is K = 2, chosen then rejected. `rlhf.data`
makes them from text; `with_reference` adds `ref_log_prob`, computed once instead of in every update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from purerl import losses
from purerl.rlhf.models import logits_of, value_of
from purerl.rlhf.supervised import adam, learner
from purerl.types import Agent, Metrics

DirectLoss = Callable[[jax.Array, jax.Array, jax.Array, Any], jax.Array]


def log_probs(network: Any, params: Any, data: Any) -> jax.Array:
    """Summed log-probability of each completion, nats: tokens [..., W] to [...]."""
    logits = logits_of(_apply(network, params, data["tokens"], data["mask"]))
    return losses.sequence_log_probs(logits, data["tokens"], data["completion"])


def rewards(network: Any, params: Any, data: Any) -> jax.Array:
    """A reward model's scores, its value read at the last token that is no padding: tokens [..., W] to [...]."""
    return losses.last_token(value_of(_apply(network, params, data["tokens"], data["mask"])), data["mask"])


def _apply(network: Any, params: Any, tokens: jax.Array, mask: jax.Array) -> Any:
    def one(tokens: jax.Array, mask: jax.Array) -> Any:
        return network.apply(params, tokens, mask)

    for _ in range(tokens.ndim - 1):
        one = jax.vmap(one)
    return one(tokens, mask)


def with_reference(network: Any, params: Any, data: Any, batch_size: int = 1024) -> Any:
    """The data with a column `ref_log_prob` more, computed `batch_size` rows at a time.

    Args:
      network, params: the reference policy.
      data: one text or K ranked texts a row; where it has `kl_tokens` (KTO) it gets `kl_ref_log_prob` too.
      batch_size: rows computed at once.
    """

    @jax.jit
    def column(params: Any, part: Any) -> jax.Array:
        return jax.lax.map(lambda row: log_probs(network, params, row), part, batch_size=batch_size)

    out = dict(data) | {"ref_log_prob": column(params, _texts(data))}
    if "kl_tokens" in data:
        out["kl_ref_log_prob"] = column(params, _texts(data, "kl_"))
    return out


def _texts(data: Any, prefix: str = "") -> dict[str, jax.Array]:
    return {name: jnp.asarray(data[prefix + name]) for name in ("tokens", "mask", "completion")}


def sft(
    network: Any,
    *,
    num_microbatches: int = 1,
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """Supervised fine-tuning: the mean, over all completion tokens of the batch, of -log π(token | before).

    Prompt and padding do not count, and each token counts alike however the rows are cut into micro-batches.

    Args:
      network: see `rlhf.models`.
      num_microbatches: parts an update is computed in.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on one text a row; its `act` is the language model's.
    """

    def loss(params: Any, data: Any, hparams: Any) -> tuple[jax.Array, jax.Array, Metrics]:
        total = -jnp.sum(log_probs(network, params, data))
        return total, jnp.sum(losses.sequence_lengths(data["completion"])).astype(jnp.float32), {}

    return learner(network, loss, num_microbatches=num_microbatches, optimizer=optimizer)


def reward_model(
    network: Any,
    *,
    centering: float = 0.0,
    num_microbatches: int = 1,
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """A reward fitted to rankings: the Plackett-Luce loss (Bradley-Terry for pairs) of the values at the last token.

    Args:
      network: returns (logits, value); start it from an SFT model by `fit(..., state=...)`.
      centering: weight of `reward_centering`, for pairs.
      num_microbatches: parts an update is computed in.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on ranked texts [B, K, W]; metrics `loss/accuracy` (the first above the second) and
      `loss/margin`. `rewards(network, state.params, data)` scores texts.
    """

    def loss(params: Any, data: Any, hparams: Any) -> tuple[jax.Array, jax.Array, Metrics]:
        reward = rewards(network, params, data)
        each = losses.plackett_luce(reward) + centering * losses.reward_centering(reward[:, 0], reward[:, 1])
        return jnp.sum(each), jnp.float32(each.shape[0]), _order(reward)

    return learner(network, loss, num_microbatches=num_microbatches, optimizer=optimizer)


def _order(reward: jax.Array) -> Metrics:
    margin = reward[:, 0] - reward[:, 1]
    return {"loss/accuracy": jnp.sum(1.0 * (margin > 0)), "loss/margin": jnp.sum(margin)}


# --- Direct losses: (log_prob [B, K], ref_log_prob [B, K], lengths [B, K], hparams) -> [B] ----------------------------


def _pair(logp: jax.Array, ref: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    return logp[:, 0], logp[:, 1], ref[:, 0], ref[:, 1]


def _average(logp: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = logp / jnp.maximum(lengths, 1)
    return mean[:, 0], mean[:, 1]


def _orpo(logp: jax.Array, ref: jax.Array, lengths: jax.Array, hparams: Any) -> jax.Array:
    chosen, rejected = _average(logp, lengths)
    return losses.orpo(chosen, rejected, -chosen, hparams.beta)


def _simpo(logp: jax.Array, ref: jax.Array, lengths: jax.Array, hparams: Any) -> jax.Array:
    return losses.simpo(*_average(logp, lengths), hparams.beta, hparams.gamma, hparams.label_smoothing)


def _ipo_average(logp: jax.Array, ref: jax.Array, lengths: jax.Array, hparams: Any) -> jax.Array:
    return losses.ipo(*_pair(logp, ref), hparams.beta, lengths[:, 0], lengths[:, 1])


DIRECT_LOSSES: dict[str, DirectLoss] = {
    "dpo": lambda logp, ref, _, h: losses.dpo(*_pair(logp, ref), h.beta, h.label_smoothing),
    "robust": lambda logp, ref, _, h: losses.robust_dpo(*_pair(logp, ref), h.beta, h.label_smoothing),
    "hinge": lambda logp, ref, _, h: losses.hinge_dpo(*_pair(logp, ref), h.beta),
    "ipo": lambda logp, ref, _, h: losses.ipo(*_pair(logp, ref), h.beta),
    "ipo_average": _ipo_average,
    "sppo": lambda logp, ref, _, h: losses.sppo(*_pair(logp, ref), h.beta),
    "plackett_luce": lambda logp, ref, _, h: losses.plackett_luce_dpo(logp, ref, h.beta),
    "cpo": lambda logp, ref, _, h: losses.cpo(logp[:, 0], logp[:, 1], h.beta, h.label_smoothing),
    "orpo": _orpo,
    "simpo": _simpo,
}
"""What `direct_alignment` takes by name; "plackett_luce" ranks K texts, the others pairs; the last three need no
reference."""


def direct_alignment(
    network: Any,
    loss: str | DirectLoss = "dpo",
    *,
    num_microbatches: int = 1,
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """A policy fitted to rankings without a reward model: the mean of a direct loss over the rows.

    Args:
      network: the policy; start it from an SFT model by `fit(..., state=...)`.
      loss: a name in `DIRECT_LOSSES`, or a function of that signature.
      num_microbatches: parts an update is computed in.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on ranked texts [B, K, W] with `ref_log_prob` [B, K] (losses without reference do without the
      column); metrics `loss/accuracy` and `loss/margin` of the implicit reward β (log π - log π_ref).

    Raises:
      ValueError: an unknown name.
    """
    if isinstance(loss, str) and loss not in DIRECT_LOSSES:
        raise ValueError(f"loss must be one of {', '.join(DIRECT_LOSSES)}, or a function; got {loss!r}")
    direct_loss = DIRECT_LOSSES[loss] if isinstance(loss, str) else loss

    def total(params: Any, data: Any, hparams: Any) -> tuple[jax.Array, jax.Array, Metrics]:
        log_prob = log_probs(network, params, data)
        reference = data.get("ref_log_prob", jnp.zeros_like(log_prob))
        lengths = losses.sequence_lengths(data["completion"])
        each = direct_loss(log_prob, reference, lengths, hparams)
        return jnp.sum(each), jnp.float32(each.shape[0]), _order(hparams.beta * (log_prob - reference))

    return learner(network, total, num_microbatches=num_microbatches, optimizer=optimizer)


def kto(
    network: Any,
    *,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    optimizer: Callable[[Any], optax.GradientTransformation] = adam,
) -> Agent:
    """Kahneman-Tversky Optimization from single texts with a thumb up or down.

    The reference point is `losses.kto_kl` of completions paired with another row's prompt (columns `kl_*`).

    Args:
      network: the policy.
      desirable_weight, undesirable_weight: λ_D and λ_U.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on one text a row with `label` [B], `ref_log_prob` [B], `kl_tokens`, `kl_mask`, `kl_completion`
      [B, W] and `kl_ref_log_prob` [B], as `data.encode_labelled` and `with_reference` make them.
    """

    def loss(params: Any, data: Any, hparams: Any) -> tuple[jax.Array, jax.Array, Metrics]:
        log_prob = log_probs(network, params, data)
        mismatched = log_probs(network, jax.lax.stop_gradient(params), _texts(data, "kl_"))
        kl = losses.kto_kl(mismatched, data["kl_ref_log_prob"])
        weights = (desirable_weight, undesirable_weight)
        each = losses.kto(log_prob, data["ref_log_prob"], data["label"], kl, hparams.beta, *weights)
        return jnp.sum(each), jnp.float32(each.shape[0]), {"loss/kl": kl * each.shape[0]}

    return learner(network, loss, optimizer=optimizer)
