"""Statistics of few runs: interquartile means and ranks with bootstrap intervals, in NumPy, for many trials at once.

Follows Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice", section 4.
"""

from __future__ import annotations

import jax
import numpy as np

_BLOCK = 4_000_000  # resampled numbers held at a time: 32 MB


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half: of n sorted values, without the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest.

    Whole values are cut, as in scipy's `trim_mean(x, 0.25)` and rliable; for up to three values it is the mean.

    Args:
      values: [..., n] numbers; n > 0.

    Returns:
      [...] float64; NaN if a value is NaN.

    Raises:
      ValueError: there are no values.

    Examples:
      >>> float(interquartile_mean(np.array([0.0, 1.0, 3.0, 100.0])))
      2.0
    """
    values = np.asarray(values, np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"values of shape {values.shape} contain nothing to average")
    cut = values.shape[-1] // 4
    kept = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]  # [..., n] -> [..., n - 2 cut]
    return np.where(np.isnan(values).any(axis=-1), np.nan, kept.mean(axis=-1))


def quantile(values: np.ndarray, q: float | list[float]) -> np.ndarray:
    """Quantiles over the last axis, interpolated; the lower neighbour when one of two neighbours is infinite.

    Examples:
      >>> quantile(np.array([[1.0, 2.0], [-np.inf, 2.0], [np.nan, 2.0]]), 0.5).tolist()
      [1.5, -inf, nan]
    """
    with np.errstate(invalid="ignore"):  # of an infinity that is interpolated
        between = np.quantile(values, q, axis=-1)
        return np.where(np.isnan(between), np.quantile(values, q, axis=-1, method="lower"), between)


def bootstrap_interval(
    key: jax.Array, values: np.ndarray, confidence: float = 0.95, num_resamples: int = 2000
) -> np.ndarray:
    """Percentile bootstrap interval of the interquartile mean, over independent runs on the last axis.

    The runs are drawn n at a time with replacement, `num_resamples` times; the interval holds the central `confidence`
    of the interquartile means. All leading axes share the draws. It never reaches beyond the smallest and the largest
    run, so it contains the median of all possible runs with a probability of at most 1 - 2^(1-n), whatever
    `confidence` is: 50% with two runs, 75% with three, 94% with five. One run has no interval.

    Args:
      key: typed key; the same key gives the same interval.
      values: [..., n], one number per run.
      confidence: in (0, 1).
      num_resamples: number of draws.

    Returns:
      [..., 2] float64, low and high; NaN if n = 1 or a value is NaN.

    Raises:
      ValueError: `confidence` is not in (0, 1), or `num_resamples` is not positive.

    Examples:
      >>> bootstrap_interval(jax.random.key(0), np.array([[1.0, 2.0], [5.0, 5.0]])).tolist()
      [[1.0, 2.0], [5.0, 5.0]]
    """
    return stratified_bootstrap_interval(key, np.asarray(values)[..., None, :], confidence, num_resamples)


def stratified_bootstrap_interval(
    key: jax.Array, values: np.ndarray, confidence: float = 0.95, num_resamples: int = 2000
) -> np.ndarray:
    """Percentile bootstrap interval of the interquartile mean over the runs of several tasks.

    Each resample draws n runs with replacement within every task, and takes one interquartile mean of all m n numbers;
    the tasks themselves are not resampled. Numbers must be comparable between tasks: normalise them first. With one
    task it is `bootstrap_interval`.

    Agarwal et al. (2021), section 4.1: the interval that rliable's `get_interval_estimates` computes.

    Args:
      key: typed key; the same key gives the same interval.
      values: [..., m, n], one number for each of n runs of m tasks. (rliable has the runs first.)
      confidence, num_resamples: as in `bootstrap_interval`.

    Returns:
      [..., 2] float64, low and high; NaN if n = 1 or a value is NaN.

    Raises:
      ValueError: as in `bootstrap_interval`, or `values` has fewer than two axes.

    Examples:
      >>> low, high = stratified_bootstrap_interval(jax.random.key(0), np.array([[0.0, 0.2], [0.8, 1.0]]))
      >>> round(float(low), 2), round(float(high), 2)
      (0.4, 0.6)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must lie between 0 and 1")
    values = np.asarray(values, np.float64)
    if values.ndim < 2:
        raise ValueError(f"values of shape {values.shape} must be [..., tasks, runs]")
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    means = _resampled_means(key, values, num_resamples)
    return np.moveaxis(quantile(means, tails), 0, -1)


def coverage_limit(num_runs: int, confidence: float = 0.95) -> float:
    """The highest probability with which a percentile bootstrap interval of n runs contains the median of all runs.

    min(confidence, 1 - 2^(1-n)), since the interval never reaches beyond the runs.

    Examples:
      >>> [round(coverage_limit(n), 2) for n in (2, 3, 5, 10)]
      [0.5, 0.75, 0.94, 0.95]
    """
    return min(confidence, 1 - 2.0 ** (1 - num_runs))


def rank_interval(
    key: jax.Array, values: np.ndarray, confidence: float = 0.95, num_resamples: int = 2000
) -> np.ndarray:
    """Percentile bootstrap interval of each trial's rank, 1 being the highest interquartile mean.

    A resample draws the same n seeds for all trials, since seed s is the same key in each, and ranks the trials; ties
    share the mean of their ranks, and trials with NaN come last.

    Args:
      key: typed key; the same key gives the same interval.
      values: [P, n], one number for each of n seeds of P trials.
      confidence, num_resamples: as in `bootstrap_interval`.

    Returns:
      [P, 2] float64, the best and the worst rank; NaN with one seed.

    Raises:
      ValueError: as in `bootstrap_interval`.

    Examples:
      >>> rank_interval(jax.random.key(0), np.array([[9.0, 8.0], [1.0, 2.0]])).tolist()
      [[1.0, 1.0], [2.0, 2.0]]
    """
    values = np.asarray(values, np.float64)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must lie between 0 and 1")
    means = _resampled_means(key, values[:, None, :], num_resamples)
    if values.shape[1] < 2:
        return np.full((len(values), 2), np.nan)
    ranks = mean_ranks(np.where(np.isnan(values).any(axis=1)[:, None], np.inf, -means))
    return np.quantile(ranks, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1).T


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's ρ, the correlation of two rankings, over the entries that are not NaN in either.

    ρ = cov(rank a, rank b) / (std(rank a) std(rank b)), where ties share the mean of their ranks.

    Args:
      a, b: [n] numbers.

    Returns:
      -1 (reversed) to 1 (the same order); NaN if fewer than two entries remain, or all of one side are equal.

    Examples:
      >>> round(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])), 6)
      0.5
    """
    both = ~np.isnan(a) & ~np.isnan(b)
    ranks = np.stack([mean_ranks(a[both]), mean_ranks(b[both])])
    if both.sum() < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def _resampled_means(key: jax.Array, values: np.ndarray, num_resamples: int) -> np.ndarray:
    """[..., m, n] to [..., num_resamples]: interquartile means of runs resampled within each task; NaN if n = 1."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples = {num_resamples} must be at least 1")
    *leading, num_tasks, num_runs = values.shape
    if num_runs < 2:
        return np.full((*leading, num_resamples), np.nan)
    draws = np.asarray(jax.random.randint(key, (num_resamples, num_tasks, num_runs), 0, num_runs))  # [B, m, n]
    rows = values.reshape(-1, num_tasks, num_runs)  # [..., m, n] -> [N, m, n]
    step = max(1, _BLOCK // draws.size)
    tasks = np.arange(num_tasks)[:, None]
    means = [
        interquartile_mean(rows[i : i + step][:, tasks, draws].reshape(-1, num_resamples, num_tasks * num_runs))
        for i in range(0, len(rows), step)
    ]
    return np.concatenate(means).reshape(*leading, num_resamples)


def mean_ranks(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Ranks along an axis, from 1; ties share their mean. SciPy's statistics take a second to import."""
    from scipy.stats import rankdata

    return rankdata(values, axis=axis)
