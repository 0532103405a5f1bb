import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from purerl.sweep.results import statistics


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


# --- Several tasks ----------------------------------------------------------------------------------------------------


def test_the_stratified_interval_of_one_task_is_the_plain_one():
    values = np.random.default_rng(6).normal(size=(3, 5))
    plain = statistics.bootstrap_interval(jax.random.key(6), values)
    np.testing.assert_array_equal(statistics.stratified_bootstrap_interval(jax.random.key(6), values[:, None]), plain)


def test_runs_are_resampled_within_their_task():
    """Tasks without any spread have none together; runs mixed across tasks would have it."""
    values = np.repeat(np.arange(4.0)[:, None], 6, axis=1)
    interval = statistics.stratified_bootstrap_interval(jax.random.key(0), values)
    np.testing.assert_array_equal(interval, [1.5, 1.5])


def test_the_stratified_interval_equals_every_resample_enumerated():
    tasks = np.array([[0.0, 1.0, 5.0], [10.0, 2.0, 3.0]])
    draws = list(itertools.product(range(3), repeat=3))
    every = [stats.trim_mean([*tasks[0, list(a)], *tasks[1, list(b)]], 0.25) for a in draws for b in draws]
    low, high = statistics.stratified_bootstrap_interval(jax.random.key(1), tasks, 0.9, num_resamples=20_000)
    at = np.quantile(every, [0.04, 0.06, 0.94, 0.96], method="inverted_cdf")
    assert at[0] <= low <= at[1]
    assert at[2] <= high <= at[3]


def test_the_stratified_interval_is_that_of_rliable(monkeypatch):
    library = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")
    bootstrap = pytest.importorskip("arch.bootstrap").IIDBootstrap
    begin = bootstrap.__init__  # rliable passes a random_state, which arch calls seed since version 6
    monkeypatch.setattr(bootstrap, "__init__", lambda self, *data, random_state=None: begin(self, *data))
    rng = np.random.default_rng(7)
    scores = rng.normal(rng.normal(size=5)[:, None], rng.uniform(0.2, 1.5, size=5)[:, None], size=(5, 8))
    np.random.seed(0)  # rliable draws from the global generator
    point, interval = library.get_interval_estimates(
        {"agent": scores.T}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=10_000
    )
    mine = statistics.stratified_bootstrap_interval(jax.random.key(8), scores, num_resamples=20_000)
    assert statistics.interquartile_mean(scores.reshape(-1)) == pytest.approx(point["agent"][0], abs=1e-12)
    np.testing.assert_allclose(mine, interval["agent"][:, 0], atol=0.02)
    unstratified = statistics.bootstrap_interval(jax.random.key(8), scores.reshape(-1))
    assert np.abs(unstratified - mine).max() > 0.05  # the tolerance tells the two apart


def test_the_stratified_interval_covers_the_true_mean_as_often_as_it_says():
    """Three symmetric tasks of unlike spread around their own means; the mixture's interquartile mean is 0."""
    noise = np.random.default_rng(9).normal(size=(600, 3, 16))
    values = np.array([-1.0, 0.0, 1.0])[:, None] + np.array([0.5, 1.0, 0.5])[:, None] * noise
    interval = statistics.stratified_bootstrap_interval(jax.random.key(10), values, num_resamples=300)
    covered = ((interval[:, 0] <= 0) & (interval[:, 1] >= 0)).mean()
    assert 0.91 <= covered <= 0.97


def test_tasks_need_an_axis_of_their_own():
    with pytest.raises(ValueError, match="tasks, runs"):
        statistics.stratified_bootstrap_interval(jax.random.key(0), np.ones(4))


# --- Ranks ------------------------------------------------------------------------------------------------------------


def test_rank_intervals_are_tight_where_the_seeds_agree_and_wide_where_they_do_not():
    values = np.array([[9.0, 9, 9, 9], [1, 1, 1, 1], [0, 7, 7, 0], [7, 0, 0, 7], [np.nan, 9, 9, 9]])
    interval = statistics.rank_interval(jax.random.key(0), values)
    np.testing.assert_array_equal(interval[[0, 4]], [[1, 1], [5, 5]])
    np.testing.assert_array_equal(interval[[2, 3]], [[2, 4], [2, 4]])
    np.testing.assert_array_equal(interval[1], [3, 4])  # 4 where both of the others have 3.5 from two seeds of each


def test_a_rank_interval_holds_the_central_share_of_the_resamples():
    """Of the resamples of two seeds a quarter has the first trial ahead, a quarter the second, and half tie."""
    values = np.array([[0.0, 3.0], [1.0, 2.0]])
    wide, narrow = (statistics.rank_interval(jax.random.key(0), values, confidence=share) for share in (0.6, 0.4))
    np.testing.assert_array_equal(wide, [[1, 2], [1, 2]])  # from the 20th to the 80th percentile
    np.testing.assert_array_equal(narrow, [[1.5, 1.5], [1.5, 1.5]])


def test_equal_trials_share_their_rank_and_one_seed_has_no_interval():
    np.testing.assert_array_equal(statistics.rank_interval(jax.random.key(0), np.ones((4, 3))), [[2.5, 2.5]] * 4)
    assert np.isnan(statistics.rank_interval(jax.random.key(0), np.ones((4, 1)))).all()
    with pytest.raises(ValueError, match="confidence"):
        statistics.rank_interval(jax.random.key(0), np.ones((4, 3)), 95)


def test_rank_correlation_is_spearmans_over_those_that_have_both():
    rng = np.random.default_rng(3)
    a = np.append(rng.integers(0, 5, 20).astype(float), [np.nan, 3.0])
    b = np.append(a[:20] + rng.normal(size=20).round(), [1.0, np.nan])
    assert statistics.rank_correlation(a, b) == pytest.approx(stats.spearmanr(a[:20], b[:20]).statistic)
    assert np.isnan(statistics.rank_correlation(np.ones(3), np.arange(3.0)))
    assert np.isnan(statistics.rank_correlation(np.array([1.0, np.nan]), np.array([1.0, 2.0])))


def test_an_interval_of_few_runs_covers_no_more_than_their_range_can():
    """n runs all lie on one side of the median with a probability of 2^(1-n)."""
    assert [statistics.coverage_limit(n) for n in (2, 3, 12)] == [0.5, 0.75, 0.95]
