import dataclasses

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from searches import NAMES, make_search

from purerl import plots, sweep
from purerl.plots.scales import scale_of


@pytest.fixture(scope="module")
def result():
    return make_search()


@pytest.fixture(scope="module")
def halved():
    return make_search(64, 3, num_rungs=3, confirm=4)


DRAWN = {
    "sweep_figure": plots.sweep_figure,
    "learning_curves": plots.learning_curves,
    "ranking": plots.ranking,
    "parameters": plots.parameters,
    "landscape": lambda result: plots.landscape(result, "learning_rate", "network.hidden"),
    "rank_stability": plots.rank_stability,
    "parallel_coordinates": plots.parallel_coordinates,
    "optimism": plots.optimism,
    "pareto": lambda result: plots.pareto(result, ("return", "steps:300")),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn_without_global_state(name, halved, tmp_path):
    before = pyplot.get_fignums()
    figure = DRAWN[name](halved)
    assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == before
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_learning_curves_show_every_trial_the_median_and_the_best(result):
    figure = plots.learning_curves(result, top=3)
    (axes,) = figure.axes
    (faint, *_) = axes.collections
    assert len(faint.get_segments()) == 64
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert len(lines) == 1 + 3
    for place, color in zip((1, 2, 3), plots.COLORS):
        (line,) = [line for label, line in lines.items() if label.startswith(f"#{place} ")]
        assert to_hex(line.get_color()).upper() == color
        np.testing.assert_allclose(line.get_ydata(), result.curves[result.order[place - 1]].mean(axis=0))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label[:2] for label in labels[:4]] == ["#1", "#2", "#3", "me"]
    assert labels[4:] == ["a trial, mean over its seeds", "range of the seeds, of #1 to #3", "diverged (1)"]


def test_the_median_passes_over_trials_without_a_value(result):
    (axes,) = plots.learning_curves(result, top=1).axes
    (median,) = [line for line in axes.get_lines() if line.get_label() == "median of all"]
    first = result.curves.mean(axis=1)[:, 0]
    assert np.isnan(first).any()
    assert median.get_ydata()[0] == pytest.approx(np.median(first[~np.isnan(first)]))


def test_chunks_in_which_no_episode_ends_leave_no_hole_in_a_curve(result):
    """Freeway's episodes take 2,500 steps: every other chunk ends none, and no two known points are neighbours."""
    curves = np.where(np.arange(result.curves.shape[2]) % 2, result.curves, np.nan)
    curves[result.order[1], :, 8:] = np.nan  # stopped
    (axes,) = plots.learning_curves(dataclasses.replace(result, curves=curves), top=2).axes
    lines = {line.get_label()[:2]: line.get_ydata() for line in axes.get_lines()}
    middle = curves[result.order[0]].mean(axis=0)
    assert not np.isnan(lines["#1"][1:-1]).any()
    np.testing.assert_allclose(lines["#1"][1::2], middle[1::2])
    np.testing.assert_allclose(lines["#1"][2], (middle[1] + middle[3]) / 2)
    assert np.isnan(lines["#2"][[0, *range(8, curves.shape[2])]]).all()


def test_stopped_trials_end_and_rungs_are_marked(halved):
    (axes,) = plots.learning_curves(halved).axes
    marks = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
    assert marks == [1000, 4000]
    known = (~np.isnan(halved.curves).all(axis=1)).sum(axis=1)
    assert sorted(set(known[halved.num_updates == 1])) in ([0, 1], [1])
    assert "median of the trials still running" in [line.get_label() for line in axes.get_lines()]


def test_parameters_have_a_panel_each_with_the_scale_of_their_space(result):
    panels = plots.parameters(result).axes
    assert [axes.get_xlabel() for axes in panels] == [name.replace("_", " ") for name in NAMES]
    assert [axes.get_xscale() for axes in panels] == ["log"] + ["linear"] * 4
    assert [label.get_text() for label in panels[4].get_xticklabels()] == ["64×64", "128"]
    points = [tuple(point) for line in panels[0].get_lines() for point in np.transpose(line.get_data())]
    best = result.order[0]
    assert any(point == pytest.approx((result.hparams.learning_rate[best], result.iqm[best])) for point in points)


def test_the_trend_is_the_median_of_what_is_near(result):
    axes = plots.landscape(result, "learning_rate").axes[0]
    (trend,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 60]
    x, y = trend.get_data()
    assert 5e-4 < x[np.argmax(y)] < 2e-3
    assert y[0] < 150
    assert y.max() > 350


def test_the_landscape_is_of_trials_that_were_trained_equally_far(halved):
    figure = plots.landscape(halved, "learning_rate", "entropy_coef")
    axes, bar = figure.axes
    assert "after 1k steps" in axes.get_title("left")
    assert bar.get_ylabel() == "greedy return"
    (points,) = [each for each in axes.collections if len(each.get_offsets()) == 63]
    np.testing.assert_allclose(points.get_offsets()[:, 0], np.delete(halved.values("learning_rate"), 3))
    (crosses,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert crosses.get_xdata() == pytest.approx(halved.values("learning_rate")[3])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


def test_a_name_that_was_not_searched_is_refused(result):
    with pytest.raises(ValueError, match=r"parameter.*'height'.*learning_rate"):
        plots.sweep_figure(result, parameter="height")
    with pytest.raises(ValueError, match="'height'"):
        plots.landscape(result, "learning_rate", "height")
    assert plots.sweep_figure(result).axes[1].get_xlabel() == "learning rate"
    assert plots.sweep_figure(result, parameter="num_steps").axes[1].get_xlabel() == "num steps"


def test_a_scale_maps_to_the_unit_interval_and_back(result):
    for name in NAMES:
        scale = scale_of(result, name)
        unit = scale.unit(scale.at)
        assert ((unit > 0) & (unit < 1)).all()
        np.testing.assert_allclose(scale.positions(unit), scale.at, rtol=1e-9)
    hidden = scale_of(result, "network.hidden")
    assert [hidden.categories[int(at)] for at in hidden.at[:8]] == [
        {(64, 64): "64×64", (128,): "128"}[value] for value in result.values("network.hidden")[:8].tolist()
    ]


def crossed(axes):
    """The crosses of an axes, [K, 2]."""
    found = [np.asarray(each.get_offsets()) for each in axes.collections if each.get_gid() == "diverged"]
    return np.concatenate([np.empty((0, 2)), *found])


@pytest.mark.parametrize("name", ["learning_curves", "ranking", "parameters", "sweep_figure"])
def test_trials_that_diverged_have_a_mark_and_an_entry_in_the_legend(result, name):
    figure = DRAWN[name](result)
    assert len(crossed(figure.axes[0])) == 1
    assert "diverged (1)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_first_skipped_update_of_a_trial_has_a_mark_on_its_curve_and_an_entry_in_the_legend(result):
    """Trial 3 has diverged: its curve ends before the skipped update, so its mark lies low."""
    count, after = np.zeros((64, 2), int), np.full((64, 2), np.nan)
    count[5, 1], after[5, 1] = 2, 7500
    count[3, 0], after[3, 0] = 1, 15_000
    made = dataclasses.replace(result, skipped=count, skipped_after=after)
    figure = plots.learning_curves(made)
    (axes,) = figure.axes
    marks = [each for each in axes.collections if each.get_gid() == "skipped"]
    at, low = (np.asarray(each.get_offsets())[0] for each in marks)
    curve = result.curves[5].mean(axis=0)
    np.testing.assert_allclose(at, (7500, (curve[6] + curve[7]) / 2))
    assert low[0] == 15_000
    assert 0 < low[1] < 0.1  # of the height of the axes
    assert "first update skipped (2)" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert not [each for each in plots.learning_curves(result).axes[0].collections if each.get_gid() == "skipped"]


@pytest.mark.parametrize("name", DRAWN)
def test_every_picture_has_a_legend(halved, name):
    assert DRAWN[name](halved).legends


def test_curves_of_one_point_are_drawn_as_points(result):
    curves = np.where(np.arange(result.curves.shape[2]) == 15, result.curves, np.nan)
    (axes,) = plots.learning_curves(dataclasses.replace(result, curves=curves), top=2).axes
    lines = {line.get_label()[:2]: line for line in axes.get_lines()}
    assert [lines[name].get_marker() for name in ("#1", "#2", "me")] == ["o"] * 3
    dots = max(len(each.get_offsets()) for each in axes.collections if len(np.shape(each.get_offsets())) == 2)
    assert dots == 63


def test_panels_after_halving_say_which_rung_they_show(halved):
    assert "64 trials after 1k steps, rung 1 of 3" in plots.parameters(halved).get_suptitle()
    assert "rung 1 of 3" in plots.sweep_figure(halved).axes[1].get_title("left")


def test_training_and_greedy_returns_are_told_apart(result):
    assert [axes.get_ylabel() for axes in plots.sweep_figure(result).axes] == ["training return", "greedy return"]


def make_tied(result, number):
    returns = result.returns.copy()
    returns[result.order[:number]] = 500
    return dataclasses.replace(result, returns=returns, rung_returns=returns[None])


def test_tied_trials_share_a_row_and_are_named(result):
    tied = make_tied(result, 23)
    (axes,) = plots.rank_stability(tied).axes
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["1 to 23: tied", "24"]
    legend = [text.get_text() for text in plots.ranking(tied).legends[0].get_texts()]
    assert "23 trials tie; the one that learned fastest is first" in legend


def test_parallel_coordinates_have_an_axis_a_name_and_a_line_a_trial(result):
    host, *axes = plots.parallel_coordinates(result, best=2).axes
    assert [label.get_text() for label in host.get_xticklabels()][::5] == ["learning\nrate", "greedy\nreturn"]
    assert len(axes) == len(NAMES) + 1
    assert axes[0].get_yscale() == "log"
    assert len(host.get_lines()) == 2
    diverged, known = (np.array(each.get_segments()) for each in host.collections)
    assert (len(diverged), len(known)) == (1, 63)  # trial 3
    assert np.isfinite(diverged).all()
    assert (np.diff(known[:, -1, 1]) >= 0).all()  # the best on top
    learning_rate = scale_of(result, "learning_rate")
    places = np.delete(learning_rate.unit(learning_rate.at), 3)
    np.testing.assert_allclose(np.sort(known[:, 0, 1]), np.sort(places))


def test_rank_stability_shows_the_rank_of_each_seed(result):
    (axes,) = plots.rank_stability(result, top=10).axes
    seeds = np.array([line.get_xdata() for line in axes.get_lines() if line.get_linestyle() == "None"])
    assert seeds.shape == (2, 10)
    known = result.seed_returns[~np.isnan(result.iqm)]
    assert seeds[0, 0] == 1 + (known[:, 0] > result.seed_returns[result.order[0], 0]).sum()
    assert "ρ = 0." in axes.get_title("left")


def test_rank_stability_follows_the_last_ones_through_the_rungs(halved):
    _, axes = plots.rank_stability(halved).axes
    assert len(axes.get_lines()) == 4
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1k", "4k", "16k"]
    for line in axes.get_lines():
        assert set(line.get_ydata()) <= {1, 2, 3, 4}


def test_optimism_is_shown_with_its_numbers(halved, result):
    (axes,) = plots.optimism(halved).axes
    best = halved.order[0]
    assert f"{halved.iqm[best]:.4g}" in axes.get_title("left")
    with pytest.raises(ValueError, match="confirm=5"):
        plots.optimism(result)


@pytest.mark.filterwarnings("error")
def test_optimism_of_searches_with_one_seed_has_no_intervals():
    plots.optimism(make_search(16, 1, confirm=3))


def test_the_trials_on_the_pareto_front_are_marked_with_their_ranks(halved):
    front = sweep.front(halved, ("return", "steps", "area"))
    figure = plots.pareto(halved, ("return", "steps", "area"))
    left, right = figure.axes
    ranks = {f"#{halved.order.tolist().index(trial) + 1}" for trial in front.trials}
    assert {rank for text in left.texts for rank in text.get_text().split(" and ")[0].split(", ")} <= ranks
    marked = left.get_lines()[-1].get_data()
    np.testing.assert_array_equal(np.sort(marked[1]), np.sort(front.values[front.trials, 0]))
    assert (left.get_xlabel(), right.get_xlabel()) == ("steps (less is better)", "area (more is better)")
    with pytest.raises(ValueError, match="area alone has no Pareto front"):
        plots.pareto(halved, ("area",))


def test_robustness_over_one_and_two_parameters():
    length = np.linspace(0.2, 1, 5)
    returns = np.arange(3 * 5 * 4.0).reshape(3, 5, 4)
    (axes,) = plots.robustness(returns, {"length": length[::-1]}, ["#1"], nominal=0.5).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(lines["#1"].get_data(), [length, returns[0].mean(axis=1)[::-1]])
    np.testing.assert_allclose(lines["interquartile mean"].get_ydata(), returns.mean(axis=(0, 2))[::-1])
    grid = {"length": np.tile([1.0, 2.0, 3.0], 2), "gravity": np.repeat([9.0, 10.0], 3)}
    axes = plots.robustness(np.arange(6.0).reshape(1, 6, 1), grid).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="one or two names with 5 values"):
        plots.robustness(returns, grid)


def test_a_small_search_without_a_space_can_be_drawn():
    few = make_search(num_trials=2, num_seeds=1)
    few = dataclasses.replace(few, trials=few.trials._replace(space={}))
    for name in set(DRAWN) - {"optimism", "landscape"}:
        DRAWN[name](few).savefig("/dev/null", format="png", dpi=30)
    same = dataclasses.replace(few, trials=few.trials._replace(columns={}))
    for draw in (plots.parameters, plots.parallel_coordinates, plots.sweep_figure):
        with pytest.raises(ValueError, match="nothing was searched"):
            draw(same)


def test_a_training_curve_counts_the_steps_that_episodes_took(tmp_path):
    table = tmp_path / "metrics.csv"
    table.write_text("step,seed,episode_return,num_env_steps\n100,0,1.0,30\n200,0,2.0,25\n")
    (line,) = plots.training_curves(table, "evolution").axes[0].get_lines()
    assert line.get_xdata().tolist() == [30, 55]
    table.write_text("step,seed,episode_return\n100,0,1.0\n200,0,2.0\n")
    (line,) = plots.training_curves(table, "ppo").axes[0].get_lines()
    assert line.get_xdata().tolist() == [100, 200]


def without(result, name, default, every=2):
    """The search with the default in every other trial, as if the name had a condition that failed there."""
    kept = np.arange(result.num_trials) % every == 0
    column = np.where(kept, result.values(name), default)
    trials = result.trials._replace(columns={**result.trials.columns, name: column})
    return dataclasses.replace(result, trials=trials), kept


@pytest.mark.parametrize("default", [0.0, np.inf])
def test_trials_in_which_a_name_was_not_searched_have_no_place_on_its_axis(result, default, tmp_path):
    changed, kept = without(result, "learning_rate", default)
    scale = scale_of(changed, "learning_rate")
    assert scale.log
    assert not scale.categories
    np.testing.assert_array_equal(np.isnan(scale.at), ~kept)
    axes = plots.landscape(changed, "learning_rate").axes[0]
    assert kept.sum() in [len(line.get_xdata()) for line in axes.get_lines()]
    (trend,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 60]
    assert np.isfinite(trend.get_data()).all()
    host, *_ = plots.parallel_coordinates(changed).axes
    lines = np.concatenate([each.get_segments() for each in host.collections])
    assert (lines[:, 0, 1] == 0).sum() == (~kept).sum()
    for draw in (plots.landscape, plots.parameters, plots.sweep_figure):
        names = ("learning_rate", "network.hidden") if draw is plots.landscape else ()
        draw(changed, *names).savefig(tmp_path / "figure.png", dpi=40)


def test_the_default_of_a_choice_that_was_not_searched_is_a_category_of_its_own(result):
    trials = result.trials._replace(
        columns={"kl": np.where(np.arange(64) % 2, np.inf, 0.1)}, space={"kl": sweep.choice([0.1, 0.2])}
    )
    scale = scale_of(dataclasses.replace(result, trials=trials), "kl")
    assert scale.categories == ("0.1", "0.2", "inf")
    np.testing.assert_array_equal(scale.at, np.where(np.arange(64) % 2, 2, 0))


def test_the_ranking_shows_trials_that_were_trained_and_whole_ranks(tmp_path):
    whole = make_search(4, 1)
    untrained = dataclasses.replace(
        whole,
        returns=np.where(np.arange(4)[:, None, None] < 2, whole.returns, np.nan),
        num_updates=np.where(np.arange(4) < 2, 16, 0),
    )
    figure = plots.ranking(untrained)
    figure.savefig(tmp_path / "ranking.png", dpi=40)
    (axes,) = figure.axes
    assert axes.get_title("left").startswith("2 trials by rank")
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert max(np.max(line.get_xdata(), initial=0) for line in axes.get_lines()) == 2


def test_the_host_of_parallel_coordinates_has_no_ticks_of_its_own(result):
    figure = plots.parallel_coordinates(result)
    figure.draw_without_rendering()
    assert not any(tick.tick1line.get_visible() for tick in figure.axes[0].yaxis.get_major_ticks())
