"""Models that choose trials: against oracles, on functions that are known, and in a whole search."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env
from scipy import stats

from purerl import checkpoint, sweep
from purerl.sweep.model_search import _warm, propose
from purerl.sweep.models import gp, tpe
from purerl.sweep.models.encoding import axes_of, encode, observed
from purerl.sweep.results.result import Result
from purerl.sweep.trials.trials import make, split

KEY = jax.random.key(3)
SPACES = {
    "rate": sweep.log_uniform(1e-4, 1.0),
    "size": sweep.integers(1, 9),
    "kind": sweep.choice(["a", "b", "c"]),
}
NOWHERE = jnp.zeros((0, 3))


def value(columns):
    """Best at a rate of 1e-2, a size of 6 and kind b."""
    far = (np.log10(columns["rate"]) + 2) ** 2 + 0.1 * (columns["size"] - 6.0) ** 2
    return -far - (columns["kind"] != "b")


def drawn(number, seed=0):
    unit = np.random.default_rng(seed).random((number, 3))
    return axes_of(SPACES).decode(SPACES, unit)


@functools.cache
def seen(number=24):
    columns = drawn(number)
    return observed(encode(SPACES, columns), value(columns))


def test_points_are_decoded_to_what_they_were_encoded_from():
    columns = drawn(50)
    again = axes_of(SPACES).decode(SPACES, encode(SPACES, columns))
    np.testing.assert_allclose(again["rate"], columns["rate"], rtol=1e-4)
    assert again["size"].tolist() == columns["size"].tolist()
    assert again["kind"].tolist() == columns["kind"].tolist()


def test_scores_become_quantiles_and_what_diverged_is_the_worst():
    made = observed(np.zeros((5, 3)), np.array([1.0, np.nan, 1e9, 2.0, -7.0]))
    scores = np.asarray(made.scores)[:5]
    assert np.argsort(scores).tolist() == [1, 4, 0, 3, 2]
    assert np.abs(scores).max() < 3
    assert made.known.tolist() == [True] * 5 + [False] * 3


@pytest.mark.parametrize("model", ["tpe", "gp"])
def test_a_model_proposes_better_than_chance_in_a_batch_of_different_points(model):
    made = propose(KEY, SPACES, seen(), model, 8)
    assert value(made).mean() > value(drawn(400, 1)).mean() + 1
    assert np.median(value(made)) > np.quantile(value(drawn(400, 1)), 0.8)
    assert len({tuple(row) for row in zip(*(column.tolist() for column in made.values()))}) == 8


@pytest.mark.parametrize("model", [tpe, gp])
def test_candidates_are_chosen_once_each_and_the_same_key_chooses_the_same(model):
    columns = drawn(30, 2)
    points = jnp.asarray(encode(SPACES, columns))
    run = functools.partial(model.propose, KEY, seen(), points, sizes=(0, 0, 3), count=8)
    chosen = run().tolist()
    assert len(set(chosen)) == 8
    assert run().tolist() == chosen
    assert value(columns)[chosen].mean() > value(columns).mean()


@pytest.mark.parametrize("model", [tpe, gp])
@pytest.mark.filterwarnings("error")
def test_a_model_computes_in_the_default_precision(model):
    with jax.enable_x64(True):
        seen = observed(np.linspace(0, 1, 4)[:, None], np.arange(4.0))
        chosen = jax.eval_shape(functools.partial(model.propose, sizes=(0,), count=2), KEY, seen, jnp.zeros((0, 1)))
    assert chosen.dtype == float


def test_the_density_of_parzen_is_that_of_scipy():
    rng = np.random.default_rng(1)
    centers, at = rng.random((6, 2)), rng.random((9, 2))
    members, width = np.array([1, 1, 0, 1, 0, 1], bool), np.array([0.1, 0.2])
    kinds = jnp.array([0, 4])
    got = tpe._log_density(jnp.asarray(at), jnp.asarray(centers), jnp.asarray(members), jnp.asarray(width), kinds)
    expected = np.ones(9)  # the uniform density
    for center in centers[members]:
        number = stats.truncnorm.pdf(at[:, 0], -center[0] / 0.1, (1 - center[0]) / 0.1, center[0], 0.1)
        same = np.floor(4 * at[:, 1]) == np.floor(4 * center[1])
        expected += number * 4 * np.where(same, 0.6, 0.4 / 3)
    np.testing.assert_allclose(np.exp(got), expected / 5, rtol=1e-4)


def test_categories_are_drawn_with_the_density_of_parzen():
    center, width, kinds, member = jnp.array([[0.5]]), jnp.array([0.2]), jnp.array([3]), jnp.array([True])
    drawn = jax.jit(tpe._draw, static_argnums=5)(jax.random.key(0), center, member, width, kinds, 20_000)[:, 0]
    each = jnp.array([[1 / 6], [3 / 6], [5 / 6]])
    expected = np.exp(tpe._log_density(each, center, member, width, kinds)) / 3
    np.testing.assert_allclose(np.bincount((3 * drawn).astype(int)) / drawn.size, expected, atol=0.015)


def test_the_process_is_that_of_a_plain_gaussian_conditional():
    rng = np.random.default_rng(2)
    x, at, y = rng.random((6, 2)), rng.random((4, 2)), rng.normal(size=6)
    kernel, kinds = gp.Kernel(jnp.log(jnp.array([0.3, 0.6])), jnp.log(1.5), jnp.log(0.2)), jnp.array([0, 0])
    made = observed(x, y)._replace(scores=jnp.asarray(np.pad(y, (0, 2)), jnp.float32))
    mean, deviation = gp.predict(kernel, made, jnp.asarray(at), kinds)
    k = functools.partial(lambda a, b: np.asarray(gp.covariance(kernel, jnp.asarray(a), jnp.asarray(b), kinds)))
    inverse = np.linalg.inv(k(x, x) + (0.2 + 1e-4) * np.eye(6))
    np.testing.assert_allclose(mean, k(at, x) @ inverse @ y, atol=1e-4)
    variance = np.diag(k(at, at) - k(at, x) @ inverse @ k(x, at))
    np.testing.assert_allclose(deviation, np.sqrt(variance), atol=1e-4)
    expected = stats.multivariate_normal(np.zeros(6), k(x, x) + (0.2 + 1e-4) * np.eye(6)).logpdf(y)
    got = gp.log_likelihood(kernel, made, kinds)
    np.testing.assert_allclose(got, expected + 3 * np.log(2 * np.pi), atol=1e-3)


@pytest.mark.parametrize("z", [-30.0, -6.0, -4.9, 0.0, 2.0])
def test_expected_improvement_is_right_where_it_underflows_too(z):
    got = gp.log_expected_improvement(jnp.float32(z), jnp.float32(1), jnp.float32(0))
    log_density = stats.norm.logpdf(z)
    mills = np.exp(stats.norm.logcdf(z) - log_density)  # Φ(z) / φ(z)
    exact = log_density + (np.log1p(z * mills) if z > -10 else -2 * np.log(-z))
    assert float(got) == pytest.approx(exact, rel=0.01)


# --- A whole search ---------------------------------------------------------------------------------------------------

ENV, AGENT = make_env(), make_agent()
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {"num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 5, "eval_max_steps": 4}
SIZES |= {"num_seeds": 1, "num_chunks": 2, "block_size": 8, "keep": 2}


def run(directory=None, model="tpe", num_trials=24, **options):
    return sweep.model_search(
        KEY, AGENT, ENV, Hparams(), SPACE, num_trials=num_trials, batch_size=8, model=model, directory=directory,
        **SIZES | options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def modelled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "search"
    return run(directory), directory


def test_later_batches_are_better_than_the_first(modelled):
    result, _ = modelled
    assert result.num_trials == 24
    assert result.iqm[16:].mean() > result.iqm[:8].mean()
    assert result.best.state is not None
    assert float(result.best.state.hparams.target) == pytest.approx(result.best.hparams.target)


def test_an_interrupted_model_search_resumes_to_the_same_table(modelled, tmp_path):
    directory = modelled[1]
    seen = []

    def cut(progress):
        seen.append(progress)
        if progress.phase == "evaluate" and len([each for each in seen if each.phase == "evaluate"]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again", progress=cut)
    run(tmp_path / "again", resume=True)
    assert (tmp_path / "again" / "trials.csv").read_bytes() == (directory / "trials.csv").read_bytes()


def test_a_search_starts_warm_from_another_one(modelled):
    warm = run(num_trials=8, warm_start=modelled[0])
    assert warm.iqm.mean() > modelled[0].iqm[:8].mean()
    other = sweep.search(KEY, AGENT, ENV, Hparams(), {"target": sweep.uniform(0, 1)}, num_trials=2, **SIZES)
    with pytest.raises(ValueError, match="the warm start searched target, not learning_rate, target"):
        run(warm_start=other)


def warm(space, static=None):
    """The points and scores of a warm start of four trials, in another space."""
    every = {"learning_rate": sweep.choice([0.1, 0.4]), "spread": sweep.when("learning_rate", [0.4], sweep.choice([3]))}
    trials = make(KEY, Hparams(), every, 4, static={"hidden": sweep.choice([(8,), (64,)], in_turn=True)})
    columns = trials.columns | {"learning_rate": np.float32([0.1, 0.4, 0.1, 0.4]), "spread": np.array([1, 3, 1, 3])}
    result = Result(
        trials._replace(columns=columns), *[None] * 2, np.arange(4.0)[:, None, None], None, np.ones(4, int),
        *[None] * 5, settings={},
    )  # fmt: skip
    return _warm(split(Hparams(), every | space, static=static or {"hidden": sweep.choice([(8,), (64,)])}), result)


@pytest.mark.parametrize(
    ("space", "static", "scores"),
    [
        ({}, None, [0, 1, 2, 3]),
        ({"learning_rate": sweep.uniform(0.2, 0.4, points=2)}, None, [1, 3]),
        ({"learning_rate": sweep.choice([0.1, 0.3, 0.4])}, None, [0, 1, 2, 3]),
        ({"spread": sweep.choice([2, 3])}, None, [1, 3]),
        ({}, {"hidden": sweep.choice([(64,)])}, [1, 3]),
    ],
)
def test_a_model_learns_from_the_trials_of_a_warm_start_in_its_space(space, static, scores):
    assert warm(space, static)[1].tolist() == scores


def test_a_warm_start_without_a_trial_in_the_space_is_refused():
    with pytest.raises(ValueError, match="no trial of the warm start lies in the space"):
        warm({}, {"hidden": sweep.choice([(16,)])})


def test_a_space_of_constants_leaves_nothing_to_choose():
    with pytest.raises(ValueError, match="space holds constants only"):
        sweep.model_search(KEY, AGENT, ENV, Hparams(), {"target": 0.5}, num_trials=2, **SIZES)


@pytest.mark.parametrize("model", ["tpe", "gp"])
def test_callbacks_see_the_trials_of_all_batches_and_the_best_agent_is_kept(model, tmp_path):
    """The best point of all curves is the agent's whose number, seed and parameters are saved."""
    seen, keep = set(), sweep.save_best(tmp_path / "best")
    watch = lambda chunk: seen.update(chunk.trials.tolist())  # noqa: E731
    result = run(model=model, curve="eval_return", callbacks=[watch, keep], keep=None)
    assert seen == set(range(24))
    about = checkpoint.read_metadata(tmp_path / "best")
    assert about["value"] == np.nanmax(result.curves)
    assert about["value"] in result.curves[about["trial"], about["seed"]]
    best = checkpoint.restore(tmp_path / "best", result.best.state)
    assert best.hparams.target == result.hparams.target[about["trial"]]


def test_a_search_that_ends_within_a_block_ends_the_batches(tmp_path):
    result = run(until=3.9, curve="eval_return", num_chunks=8)
    assert result.num_trials < 24
    assert "reached a return of 3.9" in result.settings["stopped"]
    assert result.best.iqm >= 3.9
    assert result.best.state is not None
    assert 0 < result.num_updates[result.best.number] < 8


def test_limits_are_those_of_all_batches_together(modelled, tmp_path):
    """A batch makes 8 agents x 96 steps; the second one is cut, and a resumed search continues it."""
    batch = 8 * 8 * 12
    result = run(tmp_path, max_steps=1.25 * batch)
    assert result.num_trials == 16
    assert 1.25 * batch <= result.settings["environment_steps"] < 2 * batch
    assert f"the budget was {1.25 * batch:,.0f}" in result.settings["stopped"]
    again = run(tmp_path, resume=True, num_trials=16)
    assert (again.num_updates == 8).all()
    assert "stopped" not in again.settings
    again = run(tmp_path, resume=True, max_steps=2 * batch)
    assert again.num_trials == 16
    assert f"{2 * batch:,} environment steps have been made" in again.settings["stopped"]
    assert not (tmp_path / "batch0002").exists()
    assert run(max_seconds=1e-9, num_trials=16).num_trials == 8
    whole = run(tmp_path, resume=True)
    np.testing.assert_array_equal(whole.returns, modelled[0].returns)
    assert "stopped" not in whole.settings


def test_the_rate_of_joined_searches_is_that_of_all_of_them(two_seeds):
    """As many steps at half the rate take two thirds of the time."""
    rates = [
        dataclasses.replace(two_seeds, settings={**two_seeds.settings, "steps_per_second": rate}) for rate in (2.0, 1.0)
    ]
    assert sweep.join(rates).settings["steps_per_second"] == pytest.approx(4 / 3)
    assert sweep.join(rates).settings["environment_steps"] == 2 * 2 * 2 * 8 * 12


@pytest.mark.parametrize(("option", "value"), [("confirm", 2), ("num_seeds", "auto")])
def test_fresh_seeds_of_each_batch_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} = .{{0,1}}{value}"):
        run(**{option: value})


@pytest.fixture(scope="module")
def two_seeds():
    return sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, num_trials=2, **SIZES | {"num_seeds": 2})


def test_kept_members_of_joined_searches_are_counted_on(two_seeds):
    """Two trials of two seeds each: the members of the second search begin at 4."""
    joined = sweep.join([two_seeds, two_seeds], keep=None)
    assert joined.kept.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert joined.settings["seconds"] == 2 * two_seeds.settings["seconds"]


def test_joined_searches_have_no_return_after_rungs_that_were_not_theirs(two_seeds):
    longer = dataclasses.replace(two_seeds, rung_returns=np.concatenate([two_seeds.rung_returns] * 2))
    joined = sweep.join([two_seeds, longer])
    assert np.isnan(joined.rung_returns[1, :2]).all()
    np.testing.assert_array_equal(joined.rung_returns[1, 2:], two_seeds.returns)


def test_joined_searches_are_one_with_more_trials(modelled, two_seeds):
    result, directory = modelled
    parts = [sweep.load(directory / f"batch000{b}") for b in range(3)]
    joined = sweep.join(parts)
    np.testing.assert_array_equal(joined.returns, result.returns)
    assert joined.order.tolist() == result.order.tolist()
    assert [row["return"] for row in joined.rows()] == [row["return"] for row in result.rows()]
    with pytest.raises(ValueError, match="searches with other seeds cannot be joined: 1 and 2"):
        sweep.join([joined, two_seeds])


def test_trials_that_were_trained_again_rank_by_their_fresh_seeds_in_one_table(modelled):
    again = modelled[0].search_order[:4]
    fresh = np.array([1.0, np.nan, 3.0, 2.0])[:, None, None]
    none = dict.fromkeys(("fresh_scores", "fresh_counts", "fresh_skipped", "fresh_skipped_after"))
    result = dataclasses.replace(modelled[0], fresh_trials=again, fresh_returns=fresh, **none)
    assert result.order[:3].tolist() == again[[2, 3, 0]].tolist()
    assert [row["trial"] for row in sweep.ranked_rows({"one": result})] == result.order.tolist()


def test_different_searches_are_ranked_in_one_table(modelled):
    other = sweep.search(KEY, AGENT, ENV, Hparams(), {"spread": sweep.choice([1, 2])}, **SIZES)
    rows = sweep.ranked_rows({"both": modelled[0], "spread": other})
    assert len(rows) == 26
    assert [row["return"] for row in rows] == sorted((row["return"] for row in rows), reverse=True)
    assert {row["search"] for row in rows} == {"both", "spread"}
    assert all(row["target"] is None for row in rows if row["search"] == "spread")


def test_a_search_with_a_model_is_not_made_longer(modelled):
    with pytest.raises(ValueError, match="begun with num_updates = 8, not 16: a model chose"):
        run(modelled[1], resume=True, num_updates=16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gp"}, "begun with model = 'tpe', not 'gp'"),
        ({"batch_size": 4}, "begun with batch_size = 8, not 4"),
        ({"constraint": lambda settings: True}, "begun with another constraint"),
    ],
)
def test_a_search_with_a_model_goes_on_with_the_same_choices(modelled, changes, message):
    options = {"num_trials": 32, "batch_size": 8, "model": "tpe", "directory": modelled[1], "resume": True}
    with pytest.raises(ValueError, match=message):
        sweep.model_search(KEY, AGENT, ENV, Hparams(), SPACE, **SIZES | options | changes)


def test_a_search_with_a_model_goes_on_with_the_same_warm_start(modelled):
    with pytest.raises(ValueError, match="begun with another warm start"):
        run(modelled[1], num_trials=32, resume=True, warm_start=modelled[0])


def test_asha_promotes_the_best_so_far_and_resumes(tmp_path):
    options = {"schedule": sweep.asha(eta=2, num_rungs=3), "num_trials": 12, "block_size": 2}
    sizes = {name: value for name, value in SIZES.items() if name not in options}
    whole = sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, **sizes, **options)
    assert sorted(set(whole.num_updates.tolist())) == [2, 4, 8]
    assert 6 <= (whole.num_updates >= 4).sum() <= 10
    assert 2 <= (whole.num_updates == 8).sum() <= 7
    assert whole.best.state is not None
    full = sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, **sizes, **options | {"schedule": sweep.full})
    done = whole.num_updates == 8
    np.testing.assert_allclose(whole.returns[done], full.returns[done], rtol=1e-5)
    assert full.iqm[done].mean() > full.iqm.mean()
    count = iter(range(20))

    def cut(_):
        if next(count, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, **sizes, **options, directory=tmp_path, progress=cut)
    again = sweep.search(KEY, AGENT, ENV, Hparams(), SPACE, **sizes, **options, directory=tmp_path, resume=True)
    np.testing.assert_array_equal(again.num_updates, whole.num_updates)
    np.testing.assert_array_equal(again.returns, whole.returns)
