import dataclasses
from typing import NamedTuple

import jax
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from purerl import plots, sweep


class Hparams(NamedTuple):
    learning_rate: float = 1e-3
    entropy_coef: float = 0.01
    width: int = 64


SPACE = {
    "learning_rate": sweep.log_uniform(1e-4, 1e-2),
    "entropy_coef": sweep.uniform(0.0, 0.1),
    "width": sweep.integers(8, 64),
}


def make_result(num_trials=64, num_seeds=2, num_chunks=15):
    """A made-up search on a task that ends at 500, whose best learning rate is 1e-3."""
    noise = np.random.default_rng(0)
    table = sweep.sample(jax.random.key(0), Hparams(), SPACE, num_trials)
    distance = np.abs(np.log10(table.learning_rate / 1e-3))[:, None, None]
    steps = np.linspace(0, 100_000, num_chunks + 1)[1:]
    progress = steps / 100_000 * 5 - 5 * distance - 2.5 * noise.random((num_trials, num_seeds, 1))
    curves = 500 / (1 + np.exp(-2 * progress)) * (1 - 0.12 * noise.random((num_trials, num_seeds, num_chunks)))
    curves[:, :, 0][distance[:, :, 0].repeat(num_seeds, 1) > 0.9] = np.nan
    returns = np.clip(curves[..., -1:] * (1.1 + 0.1 * noise.random((num_trials, num_seeds, 8))), 0, 500)
    interval = np.stack([returns.mean(2).min(1), returns.mean(2).max(1)], axis=-1)
    return sweep.Result(table, SPACE, steps, curves, returns, interval, np.empty(0, int), None, {})


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.mark.parametrize("draw", [plots.sweep_figure, plots.learning_curves, plots.ranking, plots.parameters])
def test_figures_are_drawn_without_global_state(draw, result, tmp_path):
    before = pyplot.get_fignums()
    figure = draw(result)
    assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == before
    figure.savefig(tmp_path / "figure.png", dpi=50)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_learning_curves_show_every_trial_the_median_and_the_best(result):
    figure = plots.learning_curves(result, top=3)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert len(axes.get_lines()) == 64 + 1 + 3
    for place, color in zip((1, 2, 3), plots.COLORS):
        (line,) = [line for label, line in lines.items() if label.startswith(f"#{place} ")]
        assert to_hex(line.get_color()).upper() == color
        np.testing.assert_allclose(line.get_ydata(), result.curves[result.order[place - 1]].mean(axis=0))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label[:2] for label in labels] == ["#1", "#2", "#3", "me"]


def test_the_median_passes_over_trials_without_a_value(result):
    (axes,) = plots.learning_curves(result, top=1).axes
    (median,) = [line for line in axes.get_lines() if line.get_label() == "median of all"]
    assert np.isnan(result.curves).any()
    first = result.curves.mean(axis=1)[:, 0]
    assert median.get_ydata()[0] == pytest.approx(np.median(first[~np.isnan(first)]))


def test_parameters_have_a_panel_each_with_the_scale_of_their_space(result):
    panels = plots.parameters(result).axes
    assert [axes.get_xlabel() for axes in panels] == ["learning rate", "entropy coef", "width"]
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear"]
    points = [tuple(point) for line in panels[0].get_lines() for point in np.transpose(line.get_data())]
    best = result.order[0]
    assert any(point == pytest.approx((result.hparams.learning_rate[best], result.iqm[best])) for point in points)


def test_the_sweep_figure_takes_the_parameter_asked_for(result):
    assert plots.sweep_figure(result).axes[1].get_xlabel() == "learning rate"
    right = plots.sweep_figure(result, parameter="width").axes[1]
    assert right.get_xlabel() == "width"
    with pytest.raises(ValueError, match=r"parameter.*'height'.*learning_rate"):
        plots.sweep_figure(result, parameter="height")


def test_a_small_search_without_a_space_can_be_drawn():
    few = make_result(num_trials=2, num_seeds=1)
    few = dataclasses.replace(few, space={}, interval=np.full((2, 2), np.nan))
    for draw in (plots.sweep_figure, plots.learning_curves, plots.ranking, plots.parameters):
        draw(few)
    same = dataclasses.replace(few, hparams=Hparams(np.ones(2), np.ones(2), np.ones(2)))
    with pytest.raises(ValueError, match="nothing was searched"):
        plots.parameters(same)
