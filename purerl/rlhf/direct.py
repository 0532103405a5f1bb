"""Direct alignment: policies fitted to preferences without a reward model (DPO and its family, KTO, BCO)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purerl import losses
from purerl.agents.common import optimization, plug_ins
from purerl.once import build_once
from purerl.rlhf.columns import TEXT, Columns, log_probs, require_columns, with_prefix
from purerl.rlhf.reward_models import order_metrics
from purerl.rlhf.supervised import SummedLoss, learner
from purerl.types import Agent, CheckFn, Hparams, Metrics, Network, Params

PreferenceLoss: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array, Hparams], jax.Array]
"""`(log_prob [B, K], ref_log_prob [B, K], lengths [B, K], hparams) -> [B]`, best first."""


class DirectLoss(NamedTuple):
    """A loss for `direct_alignment`.

    Attributes:
      function: `(log_prob [B, K], ref_log_prob [B, K], lengths [B, K], hparams) -> [B]`, best first.
      reference: whether it reads `ref_log_prob`; if not, the data need no such column and it is given zeros.
      by_row: whether entry i is the loss of row i, which does not count if its best text has no completion tokens. If
        not, as for a loss of sorted rows, the function itself gives 0 for as many entries.
      check: None, or `hparams -> None`, which rejects hyperparameters that the loss cannot use by a `ValueError`.
    """

    function: PreferenceLoss
    reference: bool = True
    by_row: bool = True
    check: CheckFn | None = None


def _pair(logp: jax.Array, ref: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    return logp[:, 0], logp[:, 1], ref[:, 0], ref[:, 1]


def _average(logp: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = logp / jnp.maximum(lengths, 1)
    return mean[:, 0], mean[:, 1]


def _orpo(logp: jax.Array, ref: jax.Array, lengths: jax.Array, hparams: Hparams) -> jax.Array:
    chosen, rejected = _average(logp, lengths)
    return losses.orpo(chosen, rejected, -chosen, hparams.beta)


def _simpo(logp: jax.Array, ref: jax.Array, lengths: jax.Array, hparams: Hparams) -> jax.Array:
    return losses.simpo(*_average(logp, lengths), hparams.beta, hparams.gamma, hparams.label_smoothing)


def _ipo_average(logp: jax.Array, ref: jax.Array, lengths: jax.Array, hparams: Hparams) -> jax.Array:
    return losses.ipo(*_pair(logp, ref), hparams.beta, lengths[:, 0], lengths[:, 1])


def _needs_beta(hparams: Hparams) -> None:
    if np.any(np.asarray(hparams.beta, np.float32) <= 0):
        raise ValueError(f"beta = {hparams.beta} must be above 0 for this loss, which divides by it")


def _needs_right_labels(hparams: Hparams) -> None:
    if np.any(np.asarray(hparams.label_smoothing, np.float32) >= 0.5):
        raise ValueError(
            f"label_smoothing = {hparams.label_smoothing} must be below 1/2 for this loss, which divides by "
            "1 - 2 label_smoothing"
        )


DIRECT_LOSSES: dict[str, DirectLoss] = {
    "dpo": DirectLoss(lambda logp, ref, _, h: losses.dpo(*_pair(logp, ref), h.beta, h.label_smoothing)),
    "robust": DirectLoss(
        lambda logp, ref, _, h: losses.robust_dpo(*_pair(logp, ref), h.beta, h.label_smoothing),
        check=_needs_right_labels,
    ),
    "hinge": DirectLoss(lambda logp, ref, _, h: losses.hinge_dpo(*_pair(logp, ref), h.beta)),
    "ipo": DirectLoss(lambda logp, ref, _, h: losses.ipo(*_pair(logp, ref), h.beta), check=_needs_beta),
    "ipo_average": DirectLoss(_ipo_average, check=_needs_beta),
    "sppo": DirectLoss(lambda logp, ref, _, h: losses.sppo(*_pair(logp, ref), h.beta), check=_needs_beta),
    "exo": DirectLoss(
        lambda logp, ref, _, h: losses.exo(*_pair(logp, ref), h.beta, jnp.maximum(h.label_smoothing, 1e-3))
    ),
    "nca": DirectLoss(lambda logp, ref, _, h: losses.nca(*_pair(logp, ref), h.beta)),
    "aot": DirectLoss(
        lambda logp, ref, n, h: losses.aot(*_pair(logp, ref), h.beta, h.label_smoothing, n[:, 0] > 0), by_row=False
    ),
    "aot_unpaired": DirectLoss(
        lambda logp, ref, n, h: losses.aot_unpaired(*_pair(logp, ref), h.beta, h.label_smoothing, n[:, 0] > 0),
        by_row=False,
    ),
    "apo_zero": DirectLoss(lambda logp, ref, _, h: losses.apo_zero(*_pair(logp, ref), h.beta)),
    "apo_down": DirectLoss(lambda logp, ref, _, h: losses.apo_down(*_pair(logp, ref), h.beta)),
    "discopop": DirectLoss(lambda logp, ref, _, h: losses.discopop(*_pair(logp, ref), h.beta)),
    "plackett_luce": DirectLoss(lambda logp, ref, n, h: losses.plackett_luce_dpo(logp, ref, h.beta, n > 0)),
    "cpo": DirectLoss(lambda logp, _, __, h: losses.cpo(logp[:, 0], logp[:, 1], h.beta, h.label_smoothing), False),
    "orpo": DirectLoss(_orpo, reference=False),
    "simpo": DirectLoss(_simpo, reference=False),
}
"""The losses that `direct_alignment` takes by name. "plackett_luce" ranks K texts, the others pairs.

A text without completion tokens is absent from its ranking. "aot" and "aot_unpaired" compare sorted margins and sorted
rewards, so they are losses of the rows that are computed together: their micro-batches are not those of a larger batch.
The two texts of a row of "aot_unpaired" may answer different prompts."""


@build_once
def direct_alignment(
    network: Network,
    loss: str | DirectLoss | PreferenceLoss = "dpo",
    *,
    num_microbatches: int = 1,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """A policy fitted to rankings without a reward model: the mean of a direct loss over the rows.

    Args:
      network: the policy; start it from an SFT model by `fit(..., state=...)`.
      loss: a name in `DIRECT_LOSSES`, a `DirectLoss`, or its function alone, which then reads the reference.
      num_microbatches: parts an update is computed in.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on ranked texts [B, K, W], with `ref_log_prob` [B, K] for losses that read a reference;
      metrics `loss/accuracy` and `loss/margin` of the implicit reward β (log π - log π_ref), or β log π without it.

    Raises:
      ValueError: an unknown name; in `fit`, hyperparameters that the loss divides by zero with; in `update`, a column
        such as `ref_log_prob` is missing, or texts are not ranked.

    Examples:
      >>> from purerl import rlhf
      >>> agent = rlhf.direct_alignment(rlhf.table_network(vocab_size=4, length=2, order=1), "simpo")
      >>> tokens = jnp.array([[[0, 1, 2], [0, 3, 3]]])
      >>> data = {"tokens": tokens, "mask": tokens >= 0, "completion": 0 * tokens + jnp.arange(3) > 0}
      >>> state = agent.init(jax.random.key(0), rlhf.LearnerHparams(), data)
      >>> _, metrics = jax.eval_shape(agent.update, jax.random.key(1), state, data)
      >>> sorted(metrics)
      ['loss/accuracy', 'loss/margin', 'loss/total']
    """
    each, by_row = direct_loss(network, loss), isinstance(loss, str) and DIRECT_LOSSES[loss].by_row
    agent = learner(network, each, num_microbatches=num_microbatches, by_row=by_row, optimizer=optimizer)
    return agent._replace(check=_named(loss).check)


@build_once
def direct_loss(network: Network, loss: str | DirectLoss | PreferenceLoss = "dpo") -> SummedLoss:
    """The loss of `direct_alignment`, summed over the rows; one without completion tokens does not count.

    Raises:
      ValueError: as for `direct_alignment`.
    """
    if isinstance(loss, str) and loss not in DIRECT_LOSSES:
        raise ValueError(f"loss must be one of {', '.join(DIRECT_LOSSES)}, or a function; got {loss!r}")
    function, needs_reference, by_row, _ = _named(loss)
    name = f"direct_alignment({loss!r})" if isinstance(loss, str) else "direct_alignment"
    columns = (*TEXT, "ref_log_prob") if needs_reference else TEXT

    def total(params: Params, data: Columns, hparams: Hparams) -> tuple[jax.Array, jax.Array, Metrics]:
        require_columns(data, name, columns, "[B, K, W]")
        log_prob = log_probs(network, params, data)  # [B, K, W] -> [B, K]
        reference = data.get("ref_log_prob", jnp.zeros_like(log_prob))
        lengths = losses.sequence_lengths(data["completion"])
        each = plug_ins.each_loss("loss", function(log_prob, reference, lengths, hparams), log_prob[:, 0], "row")
        present = lengths[:, 0] > 0
        each = jnp.where(present, each, 0.0) if by_row else each
        reward = jnp.where(present[:, None], hparams.beta * (log_prob - reference), 0.0)
        return jnp.sum(each), jnp.sum(1.0 * present), order_metrics(reward)

    return total


def _named(loss: str | DirectLoss | PreferenceLoss) -> DirectLoss:
    chosen = DIRECT_LOSSES[loss] if isinstance(loss, str) else loss
    return chosen if isinstance(chosen, DirectLoss) else DirectLoss(chosen)


@build_once
def kto(
    network: Network,
    *,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """Kahneman-Tversky Optimization from single texts with a thumb up or down.

    The reference point is `losses.kto_kl` of completions paired with another row's prompt (columns `kl_*`).

    Args:
      network: the policy.
      desirable_weight, undesirable_weight: λ_D and λ_U.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on one text a row with `label` [B], `ref_log_prob` [B], `kl_tokens`, `kl_mask`, `kl_completion`
      [B, W] and `kl_ref_log_prob` [B], as `encode_labelled` and `with_reference` make them.

    Raises:
      ValueError: in `update`, a column is missing.

    Source: Ethayarajh et al. 2024, "KTO: model alignment as prospect theoretic optimization", equation 8.

    Examples:
      >>> from purerl import rlhf
      >>> agent = rlhf.kto(rlhf.table_network(vocab_size=4, length=2, order=1))
      >>> tokens = jnp.array([[0, 1, 2], [0, 3, 3]])
      >>> data = {"tokens": tokens, "mask": tokens >= 0, "completion": 0 * tokens + jnp.arange(3) > 0}
      >>> data |= {"ref_log_prob": jnp.zeros(2)}
      >>> data |= {f"kl_{name}": column[::-1] for name, column in data.items()} | {"label": jnp.array([1, 0])}
      >>> state = agent.init(jax.random.key(0), rlhf.LearnerHparams(), data)
      >>> _, metrics = jax.eval_shape(agent.update, jax.random.key(1), state, data)
      >>> sorted(metrics)
      ['loss/kl', 'loss/total']
    """
    return learner(network, kto_loss(network, desirable_weight, undesirable_weight), optimizer=optimizer)


@build_once
def kto_loss(network: Network, desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> SummedLoss:
    """The loss of `kto`, summed over the rows; one without completion tokens does not count."""
    mismatched_columns = tuple(f"kl_{name}" for name in (*TEXT, "ref_log_prob"))

    def loss(params: Params, data: Columns, hparams: Hparams) -> tuple[jax.Array, jax.Array, Metrics]:
        require_columns(data, "kto", (*TEXT, "label", *mismatched_columns, "ref_log_prob"), "[B, W]")
        log_prob = log_probs(network, params, data)
        mismatched = log_probs(network, jax.lax.stop_gradient(params), with_prefix(data, "kl_"))
        present = losses.sequence_lengths(data["completion"]) > 0
        kl = losses.kto_kl(mismatched, data["kl_ref_log_prob"], present)
        weights = (desirable_weight, undesirable_weight)
        each = losses.kto(log_prob, data["ref_log_prob"], data["label"], kl, hparams.beta, *weights)
        number = jnp.sum(1.0 * present)
        return jnp.sum(jnp.where(present, each, 0.0)), number, {"loss/kl": kl * number}

    return loss


@build_once
def bco(
    network: Network,
    *,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """Binary classifier optimization from single texts with a thumb up or down: `losses.bco`.

    The shift δ of the rewards is `losses.bco_delta` of the rows of the update, without gradient.

    Args:
      network: the policy.
      desirable_weight, undesirable_weight: w_D and w_U.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on one text a row with `label` [B] and `ref_log_prob` [B], as `encode_labelled` and
      `with_reference` make them; metrics `loss/accuracy`, the share of texts on the right side of δ, and `loss/delta`.

    Raises:
      ValueError: in `update`, a column is missing.

    Source: Jung et al. 2024, "Binary classifier optimization for large language model alignment", without the density
    ratio of differing prompts; there δ is a moving average.

    Examples:
      >>> from purerl import rlhf
      >>> agent = rlhf.bco(rlhf.table_network(vocab_size=4, length=2, order=1))
      >>> tokens = jnp.array([[0, 1, 2], [0, 3, 3]])
      >>> data = {"tokens": tokens, "mask": tokens >= 0, "completion": 0 * tokens + jnp.arange(3) > 0}
      >>> data |= {"ref_log_prob": jnp.zeros(2), "label": jnp.array([1, 0])}
      >>> state = agent.init(jax.random.key(0), rlhf.LearnerHparams(), data)
      >>> _, metrics = jax.eval_shape(agent.update, jax.random.key(1), state, data)
      >>> sorted(metrics)
      ['loss/accuracy', 'loss/delta', 'loss/total']
    """

    return learner(network, bco_loss(network, desirable_weight, undesirable_weight), optimizer=optimizer)


@build_once
def bco_loss(network: Network, desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> SummedLoss:
    """The loss of `bco`, summed over the rows; one without completion tokens does not count."""

    def loss(params: Params, data: Columns, hparams: Hparams) -> tuple[jax.Array, jax.Array, Metrics]:
        require_columns(data, "bco", (*TEXT, "label", "ref_log_prob"), "[B, W]")
        log_prob, ref, label = log_probs(network, params, data), data["ref_log_prob"], data["label"]
        present = losses.sequence_lengths(data["completion"]) > 0
        delta = losses.bco_delta(log_prob, ref, label, hparams.beta, present)
        each = losses.bco(log_prob, ref, label, delta, hparams.beta, desirable_weight, undesirable_weight)
        right = (hparams.beta * (log_prob - ref) > delta) == (label != 0)
        number = jnp.sum(1.0 * present)
        metrics = {"loss/accuracy": jnp.sum(1.0 * (right & present)), "loss/delta": delta * number}
        return jnp.sum(jnp.where(present, each, 0.0)), number, metrics

    return loss
