import csv
import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env
from rich.console import Console
from searches import make_search

from purerl import reports, sweep
from purerl.checkpoint import CheckpointError
from purerl.sweep.results import objectives, pareto
from purerl.sweep.results.objectives import Evidence
from purerl.sweep.results.ranking import num_tied, rank
from purerl.sweep.results.rules import Rules, order_of

ENV, AGENT = make_env(), make_agent()
SPACE = {"learning_rate": sweep.log_uniform(0.1, 1.0), "target": sweep.choice([0.1, 0.3])}
HPARAMS = Hparams(spread=2)


@pytest.fixture(scope="module")
def result():
    return sweep.search(
        jax.random.key(1), AGENT, ENV, HPARAMS, SPACE, num_trials=5, num_seeds=2, num_updates=4, num_envs=2,
        rollout_length=2, num_chunks=4, eval_episodes=3, eval_max_steps=4, keep=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def directory(result, tmp_path_factory):
    return result.save(tmp_path_factory.mktemp("sweep") / "run")


def evidence(returns, curves=None):
    """Of trials whose seeds have these returns, [P, S]."""
    returns = np.asarray(returns, np.float64)
    curves = np.zeros((*returns.shape, 3)) if curves is None else curves
    return Evidence(returns[..., None], curves, 10 * np.arange(1, curves.shape[2] + 1), np.ones(returns.shape))


def order(returns, curves=None, **rules):
    return order_of(Rules(sweep.final_return(), **rules), evidence(returns, curves))[0].tolist()


def test_rank_is_by_return_then_by_area_then_by_order():
    curves = np.zeros((5, 2, 3))
    curves[2] = 1.0
    curves[4, 0, 0] = np.nan
    assert order([[1, 3], [np.nan, 9], [2, 2], [5, 0], [2, 2]], curves) == [3, 2, 0, 4, 1]


def test_the_interquartile_mean_ranks_and_not_the_mean():
    assert order([[4.0] * 6 + [100.0, 100.0], [5.0] * 8]) == [1, 0]


def test_ties_are_broken_by_the_criteria_that_are_named():
    fast = [[0.0, 9.0, 9.0]] * 2  # reaches 9 first
    wide = [[8.0, 8.0, 12.0]] * 2  # has the larger area
    curves = np.array([wide, fast])
    assert order([[10, 10], [10, 10]], curves) == [0, 1]
    assert order([[10, 10], [10, 10]], curves, ties=("threshold", "area")) == [1, 0]
    assert order([[10, 10], [10, 10]], curves, ties=("threshold",), threshold=8.0) == [0, 1]
    assert order([[10, 10], [10, 10]], curves, ties=()) == [0, 1]


def test_the_area_that_breaks_ties_is_that_of_the_mean_seed():
    uneven, even = [[10.0] * 3, [0.0] * 3], [[6.0] * 3] * 2
    assert order([[10, 10], [10, 10]], np.array([uneven, even])) == [1, 0]


def test_trials_that_were_trained_otherwise_do_not_tie():
    assert num_tied(np.array([5.0, 5.0, 5.0]), np.array([4, 8, 8])).tolist() == [1, 2, 2]


def test_the_threshold_of_negative_returns_lies_below_them():
    """Both trials end at -100, one of them is at -105 sooner."""
    late, early = [[-400.0, -300.0, -105.0]] * 2, [[-900.0, -105.0, -105.0]] * 2
    assert order([[-100, -100], [-100, -100]], np.array([late, early]), ties=("threshold",)) == [1, 0]


def test_a_trial_that_was_stopped_ranks_below_all_that_were_trained_further():
    assert rank(np.array([9.0, 1.0, np.nan]), (), np.array([2, 8, 8])).tolist() == [1, 2, 0]


def test_an_infinite_return_ranks_last():
    assert order([[np.inf, 3], [1, 1], [2, -np.inf], [2, 2]])[:2] == [3, 1]


OBJECTIVES = {
    "return": (sweep.final_return(), [2, 1, 0]),
    "area": (sweep.area(), [0, 1, 2]),
    "steps:5": (sweep.steps_to(5), [0, 2, 1]),
    "seconds:5": (sweep.seconds_to(5), [0, 2, 1]),
    "percentile:1": (sweep.percentile(1), [1, 0, 2]),
    "curve": (sweep.curve_end(), [2, 1, 0]),
}


@pytest.mark.parametrize("text", OBJECTIVES)
def test_each_objective_orders_trials_in_its_own_way(text):
    objective, expected = OBJECTIVES[text]
    curves = np.array([[[5.0, 5, 5]] * 2, [[4, 4, 6]] * 2, [[0, 5, 7]] * 2])
    found, _ = order_of(Rules(objective, ties=()), evidence([[3, 3], [4, 4], [0, 9]], curves))
    assert found.tolist() == expected
    assert objectives.parse(text)[0] == objective.name


def test_a_function_of_the_curve_is_an_objective():
    ups_and_downs = sweep.of_curve(lambda returns, steps: float(np.ptp(returns)), "unrest", maximize=False)
    curves = np.array([[[1.0, 9, 5]], [[np.nan, 4, 5]]])
    found, score = order_of(Rules(ups_and_downs, ties=()), evidence([[1], [1]], curves))
    assert (found.tolist(), score.tolist()) == ([1, 0], [-8, -1])


def test_a_trial_that_diverged_has_no_objective():
    assert np.isnan(objectives.score(sweep.area(), evidence([[np.nan, 1]]))).tolist() == [[True, False]]


def test_seconds_to_a_threshold_are_the_share_of_the_steps_until_then():
    """The curve reaches 1 after 10 of its 20 steps, and 5 at their end; training took 8 s."""
    found = Evidence(np.zeros((1, 1, 1)), np.array([[[1.0, 5.0]]]), np.array([10, 20]), np.full((1, 1), 8.0))
    assert [sweep.seconds_to(threshold).measure(found).item() for threshold in (1, 5)] == [4.0, 8.0]


def test_seconds_to_a_threshold_of_a_trial_that_was_stopped_are_a_share_of_its_own_steps():
    """As above, after 10 of the 20 steps that others make: the 8 s are those of 10 steps."""
    found = Evidence(
        np.zeros((1, 1, 1)), np.array([[[1.0, np.nan]]]), np.array([10, 20]), np.full((1, 1), 8.0), np.full((1, 1), 10)
    )
    assert sweep.seconds_to(1).measure(found).item() == 8.0


def test_a_quantile_of_scores_next_to_an_infinite_one_is_the_lower_of_them():
    goal = sweep.steps_to(400)._replace(quantile=0.1)
    scores = np.array([[-np.inf, -100.0, -200.0], [-np.inf] * 3, [-300.0, -100.0, -200.0], [np.nan, -1.0, -2.0]])
    np.testing.assert_array_equal(objectives.over_seeds(goal, scores), [-np.inf, -np.inf, -280.0, np.nan])


def test_the_area_under_a_curve_weighs_steps_and_not_points():
    """The value 0 until step 90, and 10 from there to step 100."""
    assert objectives.area_under(np.array([0.0, 10.0]), np.array([90, 100])) == 1.0


def test_an_unknown_objective_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'speed': take return, area, curve, steps:NUMBER"):
        objectives.parse("speed")


def test_a_search_with_several_objectives_knows_its_front(tmp_path):
    result = sweep.search(
        jax.random.key(0), AGENT, ENV, Hparams(), {"target": sweep.uniform(-1.0, 1.0)}, num_trials=6,
        num_seeds=2, num_updates=4, num_envs=2, rollout_length=4, eval_episodes=2, eval_max_steps=4,
        pareto=("seconds", "parameters", sweep.of_curve(lambda y, x: y[0], "start")), directory=tmp_path,
    )  # fmt: skip
    front = sweep.front(result)
    assert front.names == ("return", "seconds", "parameters", "start")
    assert front.maximize == (True, False, False, True)
    np.testing.assert_array_equal(front.values[:, 0], result.score)
    np.testing.assert_array_equal(front.values[:, 3], result.curves[:, :, 0].mean(axis=1, dtype=np.float64))
    assert len(set(front.values[:, 2])) == 1
    assert sweep.front(result, ["return"]).trials.tolist() == [result.order[0]]
    loaded = sweep.load(tmp_path)
    np.testing.assert_array_equal(sweep.front(loaded).trials, front.trials)
    assert {row["trial"] for row in loaded.rows() if row["on_front"]} == set(front.trials.tolist())
    assert "start" in loaded.rows()[0]
    with pytest.raises(ValueError, match="or a cost: steps, seconds, parameters"):
        sweep.front(result, ["return", "money"])


def test_the_pareto_front_is_what_no_trial_beats():
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=(60, 2)), 1)
    values[7] = np.nan
    values[9] = values[8]
    better = values * [1, -1]
    beaten = [
        any((other >= mine).all() and (other > mine).any() for other in better) or np.isnan(mine).any()
        for mine in better
    ]
    assert sweep.pareto_front(values, [True, False]).tolist() == [not each for each in beaten]


def test_equal_trials_are_both_on_the_front():
    values = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    assert sweep.pareto_front(values, [True, True]).tolist() == [True, True, False]


def test_a_trial_without_one_of_the_objectives_is_not_on_the_front():
    assert sweep.pareto_front(np.array([[9.0, np.nan], [1.0, 1.0]]), [True, True]).tolist() == [False, True]


def test_the_front_is_listed_from_the_best_in_the_first_objective():
    result = make_search(12, 1)
    best = sweep.front(result, ["return", "area"])
    assert len(best.trials) > 1
    assert (np.diff(best.values[best.trials, 0]) < 0).all()
    cheap = sweep.front(result, ["steps:200", "return"])
    assert len(cheap.trials) > 1
    assert (np.diff(cheap.values[cheap.trials, 0]) > 0).all()


def test_the_table_of_a_front_has_the_ranks_of_the_trials(result):
    """What is good in one of the two objectives is bad in the other, so all trials are on the front."""
    goals = [{"name": "gain", "maximize": True}, {"name": "loss", "maximize": True}]
    values = np.stack([result.score, -result.score], axis=1)
    whole = dataclasses.replace(result, pareto=values, settings=result.settings | {"pareto": goals})
    table = pareto.rows(whole)
    assert len(table) == 5
    assert [row["trial"] for row in table] == [int(result.order[row["rank"] - 1]) for row in table]


def test_an_objective_that_is_minimised_keeps_its_sign(result):
    highest = sweep.of_curve(lambda returns, steps: float(returns.max()), "highest", maximize=False)
    expected = np.nanmax(result.curves, axis=2).mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(sweep.front(result, [highest]).values[:, 0], expected)


def test_the_seconds_of_a_trial_are_those_of_its_mean_seed(result):
    seconds = np.tile([2.0, 4.0], (5, 1))
    costs = sweep.front(dataclasses.replace(result, seconds=seconds), ["seconds", "return"]).values
    assert costs[:, 0].tolist() == [3.0] * 5
    np.testing.assert_array_equal(costs[:, 1], result.score)


def test_a_trial_that_diverged_costs_nothing_that_is_known():
    result = make_search(6, 2)
    assert result.diverged.any(axis=1).tolist() == [False, False, False, True, False, False]
    steps = sweep.front(result, ["steps"]).values[:, 0]
    np.testing.assert_array_equal(np.isnan(steps), result.diverged.any(axis=1))


def test_rows_of_the_curves_have_the_steps_at_the_end_of_each_chunk(result):
    rows = {(row["trial"], row["seed"], row["steps"]): row["return"] for row in result.curve_rows()}
    expected = {
        (trial, seed, int(result.steps[chunk])): float(value)
        for (trial, seed, chunk), value in np.ndenumerate(result.curves)
        if not np.isnan(value)
    }
    assert rows == expected


def test_rows_are_ranked_and_complete(result):
    rows = result.rows()
    assert list(rows[0]) == [
        "rank", "trial", "learning_rate", "target", "return", "return_low", "return_high", "interval_coverage", "steps",
        "return_seed_0", "return_seed_1",
    ]  # fmt: skip
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["return"] for row in rows] == sorted((row["return"] for row in rows), reverse=True)
    for row in rows:
        seeds = result.returns[row["trial"]].mean(axis=1)
        assert [row["return_seed_0"], row["return_seed_1"]] == pytest.approx(seeds)
        assert row["return"] == pytest.approx(seeds.mean())
        assert (row["return_low"], row["return_high"]) == pytest.approx((seeds.min(), seeds.max()))
        assert row["target"] in (0.1, 0.3)


def test_select_and_best(result):
    best = result.best
    assert best.rank == 1
    assert best.iqm == result.iqm.max()
    assert best.returns[best.seed] == max(best.returns) > min(best.returns)
    assert best.hparams.spread == 2
    assert isinstance(best.hparams, Hparams)
    assert best.state.hparams.target == np.float32(best.hparams.target)
    assert result.select(5).iqm == result.iqm.min()
    for rank_, seed, message in [(0, None, "rank = 0"), (6, None, "rank = 6"), (1, 2, "seed = 2")]:
        with pytest.raises(IndexError, match=message):
            result.select(rank_, seed)


def test_csv_holds_the_rows(result, directory):
    with open(directory / "trials.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in read] == result.rows()


def test_json_is_strict_and_holds_the_curves(result, directory):
    text = (directory / "sweep.json").read_text()
    assert "NaN" not in text
    content = json.loads(text)
    assert content["space"]["learning_rate"]["log"] is True
    assert content["settings"]["num_updates"] == 4
    for trial in content["trials"]:
        curves = np.array(trial["curves"], np.float32)
        np.testing.assert_array_equal(curves, result.curves[trial["trial"]])
        assert trial["hparams"]["spread"] == 2
    assert np.isnan(result.curves).any()  # so that null was put to the test


def test_load_is_bit_exact(result, directory):
    for loaded in (sweep.load(directory), sweep.load(directory, AGENT, ENV, Hparams())):
        for name in ("steps", "curves", "returns", "interval", "kept"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(result, name))
            assert getattr(loaded, name).dtype == getattr(result, name).dtype
        assert loaded.rows() == result.rows()
        assert loaded.space == result.space
        assert loaded.settings == result.settings
    assert type(loaded.hparams) is Hparams
    jax.tree.map(np.testing.assert_array_equal, loaded.hparams, result.hparams)
    jax.tree.map(np.testing.assert_array_equal, loaded.states, result.states)
    assert AGENT.act(None, loaded.best.state, 0.0)[0] == AGENT.act(None, result.best.state, 0.0)[0]


def test_skipped_updates_are_in_the_rows_the_files_and_the_warnings_but_only_if_there_are_any(tmp_path):
    healthy = make_search(4, 2)
    assert "skipped" not in healthy.rows()[0]
    count, after = np.array([[0, 0], [3, 1], [0, 0], [0, 0]]), np.full((4, 2), np.nan)
    after[1] = 2000, 1000
    made = dataclasses.replace(healthy, skipped=count, skipped_after=after)
    made.save(tmp_path)
    for each in (made, sweep.load(tmp_path), sweep.join([made, healthy])):
        rows = {row["trial"]: row for row in each.rows()}
        assert (rows[1]["skipped"], rows[1]["skipped_after"]) == (4, 1000)
        assert rows[2]["skipped"] == 0
        assert np.isnan(rows[2]["skipped_after"])
    with open(tmp_path / "trials.csv", newline="") as file:
        assert {row["trial"]: row["skipped_after"] for row in csv.DictReader(file)}["1"] == "1000.0"
    assert "1 of 4 trials had updates that were skipped" in sweep.table(made).caption
    said = " ".join(reports.cautions(made))
    assert "4 updates had a gradient" in said
    assert (
        "3 of trial 1, seed 0, the first after 2,000 steps; 1 of trial 1, seed 1, the first after 1,000 steps" in said
    )


def test_skipped_updates_on_fresh_seeds_are_in_the_rows_the_caption_and_the_warnings():
    healthy = make_search(4, 2, confirm=2)
    assert "fresh_skipped" not in healthy.rows()[0]
    shape = healthy.fresh_returns.shape[:2]
    count, after = np.zeros(shape, int), np.full(shape, np.nan)
    count[1, 0], after[1, 0] = 5, 3000
    made = dataclasses.replace(healthy, fresh_skipped=count, fresh_skipped_after=after)
    trial = int(made.fresh_trials[1])
    joined = sweep.join([make_search(4, 2), made])
    for each, own in ((made, trial), (joined, 4 + trial)):
        row = next(row for row in each.rows() if row["trial"] == own)
        assert (row["fresh_skipped"], row["fresh_skipped_after"]) == (5, 3000)
        others = [row["fresh_skipped"] for row in each.rows() if row["trial"] not in each.fresh_trials]
        assert np.isnan(others).all()
    assert "1 of 4 trials had updates that were skipped" in sweep.table(made).caption
    assert f"5 of trial {trial}, fresh seed 0, the first after 3,000 steps" in " ".join(reports.cautions(made))


def test_infinity_comes_back_from_the_disk_as_a_number(tmp_path):
    made = make_search(4, 2, names=("learning_rate",))
    limits = np.array([np.inf, 4.0, 4.0, np.inf])
    static = np.array(["inf", 8, "inf", 8], object)
    trials = made.trials._replace(
        columns={"env.limit": limits, "clip": static},
        space={"env.limit": sweep.choice([np.inf, 4.0]), "clip": sweep.choice(["inf", 8])},
        groups=({"clip": np.inf},),
    )
    loaded = sweep.load(sweep.Result(**{**vars(made), "trials": trials}).save(tmp_path))
    assert loaded.space == trials.space
    assert loaded.trials.groups == trials.groups
    np.testing.assert_array_equal(loaded.values("env.limit"), limits)
    assert loaded.values("clip").tolist() == static.tolist()
    reports.write_html(loaded, tmp_path / "report.html")


def test_without_the_agent_there_are_tables_but_no_states(directory):
    loaded = sweep.load(directory)
    assert loaded.best.state is None
    assert loaded.best.hparams._fields == Hparams._fields


def test_load_refuses_half_of_what_it_needs_and_other_hyperparameters(directory):
    with pytest.raises(TypeError, match="all of agent, env and hparams"):
        sweep.load(directory, AGENT)
    with pytest.raises(TypeError, match="learning_rate, target, spread"):
        sweep.load(directory, AGENT, ENV, sweep.Trial(*[0] * 10))


def test_a_flipped_bit_is_refused_and_saving_again_mends_it(result, tmp_path):
    result.save(tmp_path)
    files = sorted(path for path in (tmp_path / "arrays").rglob("*") if path.is_file() and path.stat().st_size)
    for path in (files[0], files[-1]):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CheckpointError):
            sweep.load(tmp_path)
        result.save(tmp_path)
        sweep.load(tmp_path)


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])


@pytest.mark.parametrize("name", ["trials.csv", "curves.csv", "sweep.json"])
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_table_that_was_changed_is_named_and_the_result_is_what_was_saved(result, directory, tmp_path, name, damage):
    copy = shutil.copytree(directory, tmp_path / "copy")
    damage(copy / name)
    with pytest.warns(UserWarning, match=f"damaged: {name} "):
        assert sweep.load(copy).rows() == result.rows()


def test_without_its_sums_a_search_says_that_its_tables_are_not_checked(directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "result.sha256").unlink()
    with pytest.warns(UserWarning, match="result.sha256 is missing"):
        sweep.load(copy)


def test_states_of_another_search_or_none_are_refused(result, directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "copy")
    states = tuple(jax.tree.map(lambda leaf: leaf + 1, state) for state in result.states)
    other = dataclasses.replace(result, states=states).save(tmp_path / "other")
    shutil.rmtree(copy / "states")
    with pytest.raises(CheckpointError, match="states/SHA256SUMS is missing"):
        sweep.load(copy, AGENT, ENV, Hparams())
    shutil.copytree(other / "states", copy / "states")
    with pytest.raises(CheckpointError, match="states/SHA256SUMS does not match"):
        sweep.load(copy, AGENT, ENV, Hparams())


def test_a_search_that_was_saved_before_there_were_sums_is_read_in_silence(result, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr("purerl.sweep.results.sums.listed", lambda *_: [])
    result.save(tmp_path)
    (tmp_path / "result.sha256").unlink()
    assert sweep.load(tmp_path).rows() == result.rows()
    assert not recwarn.list


def test_a_directory_with_other_files_can_be_saved_to(result, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert {path.name for path in Path(tmp_path).iterdir()} == {
        "arrays", "curves.csv", "notes.txt", "result.sha256", "states", "sweep.json", "trials.csv",
    }  # fmt: skip


def test_table_shows_the_best_trials_and_their_parameters(result):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(sweep.table(result, top=3, width=120))
    lines = console.export_text().splitlines()
    text = "\n".join(lines)
    assert "5 trials x 2 seeds" in text
    assert "learning_rate" in text
    best = result.rows()[0]
    assert any(f"{best['return']:.4g}" in line and f"{best['learning_rate']:.3g}" in line for line in lines)
    assert not any(line.startswith("│ 4") for line in lines)


def test_one_seed_has_no_interval():
    one = sweep.search(
        jax.random.key(1), AGENT, ENV, HPARAMS, SPACE, num_trials=2, num_seeds=1, num_updates=2, num_envs=2,
        rollout_length=2, num_chunks=1, eval_episodes=3, eval_max_steps=4,
    )  # fmt: skip
    assert np.isnan(one.interval).all()
    assert "nan" not in "".join(sweep.table(one, width=120).columns[2].cells)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_tables_are_read_by_data_frame_libraries(result, directory, library):
    frames = pytest.importorskip(library)
    table, curves = frames.DataFrame(result.rows()), frames.DataFrame(result.curve_rows())
    assert list(table.columns) == list(result.rows()[0])
    assert table["trial"].to_numpy().tolist() == result.order.tolist()
    assert list(curves.columns) == ["trial", "seed", "steps", "return"]
    assert len(curves) == (~np.isnan(result.curves)).sum()
    np.testing.assert_array_equal(
        curves["return"].to_numpy(), result.curves[~np.isnan(result.curves)].astype(np.float64)
    )
    read = frames.read_csv(directory / "trials.csv")
    np.testing.assert_allclose(read["return"].to_numpy(), table["return"].to_numpy(), rtol=1e-14)


def test_the_table_shows_stopped_and_confirmed_trials_and_static_choices():
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    made = make_search(16, 2, num_rungs=2, confirm=2)
    console.print(sweep.table(made, top=16, width=160))
    text = console.export_text()
    assert "at most 16,000 steps each" in text
    best = made.rows()[0]
    (line,) = [line for line in text.splitlines() if line.strip("│ ").startswith("1 ")]
    assert f"{best['fresh_return']:.4g}" in line
    assert "16,000" in line
    assert str(best["network.hidden"]) in line
    assert "nan" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_fits_the_terminal_and_cuts_neither_headers_nor_returns(width):
    made = make_search(16, 2, num_rungs=2, confirm=2)
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(sweep.table(made, top=16, width=width))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for row in made.rows():
        assert f"{row['return']:.4g}" in text or np.isnan(row["return"])


def test_the_table_of_eighty_columns_shows_every_parameter_and_says_what_it_leaves_out():
    made = make_search(16, 2, num_rungs=2, confirm=2)
    shown = sweep.table(made, width=80)
    headers = [str(column.header).replace("\n", "") for column in shown.columns]
    assert headers == ["#", "return", "freshseeds", "steps", *made.searched]
    assert "Too wide to be shown: range, seeds." in shown.caption


def test_a_trial_has_its_settings_by_name():
    best = make_search(16, 2).best
    assert list(best.settings) == ["learning_rate", "entropy_coef", "num_steps", "env.length", "network.hidden"]
    assert best.settings["learning_rate"] == best.hparams.learning_rate
    assert best.settings["network.hidden"] == best.choices["network.hidden"]


def test_seeds_that_disagree_have_no_agreement():
    made = make_search(16, 2, num_rungs=2)
    returns = made.returns.copy()
    far = np.flatnonzero(made.num_updates == made.num_updates.max())
    returns[far, 0], returns[far, 1] = np.arange(len(far))[:, None], -np.arange(len(far))[:, None]
    assert sweep.Result(**{**vars(made), "returns": returns}).seed_agreement() == pytest.approx(-1.0)


def test_a_result_prints_its_sizes_and_its_best_trial(result):
    text = repr(result)
    best = result.best
    assert text.startswith("Result(5 trials x 2 seeds, 16 steps each; best: trial ")
    assert f"trial {best.number} with return {best.iqm:.4g}, learning_rate={best.settings['learning_rate']!r}" in text
    assert len(text) < 300


def test_a_trial_prints_the_type_of_its_state_and_not_the_weights(result):
    assert f"state=<{type(result.best.state).__name__}>" in repr(result.best)


def test_no_order_by_empty_learning_curves_is_claimed(result):
    tied = dataclasses.replace(result, returns=np.zeros_like(result.returns), scores=None)
    assert any("by which they are ordered" in sentence for sentence in reports.cautions(tied))
    empty = dataclasses.replace(tied, curves=np.full_like(result.curves, np.nan))
    sentences = reports.cautions(empty)
    assert not any("by which they are ordered" in sentence for sentence in sentences)
    assert any("learning curves are empty, because no episode ended" in sentence for sentence in sentences)
