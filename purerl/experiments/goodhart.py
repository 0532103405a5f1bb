"""A token task small enough to enumerate, so that claims about optima can be checked exactly.

Texts are one prompt token and `length` tokens of `vocab_size`; the reference is a Markov chain; the reward is a sum
of unary and neighbouring-pair terms. So the optimum of E[r] - β KL(π ‖ π_ref), π_ref exp(r / β) / Z, is a Markov chain
too.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops, losses
from purerl.once import build_once
from purerl.rlhf import reward_models
from purerl.rlhf.models import Network, logits_of, table_network
from purerl.rlhf.supervised import LearnerHparams
from purerl.types import Key, Params


class TokenTask(NamedTuple):
    """The task as data. E = vocab_size ** length texts, W = 1 + length.

    Attributes:
      texts: [E, W] every text, the prompt token (0) in front.
      reference: logits of the reference, as `table_network`'s parameter of order 1: ([1, V], [V, V], ...).
      unary: [W - 1, V] reward of token v at position t.
      pairwise: [W - 2, V, V] reward of the tokens v, w at positions t, t + 1.
    """

    texts: jax.Array
    reference: tuple[jax.Array, ...]
    unary: jax.Array
    pairwise: jax.Array


def token_task(key: Key, vocab_size: int = 8, length: int = 4, scale: float = 1.0) -> TokenTask:
    """A random task: unary and pairwise terms are normal of deviation `scale` / √2, the reference's logits of 1."""
    ref_key, unary_key, pair_key = jax.random.split(key, 3)
    digits = np.indices((vocab_size,) * length).reshape(length, -1).T
    texts = jnp.asarray(np.pad(digits, ((0, 0), (1, 0))), jnp.int32)
    keys = jax.random.split(ref_key, length)
    reference = tuple(jax.random.normal(k, (1 if t == 0 else vocab_size, vocab_size)) for t, k in enumerate(keys))
    unary = jax.random.normal(unary_key, (length, vocab_size)) * scale / 2**0.5
    pairwise = jax.random.normal(pair_key, (length - 1, vocab_size, vocab_size)) * scale / 2**0.5
    return TokenTask(texts, reference, unary, pairwise)


def reward(task: TokenTask, tokens: jax.Array) -> jax.Array:
    """The true reward of one text [W]: Σ_t unary[t, y_t] + Σ_t pairwise[t, y_t, y_{t+1}]."""
    y = tokens[1:]
    t = jnp.arange(y.shape[0])
    return jnp.sum(task.unary[t, y]) + jnp.sum(task.pairwise[t[:-1], y[:-1], y[1:]])


def all_rewards(task: TokenTask) -> jax.Array:
    """[E] rewards."""
    return jax.vmap(lambda text: reward(task, text))(task.texts)


def all_log_probs(network: Network, params: Params, texts: jax.Array) -> jax.Array:
    """[E] log-probability of each text [E, W] under a network; they sum to one in probability."""
    everything = jnp.ones(texts.shape, bool)
    logits = jax.vmap(lambda t, m: logits_of(network.apply(params, t, m)))(texts, everything)
    return losses.sequence_log_probs(logits, texts, everything)


def total_variation(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """½ Σ |p - q|, in [0, 1]."""
    return 0.5 * jnp.sum(jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)))


def reference_params(task: TokenTask, order: int) -> Params:
    """The reference as parameters of `table_network(V, length, order)`, order at least 1, with values of 0."""
    vocab_size = task.unary.shape[1]
    tables = []
    for t, table in enumerate(task.reference):
        repeats = vocab_size ** max(0, min(order, t) - 1)
        tables.append(jnp.tile(table, (repeats, 1)))
    return {"logits": tuple(tables), "value": tuple(jnp.zeros(table.shape[0]) for table in tables)}


def ranked_texts(key: Key, task: TokenTask, ref_log_probs: jax.Array, rows: int, k: int = 2) -> dict[str, jax.Array]:
    """Texts sampled from the reference in groups of k, ranked by a Plackett-Luce labeller of the true reward.

    For k = 2 the labeller is Bradley-Terry's: P(first wins) = σ(r_1 - r_2).

    Args:
      key: typed key.
      task: the task.
      ref_log_probs: [E] of its reference, from `all_log_probs`.
      rows: B, groups.
      k: K, texts per group.

    Returns:
      `tokens`, `mask`, `completion` [B, K, W], best first, and `ref_log_prob`, `reward` (true) [B, K].
    """
    draw_key, rank_key = jax.random.split(key)
    cumulative = jnp.cumsum(jnp.exp(ref_log_probs))
    points = jax.random.uniform(draw_key, (rows, k)) * cumulative[-1]
    index = jnp.clip(jnp.searchsorted(cumulative, points), 0, len(cumulative) - 1)
    noisy = all_rewards(task)[index] + jax.random.gumbel(rank_key, (rows, k))
    index = jnp.take_along_axis(index, jnp.argsort(-noisy, axis=1), axis=1)
    tokens = task.texts[index]
    mask = jnp.ones(tokens.shape, bool)
    columns = {"tokens": tokens, "mask": mask, "completion": mask.at[..., 0].set(False)}
    return columns | {"ref_log_prob": ref_log_probs[index], "reward": all_rewards(task)[index]}


@build_once
def additive_reward(vocab_size: int, length: int) -> Network:
    """A reward model of the true reward's form: value[t] = Σ_{s≤t} unary[s, y_s] + Σ_{s<t} pairwise[s, y_s, y_s+1]."""

    def init(key: Key, tokens: jax.Array, mask: jax.Array) -> Params:
        return {
            "unary": jnp.zeros((length, vocab_size)),
            "pairwise": jnp.zeros((length - 1, vocab_size, vocab_size)),
        }

    def apply(params: Params, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, t = tokens[1:], jnp.arange(length)
        steps = params["unary"][t, y]
        steps = steps.at[1:].add(params["pairwise"][t[:-1], y[:-1], y[1:]])
        return jnp.zeros((length + 1, vocab_size)), jnp.pad(jnp.cumsum(steps), (1, 0))

    return Network(init, apply)


class Goodhart(NamedTuple):
    """Exact means under π_ref exp(learned / β) / Z for each β, [N]: true and learned reward, KL to the reference."""

    beta: jax.Array
    true_reward: jax.Array
    proxy_reward: jax.Array
    kl: jax.Array


def goodhart_curve(ref_log_probs: jax.Array, true: jax.Array, learned: jax.Array, beta: jax.Array) -> Goodhart:
    """True and learned reward as the learned one is optimised harder and harder, by enumeration.

    The learned reward never falls as β falls (its derivative in 1 / β is its variance); the true one may.

    Args:
      ref_log_probs: [E] log π_ref.
      true, learned: [E] rewards.
      beta: [N] from weak to strong optimisation: large to small.
    """

    def at(beta: jax.Array) -> Goodhart:
        log_prob = losses.kl_regularized_optimum(ref_log_probs, learned, beta)
        probability = jnp.exp(log_prob)
        kl = jnp.sum(probability * (log_prob - ref_log_probs))
        return Goodhart(beta, jnp.sum(probability * true), jnp.sum(probability * learned), kl)

    return jax.vmap(at)(beta)


def goodhart(seed: int = 0, num_pairs: int = 1_000) -> Goodhart:
    """The curve of a reward model fitted to `num_pairs` pairs of a random task, for β from 10 down to 0.1.

    The model has the true reward's form and is fitted without regularisation: its error is due to the few pairs alone.
    """
    key = jax.random.key(seed)
    task = token_task(key)
    vocab_size, length = task.unary.shape[1], task.unary.shape[0]
    ref = all_log_probs(table_network(vocab_size, length, 1), reference_params(task, 1), task.texts)
    network = additive_reward(vocab_size, length)
    pairs = ranked_texts(jax.random.clone(key), task, ref, num_pairs)
    hparams = LearnerHparams(0.1, anneal_updates=500)
    state, _ = loops.fit(jax.random.clone(key), reward_models.reward_model(network), pairs, hparams, num_updates=500)
    everything = {"tokens": task.texts, "mask": jnp.ones(task.texts.shape, bool)}
    learned = reward_models.rewards(network, state.params, everything)
    return goodhart_curve(ref, all_rewards(task), learned, jnp.geomspace(10.0, 0.1, 41))
