import importlib.util

import jax
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env

from purerl import sweep
from purerl.sweep.results import importance as importance_module
from purerl.sweep.results.importance import importance, noise_level

SPACE = {
    "step": sweep.log_uniform(1e-4, 1.0),
    "width": sweep.choice([(64, 64), (8,), (256,)]),
    "idle": sweep.uniform(0.0, 1.0),
}
METHODS = ["fanova", "permutation"]
missing = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")


def draw(count=400):
    """An additive function; the variances of its parts are 16/12 (of 4 u, u in [0, 1]), 2/3 and 0."""
    rng = np.random.default_rng(0)
    unit = rng.random(count)
    width = np.empty(count, object)
    which = rng.integers(0, 3, count)
    width[:] = [SPACE["width"].values[i] for i in which]
    columns = {"step": SPACE["step"].from_unit(unit), "width": width, "idle": rng.random(count)}
    return columns, 4 * unit + np.array([1.0, 0.0, -1.0])[which]


@missing
@pytest.mark.parametrize("method", METHODS)
def test_shares_are_the_known_ones(method):
    columns, returns = draw()
    shares = importance(columns, SPACE, returns, method)
    assert list(shares) == ["step", "width", "idle"]
    assert shares["step"] == pytest.approx(2 / 3, abs=0.08)
    assert shares["width"] == pytest.approx(1 / 3, abs=0.08)
    assert shares["idle"] == pytest.approx(0, abs=0.02)


@missing
def test_a_range_counts_in_its_logarithm():
    """Of 4 u, seen over values instead of logarithms, nearly all lies in the lowest hundredth of the range."""
    columns, _ = draw()
    unit = np.log(columns["step"] / 1e-4) / np.log(1e4)
    returns = np.where(unit < 0.5, 0.0, 1.0) + columns["idle"]
    logarithmic = importance(columns, SPACE, returns)
    linear = importance(columns, {}, returns)
    assert logarithmic["step"] == pytest.approx(0.75, abs=0.06)  # 1/4 against 1/12
    assert linear["step"] < 0.3


@missing
def test_diverged_trials_count_as_the_worst_and_equal_returns_say_nothing():
    columns, returns = draw(100)
    diverged = columns["idle"] > 0.5
    assert next(iter(importance(columns, SPACE, np.where(diverged, np.nan, 10 + returns)))) in ("idle", "step")
    shares = importance(columns, SPACE, np.where(diverged, np.nan, 10.0) + 1e-3 * returns)
    assert next(iter(shares)) != "width"
    assert importance(columns, SPACE, np.ones(100)) == {"step": 0.0, "width": 0.0, "idle": 0.0}
    assert importance({**columns, "same": np.ones(100)}, SPACE, returns)["same"] == 0.0


@missing
def test_what_cannot_be_done_is_said():
    columns, returns = draw(10)
    with pytest.raises(ValueError, match="at least 4 trials"):
        importance({}, {}, returns)
    with pytest.raises(ValueError, match="at least 4 trials"):
        importance(columns, SPACE, returns[:3])
    with pytest.raises(ValueError, match="method = 'shapley'"):
        importance(columns, SPACE, returns, "shapley")
    with pytest.raises(ValueError, match="is a number"):
        importance(columns, SPACE, np.full(10, np.nan))


def test_a_missing_package_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    columns, returns = draw(10)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        importance(columns, SPACE, returns)


@missing
def test_shares_are_those_of_optunas_evaluator():
    optuna = pytest.importorskip("optuna")
    rng = np.random.default_rng(1)
    columns = {name: rng.random(60) for name in ("a", "b", "c")}
    returns = columns["a"] * columns["b"] + rng.random(60)
    for column in columns.values():
        column[:2] = 0, 1  # so that a column is its own place in its range
    floats = dict.fromkeys(columns, optuna.distributions.FloatDistribution(0.0, 1.0))
    study = optuna.create_study(direction="maximize")
    rows = [dict(zip(columns, row)) for row in np.stack(list(columns.values()), axis=1).tolist()]
    study.add_trials(
        [
            optuna.trial.create_trial(params=row, distributions=floats, value=value)
            for row, value in zip(rows, returns.tolist())
        ]
    )
    expected = optuna.importance.FanovaImportanceEvaluator(n_trees=64, seed=0).evaluate(study)
    assert importance(columns, {}, returns, "fanova") == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def halved():
    space = {"target": sweep.uniform(-1.0, 2.0), "learning_rate": sweep.log_uniform(0.5, 0.9)}
    return sweep.search(
        jax.random.key(3), make_agent(), make_env(), Hparams(), space, num_trials=24, num_seeds=2, num_updates=16,
        num_envs=2, rollout_length=4, num_chunks=4, eval_episodes=4, eval_max_steps=4,
        schedule=sweep.successive_halving(2, 3), confirm=3, confirm_seeds=3,
    )  # fmt: skip


def test_trials_are_compared_where_all_of_them_were_evaluated(halved):
    compared = halved.comparable()
    assert compared.trials.tolist() == list(range(24))
    assert compared.steps == 4 * 8
    np.testing.assert_array_equal(compared.returns, halved.rung_returns[0])
    after = halved.evaluated_after()
    assert [(row > 0).sum() for row in after] == [24, 12, 6]
    np.testing.assert_array_equal(after > 0, ~np.isnan(halved.rung_returns).any(axis=(2, 3)))


@missing
def test_a_result_says_what_mattered(halved):
    shares = halved.importance()
    assert list(shares) == ["target", "learning_rate"]
    assert shares["target"] > 0.9


def test_importances_of_pure_noise_stay_below_what_chance_reaches():
    """Five columns without any influence: forests see findings, chance passes one at most."""
    rng = np.random.default_rng(3)
    columns = {name: rng.random(60) for name in "abcde"}
    shares = importance_module.importance(columns, {}, rng.random(60))
    level = importance_module.noise_level(columns, {}, rng.random(60))
    assert max(shares.values()) > 0.1
    assert sum(shares[name] > level[name] for name in columns) <= 1
    returns = columns["a"] + 0.1 * rng.random(60)
    known, level = (each(columns, {}, returns) for each in (importance, importance_module.noise_level))
    assert [name for name in columns if known[name] > level[name]] == ["a"]


def test_a_value_that_makes_training_diverge_is_important_whatever_the_others_return():
    rng = np.random.default_rng(0)
    columns = {"rate": rng.random(200), "other": rng.random(200)}
    shares = importance(columns, {}, np.where(columns["rate"] > 0.7, np.nan, columns["other"]))
    assert shares["rate"] > 0.25


@missing
def test_trees_that_predict_the_same_everywhere_have_no_say():
    """Bootstrap samples of tied returns may leave a tree that splits between equal means."""
    space = {"a": sweep.choice([0, 1])}
    shares = importance({"a": np.array([1, 1, 0, 0, 1, 1])}, space, np.array([500.0, 9, 500, 9, 9, 500]))
    assert shares["a"] == pytest.approx(1)  # of what the other trees predict
    level = noise_level({"a": np.array([0, 0, 0, 1, 0, 0])}, space, np.array([500.0, 100, 500, 500, 500, 500]))
    assert 0 <= level["a"] <= 1


@missing
@pytest.mark.parametrize("default", [0.0, np.inf])
def test_a_default_outside_the_range_leaves_the_range_its_order(default):
    """Half of the trials have the default, whose return is the mean of the others: it adds nothing to the variance."""
    unit = np.random.default_rng(0).random(400)
    searched = np.arange(400) % 2 == 0
    columns = {"step": np.where(searched, SPACE["step"].from_unit(unit), default), "idle": np.roll(unit, 3)}
    shares = importance(columns, SPACE, np.where(searched, unit, 0.5))
    assert shares["step"] > 0.9
    level = noise_level(columns, SPACE, np.where(searched, unit, 0.5))
    assert level["step"] < 0.5
