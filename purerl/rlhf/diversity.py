"""How different a policy's completions of one prompt are: what reinforcement learning and DPO make collapse."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Diversity(NamedTuple):
    """Means over prompts of how different the completions of one prompt are.

    Attributes:
      entropy: of the policy's completions, nats per completion; estimated by the mean of -log π(y).
      token_entropy: the same per token, Σ -log π(y) / Σ |y|, which does not grow with the length of completions.
      distinct_1, distinct_2: different words, and pairs of neighbours, as a fraction of all, in (0, 1].
      self_similarity: mean over pairs of completions of the share of neighbours that they have in common, in [0, 1].
    """

    entropy: float
    token_entropy: float
    distinct_1: float
    distinct_2: float
    self_similarity: float


def measure(tokens: np.ndarray, mask: np.ndarray, log_prob: np.ndarray) -> Diversity:
    """Diversity of K completions of each of P prompts, drawn by the policy itself.

    Args:
      tokens: [P, K, T] integers.
      mask: [P, K, T], nonzero on the completions' tokens.
      log_prob: [P, K] log-probability of each completion under the policy, nats.

    Raises:
      ValueError: fewer than two completions per prompt.

    Source: distinct-n, Li et al. 2016, "A diversity-promoting objective function for neural conversation models";
    diversity per prompt of fine-tuned models, Kirk et al. 2024, "Understanding the effects of RLHF on LLM
    generalisation and diversity".

    Examples:
      >>> tokens = np.array([[[1, 2, 3], [1, 2, 4]]])
      >>> found = measure(tokens, tokens > 0, np.log([[0.5, 0.25]]))
      >>> [round(float(x), 3) for x in found]  # 4 of 6 words, 3 of 4 pairs of neighbours; 1 of 2 of these in common
      [1.04, 0.347, 0.667, 0.75, 0.5]
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"diversity needs at least 2 completions per prompt, got {tokens.shape[1]}")
    texts = [
        [row[keep != 0].tolist() for row, keep in zip(*each)] for each in zip(np.asarray(tokens), np.asarray(mask))
    ]
    return Diversity(
        entropy=-float(np.mean(log_prob)),
        token_entropy=-float(np.sum(log_prob) / max(np.sum(np.asarray(mask) != 0), 1)),
        distinct_1=float(np.mean([distinct(group, 1) for group in texts])),
        distinct_2=float(np.mean([distinct(group, 2) for group in texts])),
        self_similarity=float(np.mean([self_similarity(group) for group in texts])),
    )


def distinct(texts: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams of some texts over all their n-grams; 1 if there are none.

    Examples:
      >>> distinct([[1, 2, 1], [1, 2]], n=2)
      0.666...
    """
    grams = [gram for text in texts for gram in n_grams(text, n)]
    return len(set(grams)) / len(grams) if grams else 1.0


def self_similarity(texts: Sequence[Sequence[int]]) -> float:
    """Mean over pairs of texts of 2 |A ∩ B| / (|A| + |B|), A and B being their bigrams with multiplicity (Dice).

    Two texts without bigrams count 1 if they are equal, else 0.

    Examples:
      >>> self_similarity([[1, 2, 3], [1, 2, 3]]), self_similarity([[1, 2, 3], [3, 2, 1]])
      (1.0, 0.0)
    """
    return float(np.mean([_overlap(one, two) for one, two in itertools.combinations(texts, 2)]))


def _overlap(one: Sequence[int], two: Sequence[int]) -> float:
    a, b = (collections.Counter(n_grams(text, 2)) for text in (one, two))
    total = a.total() + b.total()
    return 2 * (a & b).total() / total if total else float(list(one) == list(two))


def n_grams(text: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All runs of n neighbouring tokens."""
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
