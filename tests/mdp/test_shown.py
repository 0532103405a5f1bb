"""`purerl solve` and the pictures: the right numbers in the right places."""

import numpy as np
import pytest

from purerl import mdp as mdps
from purerl.commands.options import UsageError
from purerl.commands.solve import Options, run
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
    assert "value of the start 0.542025" in printed
    assert "← H ← H" in printed
    (tmp_path / "corridor.txt").write_text("S  +\n")
    run(Options(str(tmp_path / "corridor.txt"), noise=0.0, discount=0.5, method="policy_iteration"))
    assert "    0.12    0.25    0.50    1.00" in capsys.readouterr().out
    run(Options("random_walk", output=tmp_path))
    assert "     0:   -0.90   -0.80" in capsys.readouterr().out


def test_solve_says_what_is_wrong():
    for options, message in (
        (Options("nothing"), "no MDP 'nothing'"),
        (Options("gridworld", discount=2.0), "discount"),
        (Options("gridworld", noise=-1.0), "noise"),
        (Options("gridworld", sweeps=-1), "--sweeps"),
    ):
        with pytest.raises(UsageError, match=message):
            run(options)
