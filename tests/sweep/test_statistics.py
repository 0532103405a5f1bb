import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from purerl.sweep import statistics


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], 3.0),
        ([1.0, 4.0], 2.5),
        ([0.0, 1.0, 11.0], 4.0),
        ([100.0, 1.0, 2.0, -50.0], 1.5),
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 99.0, 99.0], 2.5),
    ],
)
def test_interquartile_mean_by_hand(values, expected):
    assert statistics.interquartile_mean(np.array(values)) == expected


@pytest.mark.parametrize("n", range(1, 18))
def test_interquartile_mean_is_the_trimmed_mean(n):
    values = np.random.default_rng(n).normal(size=(3, 5, n))
    np.testing.assert_allclose(statistics.interquartile_mean(values), stats.trim_mean(values, 0.25, axis=-1))


def test_interquartile_mean_of_nan_is_nan_and_does_not_reach_the_other_trials():
    values = np.array([[1.0, np.nan, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(statistics.interquartile_mean(values), [np.nan, 1.0])


def test_interquartile_mean_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing to average"):
        statistics.interquartile_mean(np.zeros((3, 0)))


@pytest.mark.parametrize("runs", [[1.0, 7.0], [0.0, 1.0, 5.0], [0.0, 2.0, 3.0, 50.0], [1.0, 2.0, 4.0, 8.0, 16.0]])
def test_bootstrap_interval_equals_every_resample_enumerated(runs):
    every = [stats.trim_mean(draw, 0.25) for draw in itertools.product(runs, repeat=len(runs))]
    low, high = statistics.bootstrap_interval(jax.random.key(1), np.array(runs), 0.9, num_resamples=20_000)
    # the enumerated distribution is discrete: the estimate must lie between its quantiles a little to either side
    at = np.quantile(every, [0.04, 0.06, 0.94, 0.96], method="inverted_cdf")
    assert at[0] <= low <= at[1]
    assert at[2] <= high <= at[3]


def test_bootstrap_interval_of_two_runs_is_their_range():
    low, high = statistics.bootstrap_interval(jax.random.key(0), np.array([3.0, 8.0]))
    assert (low, high) == (3.0, 8.0)


def test_bootstrap_interval_of_one_run_is_unknown():
    assert np.isnan(statistics.bootstrap_interval(jax.random.key(0), np.ones((4, 1)))).all()


def test_bootstrap_interval_agrees_with_scipy():
    runs = np.random.default_rng(0).normal(size=24)
    mine = statistics.bootstrap_interval(jax.random.key(2), runs, num_resamples=20_000)
    theirs = stats.bootstrap(
        (runs,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    np.testing.assert_allclose(mine, theirs, atol=0.02)


def test_bootstrap_interval_is_deterministic_and_the_same_for_one_trial_and_many(monkeypatch):
    key = jax.random.key(3)
    values = np.random.default_rng(3).normal(size=(7, 5, 6))
    together = statistics.bootstrap_interval(key, values)
    monkeypatch.setattr(statistics, "_BLOCK", 1)  # one trial at a time
    np.testing.assert_array_equal(together, statistics.bootstrap_interval(key, values))
    np.testing.assert_array_equal(together[4, 2], statistics.bootstrap_interval(key, values[4, 2]))
    assert (together != statistics.bootstrap_interval(jax.random.key(4), values)).any()


def test_bootstrap_interval_covers_the_true_mean_as_often_as_it_says():
    values = np.random.default_rng(4).normal(size=(2000, 20))
    interval = statistics.bootstrap_interval(jax.random.key(5), values, num_resamples=500)
    covered = ((interval[:, 0] <= 0) & (interval[:, 1] >= 0)).mean()
    assert 0.89 <= covered <= 0.96  # a percentile bootstrap of 20 runs is a little too narrow


@pytest.mark.parametrize(
    ("options", "field"), [({"confidence": 95}, "confidence"), ({"num_resamples": 0}, "num_resamples")]
)
def test_bootstrap_interval_names_the_bad_argument(options, field):
    with pytest.raises(ValueError, match=field):
        statistics.bootstrap_interval(jax.random.key(0), np.ones(4), **options)
