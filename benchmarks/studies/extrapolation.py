"""Does extrapolating learning curves choose better which trials go on? Successive halving on recorded trials.

    python -m benchmarks.studies.extrapolation

The records are those of `search_quality`: every trial evaluated after a sixteenth, a quarter and all of its steps. Both
searches drop three of four trials after each of the first two rungs. Halving keeps those with the best return so far.
Freeze-thaw (Swersky et al., 2014) keeps those whose predicted end is best; here the prediction is the straight line
through a trial's last two evaluations over the logarithm of the steps, of which a `share` of the slope is believed:

    predicted = last + share * (last - the one before),    since each rung is four times as long as the one before.

The share is chosen on half of the tasks' trials and judged on the other half. The first rung has one evaluation, so it
decides as halving does. Writes results/extrapolation.json.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.studies.search_quality import (
    EPISODES,
    ETA,
    RESULTS,
    SEARCHED_SEEDS,
    TASKS,
    interval,
    judged,
    load,
)

SHARES = (-0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
REPEATS, SIZE = 30, 32


def main() -> None:
    record = {name: figures(load(name)) for name in TASKS}
    for name, each in record.items():
        print(name, json.dumps(each, indent=1), flush=True)
    (RESULTS / "extrapolation.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def figures(returns: np.ndarray) -> dict[str, Any]:
    """How well the end is predicted from a quarter of the steps, and what searches by the predictions find."""
    order = np.random.default_rng(0).permutation(returns.shape[1])
    tuning, testing = returns[:, order[::2]], returns[:, order[1::2]]
    found = {share: repeated(tuning, share) for share in SHARES}
    best = max(SHARES, key=lambda share: float(found[share].mean()))
    chosen, halving = repeated(testing, best), repeated(testing, 0.0)
    return {
        "spearman_with_the_end": {str(share): agreement(returns, share) for share in SHARES},
        "found_in_tuning": {str(share): float(values.mean()) for share, values in found.items()},
        "share": best,
        "halving": interval(halving),
        "extrapolation": interval(chosen),
        "difference": interval(chosen - halving),
        "difference_with_the_whole_slope": interval(repeated(testing, 1.0) - halving),
    }


def seen(returns: np.ndarray) -> np.ndarray:
    """[R, P] the mean of what a search sees of each trial after each rung."""
    return returns[:, :, :SEARCHED_SEEDS, : EPISODES // 2].mean(axis=(2, 3), dtype=np.float64)


def predicted(means: np.ndarray, share: float) -> np.ndarray:
    """[P] the end of each trial, from the evaluations after the first two rungs."""
    return means[1] + share * (means[1] - means[0])


def agreement(returns: np.ndarray, share: float) -> float:
    """Spearman's rank correlation of the prediction with the return at the end on seeds that no search sees."""
    return float(spearmanr(predicted(seen(returns), share), judged(returns)).statistic)


def repeated(returns: np.ndarray, share: float) -> np.ndarray:
    """[REPEATS] what a search over a random part of the trials finds, on seeds that it does not see."""
    return np.array([find(np.random.default_rng(i), returns, share) for i in range(REPEATS)])


def find(rng: np.random.Generator, returns: np.ndarray, share: float) -> float:
    """Return of the trial that one search chooses."""
    size = min(SIZE, 2 * returns.shape[1] // 3)
    trials = rng.choice(returns.shape[1], size, replace=False)
    means, worth = seen(returns), judged(returns)
    second = best_of(trials, means[0], -(-size // ETA))
    last = best_of(second, predicted(means, share), -(-size // ETA**2))
    return float(worth[best_of(last, means[2], 1)[0]])


def best_of(trials: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """The `count` trials with the highest score; NaN comes last."""
    return trials[np.argsort(-np.nan_to_num(score[trials], nan=-np.inf), kind="stable")[:count]]


if __name__ == "__main__":
    main()
