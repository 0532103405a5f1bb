"""Preferences from clicks: a click model with position bias and noise, and weights that correct for the bias.

A list shows K documents. Its reader examines position k with probability η_k, and clicks an examined document i with
probability γ_i = ε + (1 - 2ε) σ(relevance_i). A click on i and none on j is read as "i is preferred to j", but j may
not have been examined. With c the clicks, the weight

    (c_i / η_i) (1 - c_j / η_j)      has the expectation      γ_i (1 - γ_j)

wherever the two were shown, so the Bradley-Terry loss under it is minimised when the scores differ by the difference of
the logits of γ, which do not depend on position. The naive weight c_i (1 - c_j) learns the order of display too.

Source: the position-based model, Craswell et al. 2008; the weight, Saito 2020, "Unbiased pairwise learning from biased
implicit feedback".
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import loops, losses
from purerl.agents.common import optimization
from purerl.agents.common.optimization import AdamHparams
from purerl.once import build_once
from purerl.types import Agent, Hparams, Key, Metrics, TrainState


class Impressions(NamedTuple):
    """Displayed lists: features [B, K, D] of the documents in their order, and clicks [B, K] bool."""

    features: jax.Array
    clicks: jax.Array


class ClickPairs(NamedTuple):
    """Pairs within lists: features [N, D] of the first and the second, and the weight [N] of "first preferred"."""

    first: jax.Array
    second: jax.Array
    weight: jax.Array


def examination(num_positions: int, bias: float | jax.Array = 1.0) -> jax.Array:
    """[K] η_k = k^-bias: the probability that position k is examined.

    Examples:
      >>> examination(4, bias=2.0).tolist()[:2]
      [1.0, 0.25]
    """
    return jnp.arange(1.0, num_positions + 1) ** -bias


def show(
    key: Key,
    features: jax.Array,
    relevance: jax.Array,
    score: jax.Array,
    eta: jax.Array,
    noise: float = 0.1,
) -> Impressions:
    """Lists displayed in the order of a score, and the clicks of simulated readers.

    Args:
      key: typed key.
      features: [B, K, D] of K documents per list, in any order.
      relevance: [B, K] true relevance, a logit.
      score: [B, K]; the highest is displayed first.
      eta: [K] probability that a position is examined.
      noise: ε.
    """
    examine_key, click_key = jax.random.split(key)
    order = jnp.argsort(-score, axis=1)
    shown = jnp.take_along_axis(features, order[..., None], axis=1)
    attraction = noise + (1 - 2 * noise) * jax.nn.sigmoid(jnp.take_along_axis(relevance, order, axis=1))
    seen = jax.random.bernoulli(examine_key, eta, order.shape)
    return Impressions(shown, seen & jax.random.bernoulli(click_key, attraction))


def to_pairs(impressions: Impressions, eta: jax.Array | None = None) -> ClickPairs:
    """Every ordered pair of each list's documents, weighted by the clicks.

    Args:
      impressions: lists and clicks.
      eta: [K] probability of examination, for the unbiased weight; None takes the naive one, as if all were examined.

    Returns:
      N = B · K · (K - 1) pairs. An unbiased weight may be negative if both were clicked; only its expectation matters.

    Raises:
      ValueError: a list has fewer than two documents.
    """
    clicks = impressions.clicks.astype(jnp.float32)
    num_positions = clicks.shape[1]
    if num_positions < 2:
        raise ValueError(f"a list must have at least two documents to compare, got clicks of shape {clicks.shape}")
    estimate = clicks if eta is None else clicks / eta
    first, second = jnp.array([(i, j) for i in range(num_positions) for j in range(num_positions) if i != j]).T
    weight = estimate[:, first] * (1 - estimate[:, second])
    rows = impressions.features
    preferred, other = (rows[:, index].reshape(-1, rows.shape[-1]) for index in (first, second))
    return ClickPairs(preferred, other, weight.reshape(-1))


@build_once
def linear_scorer() -> Agent:
    """An agent for `fit` on `ClickPairs`: score = w · features, by weighted Bradley-Terry; `params` is w [D]."""

    def init(key: Key, hparams: Hparams, example: ClickPairs, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimization.tree_adam, hparams, jnp.zeros(example.first.shape[-1]))

    def update(key: Key, state: TrainState, data: ClickPairs) -> tuple[TrainState, Metrics]:
        def loss(params: jax.Array) -> tuple[jax.Array, Metrics]:
            each = losses.bradley_terry(data.first @ params, data.second @ params)  # [N]
            total = jnp.sum(data.weight * each) / jnp.maximum(jnp.sum(data.weight), 1e-8)
            return total, {"loss/total": total}

        return optimization.gradient_update(optimization.tree_adam, loss, state)

    def act(key: Key | None, state: TrainState, obs: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        score = obs @ state.params
        return jnp.argmax(score).astype(jnp.int32), {"score": score}

    return Agent(init, act, update)


class BiasCurve(NamedTuple):
    """Weights [N, D] learned from the same clicks, naively and corrected, for N strengths of bias [N]; true [D]."""

    bias: jax.Array
    true: jax.Array
    naive: jax.Array
    corrected: jax.Array


def bias_curve(key: Key, bias: jax.Array, num_lists: int = 5_000, num_positions: int = 5) -> BiasCurve:
    """Weights learned from clicks as readers examine less and less of lists ordered by an irrelevant feature.

    A document has three normal features: the first adds to its relevance, the second subtracts from it, and the third
    is irrelevant and decides the order.

    Args:
      key: typed key; every strength sees the same documents.
      bias: [N] strengths, see `examination`; 0: everything is examined.
      num_lists, num_positions: B and K.
    """
    documents = jax.random.normal(key, (num_lists, num_positions, 3))
    true = jnp.array([1.0, -1.0, 0.0])
    agent, hparams = linear_scorer(), AdamHparams(0.1, anneal_updates=100)

    def weights(pairs: ClickPairs) -> jax.Array:
        return loops.fit(jax.random.clone(key), agent, pairs, hparams, num_updates=100)[0].params

    def at(bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        eta = examination(num_positions, bias)
        impressions = show(jax.random.clone(key), documents, documents @ true, documents[..., 2], eta)
        return weights(to_pairs(impressions)), weights(to_pairs(impressions, eta))

    return BiasCurve(bias, true, *jax.vmap(at)(bias))


def alignment(weights: jax.Array, true: jax.Array) -> jax.Array:
    """Cosine between weights [..., D] and the true ones [D]."""
    return weights @ true / (jnp.linalg.norm(weights, axis=-1) * jnp.linalg.norm(true))
