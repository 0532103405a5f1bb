"""Batches of texts of similar lengths, so that little is padding and few programs are compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """Rows that are computed together, padded to one width."""

    width: int
    rows: np.ndarray


def bucket_widths(
    lengths: np.ndarray, *, max_padding: float = 0.08, most: int = 16, multiple: int = 8
) -> tuple[int, ...]:
    """The fewest widths to which texts can be padded with at most this share of padding.

    For each number of widths, from 1 up to `most`, the best ones are found exactly, by dynamic programming over the
    distinct lengths. If `most` widths leave more padding than `max_padding`, those are returned.

    Args:
      lengths: [R] tokens of each row.
      max_padding: share of the padded tokens.
      most: widths at most; each is one more program to compile.
      multiple: widths are multiples of this, unless that alone would be more padding than `max_padding`.

    Examples:
      >>> bucket_widths(np.array([10, 11, 12, 60, 61]), max_padding=0.2)
      (16, 64)
    """
    if multiple > 1 and 1 - lengths.sum() / (-(-lengths // multiple) * multiple).sum() > max_padding:
        return bucket_widths(lengths, max_padding=max_padding, most=most, multiple=1)
    rounded = -(-np.maximum(lengths, 1) // multiple) * multiple
    sizes, counts = np.unique(rounded, return_counts=True)
    if len(sizes) > 256:  # of very different lengths, quantiles are enough
        sizes = np.unique(np.append(np.quantile(rounded, np.linspace(0, 1, 256), method="higher"), rounded.max()))
        counts = np.bincount(np.searchsorted(sizes, rounded), minlength=len(sizes))
    total = np.cumsum(counts)
    cost = sizes * total  # [U] tokens if everything up to size i is padded to it
    chosen = [[i] for i in range(len(sizes))]
    for count in range(1, most + 1):
        widths = tuple(int(sizes[i]) for i in chosen[-1])
        if 1 - lengths.sum() / cost[-1] <= max_padding or count == most:
            return widths
        # best[i] = min over j < i of cost[j] + sizes[i] (total[i] - total[j])
        table = cost[None, :] + sizes[:, None] * (total[:, None] - total[None, :])  # [U, U]
        table = np.where(np.tri(len(sizes), k=-1, dtype=bool), table, np.iinfo(np.int64).max)
        best = table.argmin(axis=1)
        better = table[np.arange(len(sizes)), best] < cost
        chosen = [[*chosen[best[i]], i] if better[i] else chosen[i] for i in range(len(sizes))]
        cost = np.where(better, table[np.arange(len(sizes)), best], cost)
    raise AssertionError


def parts(
    lengths: np.ndarray, widths: tuple[int, ...], batch_size: int, *, seed: int | None, epoch: int = 0
) -> list[Part]:
    """All rows once, in parts of equal width, shuffled.

    Rows that do not fill a part join those of the next width, so only the widest part may be incomplete.

    Args:
      lengths: [R] tokens of each row.
      widths: from `bucket_widths`; longer rows join the last.
      batch_size: rows of a part.
      seed: of the order; None keeps the order of the rows, for evaluation.
      epoch: which pass over the rows; each has its own order.

    Examples:
      >>> found = parts(np.array([3, 9, 4, 2]), (4, 10), 2, seed=None)
      >>> [(part.width, part.rows.tolist()) for part in found]
      [(4, [0, 2]), (10, [3, 1])]
    """
    generator = None if seed is None else np.random.default_rng((seed, epoch))
    bucket = np.minimum(np.searchsorted(widths, lengths), len(widths) - 1)
    found: list[Part] = []
    left = np.empty(0, np.int64)
    for i, width in enumerate(widths):
        rows = np.flatnonzero(bucket == i)
        rows = rows if generator is None else generator.permutation(rows)
        rows = np.concatenate([left, rows])
        whole = len(rows) // batch_size * batch_size
        found += [Part(width, part) for part in rows[:whole].reshape(-1, batch_size)]
        left = rows[whole:]
    if len(left):
        found.append(Part(widths[-1], left))
    return found if generator is None else [found[i] for i in generator.permutation(len(found))]


def padding_share(lengths: np.ndarray, found: list[Part], batch_size: int) -> float:
    """Share of the tokens of all parts that is padding.

    Args:
      lengths: [R] or [R, K] tokens of each text.
      found: from `parts`.
      batch_size: rows of a part.
    """
    per_row = lengths.reshape(len(lengths), -1)
    padded = sum(part.width for part in found) * batch_size * per_row.shape[1]
    return 1 - per_row.sum() / padded
