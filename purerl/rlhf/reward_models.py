"""Reward models: a scalar per text, fitted to rankings of texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import optimization, plug_ins
from purerl.once import build_once
from purerl.rlhf.columns import TEXT, Columns, apply_to_texts, require_columns
from purerl.rlhf.models import value_of
from purerl.rlhf.supervised import SummedLoss, learner
from purerl.types import Agent, Hparams, Metrics, Network, Params

RankingLoss: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""`(rewards [B, K], present [B, K]) -> [B]`, rewards ranked from best to worst."""

RANKING_LOSSES: dict[str, RankingLoss] = {
    "plackett_luce": losses.plackett_luce,
    "pairwise": losses.pairwise_ranking,
}
"""The losses that `reward_model` takes by name. Both are Bradley-Terry's for pairs."""


def rewards(network: Network, params: Params, data: Columns) -> jax.Array:
    """A reward model's scores, its value read at the last token before the padding: tokens [..., W] to [...]."""
    values = value_of(apply_to_texts(network, params, data))
    return losses.last_token(values, data["mask"])


@build_once
def reward_model(
    network: Network,
    loss: str | RankingLoss = "plackett_luce",
    *,
    centering: float = 0.0,
    num_microbatches: int = 1,
    optimizer: optimization.Optimizer = optimization.tree_adam,
) -> Agent:
    """A reward fitted to rankings of K texts by the values at their last tokens.

    "plackett_luce" is the likelihood of the whole ranking, Σ_k (log Σ_{j≥k} exp r_j - r_k); "pairwise" is
    InstructGPT's mean over the C(K, 2) pairs of a ranking, -log σ(r_i - r_j) with i before j.

    Args:
      network: returns (logits, value); start it from an SFT model by `fit(..., state=...)`.
      loss: a name in `RANKING_LOSSES`, or a function `(rewards [B, K], present [B, K]) -> [B]`.
      centering: weight of `reward_centering` of the best two.
      num_microbatches: parts an update is computed in.
      optimizer: `hparams -> optax.GradientTransformation`.

    Returns:
      An agent for `fit` on ranked texts [B, K, W], best first. A text that is all padding (its mask false throughout)
      is absent, so rankings may differ in length, as those of `encode_rankings` do. Metrics: `loss/accuracy` (the
      first above the second) and `loss/margin`. `rewards(network, state.params, data)` scores texts.

    Raises:
      ValueError: an unknown loss, or a negative `centering`; in `update`, a column is missing or texts are not ranked.

    Source: Ouyang et al. 2022, equation 1 (pairwise); Plackett 1975.

    Examples:
      >>> from purerl import rlhf
      >>> agent = rlhf.reward_model(rlhf.table_network(vocab_size=4, length=2, order=1), "pairwise")
      >>> tokens = jnp.array([[[0, 1, 2], [0, 3, 3], [0, 2, 1]]])
      >>> data = {"tokens": tokens, "mask": tokens >= 0, "completion": 0 * tokens + jnp.arange(3) > 0}
      >>> state = agent.init(jax.random.key(0), rlhf.LearnerHparams(), data)
      >>> _, metrics = jax.eval_shape(agent.update, jax.random.key(1), state, data)
      >>> sorted(metrics)
      ['loss/accuracy', 'loss/margin', 'loss/total']
    """
    each = reward_loss(network, loss, centering)
    by_row = isinstance(loss, str)
    return learner(network, each, num_microbatches=num_microbatches, by_row=by_row, optimizer=optimizer)


@build_once
def reward_loss(network: Network, loss: str | RankingLoss = "plackett_luce", centering: float = 0.0) -> SummedLoss:
    """The loss of `reward_model`, summed over the rows; one without texts does not count.

    Raises:
      ValueError: an unknown loss, or a negative `centering`.
    """
    if isinstance(loss, str) and loss not in RANKING_LOSSES:
        raise ValueError(f"loss must be one of {', '.join(RANKING_LOSSES)}, or a function; got {loss!r}")
    if not 0 <= centering < math.inf:
        raise ValueError(f"centering = {centering} must be a finite number of at least 0")
    ranking_loss = RANKING_LOSSES[loss] if isinstance(loss, str) else loss

    def total(params: Params, data: Columns, hparams: Hparams) -> tuple[jax.Array, jax.Array, Metrics]:
        require_columns(data, "reward_model", TEXT[:2], "[B, K, W]")
        reward = rewards(network, params, data)  # [B, K, W] -> [B, K]
        present = jnp.any(jnp.asarray(data["mask"]) != 0, axis=-1)  # [B, K, W] -> [B, K]
        each = plug_ins.each_loss("loss", ranking_loss(reward, present), reward[:, 0], "row")
        each = each + centering * losses.reward_centering(reward[:, 0], reward[:, 1])
        each = jnp.where(present[:, 0], each, 0.0)
        return jnp.sum(each), jnp.sum(1.0 * present[:, 0]), order_metrics(jnp.where(present, reward, 0.0))

    return total


def order_metrics(reward: jax.Array) -> Metrics:
    """Sums over rankings [B, K] of how often, and by how much, the first is above the second."""
    margin = reward[:, 0] - reward[:, 1]
    return {"loss/accuracy": jnp.sum(1.0 * (margin > 0)), "loss/margin": jnp.sum(margin)}
