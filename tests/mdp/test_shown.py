"""`purerl solve` and the pictures: the right numbers in the right places."""

import numpy as np
import pytest

from purerl import mdp as mdps
from purerl.commands.options import UsageError
from purerl.commands.options.solve import Options
from purerl.commands.solve import run
from purerl.mdp import plots


def test_gridworld_picture_shows_values_and_arrows():
    layout = ("S+", "# ")
    policy = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0.5, 0, 0, 0.5]])
    figure = plots.plot_gridworld(layout, np.array([0.25, 1, -0.004]), policy, title="grid")
    axes = figure.axes[0]
    shown = {text.get_text(): text.get_position() for text in axes.texts}
    assert shown == {"0.25": (0.5, 0.5), "1.00": (1.5, 0.5), "0.00": (1.5, 1.5)}
    assert axes.get_title() == "grid"
    arrows = [patch for patch in axes.patches if type(patch).__name__ == "Polygon"]
    tips = [tuple(np.round(arrow.get_xy()[0], 2)) for arrow in arrows]
    assert tips == [(0.96, 0.5), (1.5, 1.04), (1.04, 1.5)]  # right; up and left; none in the exit
    size = [np.ptp(arrow.get_xy(), axis=0).max() for arrow in arrows]
    np.testing.assert_allclose(size[1], size[0] / 2)  # half as likely, half as large


def test_pictures_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="value must have shape"):
        plots.plot_gridworld(("S+",), np.zeros(3))
    with pytest.raises(ValueError, match="policy must have shape"):
        plots.plot_gridworld(("S+",), np.zeros(2), np.zeros((2, 3)))


def test_tables_of_value_iteration_side_by_side():
    history = mdps.value_iteration_history(mdps.gridworld_3x4(), 0.9, 3)
    figure = plots.plot_value_iteration(mdps.GRID_3X4, history, [1, 2, 3])
    assert [axes.get_title() for axes in figure.axes] == ["1 sweep", "2 sweeps", "3 sweeps"]
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts[1].count("0.72") == 1
    assert {"0.52", "0.78", "0.43"} <= set(texts[2])


def test_solve_prints_and_saves(tmp_path, capsys):
    run(Options("gridworld", sweeps=3, output=tmp_path))
    printed = capsys.readouterr().out
    assert "after 3 sweeps\n    0.00    0.52    0.78    1.00\n    0.00            0.43   -1.00" in printed
    assert "→ → → +\n↑ # ↑ -" in printed
    for name in ("gridworld.png", "gridworld-sweeps.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_solve_reads_gymnasium_and_files(tmp_path, capsys):
    pytest.importorskip("gymnasium")
    run(Options("FrozenLake", output=tmp_path))
    printed = capsys.readouterr().out
    assert "value at the start 0.542025" in printed
    assert "← H ← H" in printed
    (tmp_path / "corridor.txt").write_text("S  +\n")
    run(Options(str(tmp_path / "corridor.txt"), noise=0.0, discount=0.5, method="policy_iteration"))
    assert "    0.12    0.25    0.50    1.00" in capsys.readouterr().out
    run(Options("random_walk", output=tmp_path))
    assert "     0:   -0.90   -0.80" in capsys.readouterr().out


def test_solve_says_what_is_wrong():
    for options, message in (
        (Options("nothing"), "neither an MDP nor a file 'nothing'"),
        (Options("gridworld", discount=2.0), "discount"),
        (Options("gridworld", noise=-1.0), "noise"),
        (Options("gridworld", sweeps=-1), "--sweeps"),
    ):
        with pytest.raises(UsageError, match=message):
            run(options)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("gambler", ["    50: 50  1  2  3  4  5  6  7  8  9", "   100:  0"]),  # all on one throw at 50; over at 100
        pytest.param(
            "car_rental",
            ["   0   0  0  0  0  0  0  0  0 -1 -1 -2 -2 -2 -3 -3 -3 -3 -3 -4 -4 -4"],  # figure 4.2 of the book
            marks=pytest.mark.slow,
        ),
        ("random_walk", ["there is one action"]),
    ],
)
def test_solve_prints_the_policy_of_mdps_that_are_not_grids(capsys, name, rows):
    run(Options(name))
    printed = capsys.readouterr().out
    assert "policy" in printed
    assert all(row in printed.splitlines() for row in rows)
    assert max(map(len, printed.splitlines())) <= 80


def test_car_rental_is_drawn_as_a_map():
    value, action = np.arange(6.0), np.array([0, 1, 2, 2, 1, 0])
    labels = ("cars at the first place", "cars at the second place")
    figure = plots.plot_map(value, action, (2, 3), labels, names=("-1", "0", "+1"), title="moves")
    left, right = figure.axes[:2]
    assert {text.get_text(): text.get_position() for text in left.texts if text.get_text() == "+1"} == {"+1": (0, 1)}
    assert (left.get_ylabel(), left.get_xlabel()) == labels
    np.testing.assert_array_equal(right.images[0].get_array(), value.reshape(2, 3))


def test_the_colours_of_values_differ_in_lightness():
    """Red and green do not, and about one man in twelve cannot tell these apart."""
    figure = plots.plot_gridworld(("+-",), np.array([1.0, -1.0]))
    red, blue = (patch.get_facecolor() for patch in figure.axes[0].patches[:3:2])
    assert abs(red[2] - blue[2]) > 0.3
