"""`purerl train` evaluates on the way, keeps the best policy, stops early and calls functions of the user."""

import json
import math

import jax
import pytest
from commanding import TINY, fails, purerl, rows, said

from purerl import checkpoint, runs
from purerl.commands import sweep_results

WHERE = ("--num-steps", 160, "--eval-every", 40, *TINY)  # 16 steps per update


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run that ends at its first evaluation, which is due after 48 steps."""
    root = tmp_path_factory.mktemp("runs")
    purerl("train", "--name", "early", "--runs-dir", root, "--until", 5, *WHERE)
    return root


def test_training_ends_once_an_evaluation_reaches_the_return(root):
    table = rows(root / "early" / "metrics.csv")
    assert [row["step"] for row in table] == ["16", "32", "48"]
    assert [bool(row["eval_return"]) for row in table] == [False, False, True]


def test_the_best_policy_is_kept_and_can_be_played(root):
    best = runs.load_policy("early/best", root)
    found = float(rows(root / "early" / "metrics.csv")[-1]["eval_return"])
    assert (best.details["eval_return"], best.directory) == (pytest.approx(found), root / "early")


def test_a_run_that_ended_early_is_resumed_towards_another_return(root, capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("steps = []\ndef record(chunk):\n    steps.append(chunk.num_steps)\n")
    monkeypatch.syspath_prepend(tmp_path)
    purerl("train", "--resume", root / "early", "--until", 1000, "--eval-episodes", 2, "--callbacks", "mine:record")
    import mine

    assert mine.steps == [64, 80, 96, 112, 128, 144, 160]
    table = rows(root / "early" / "metrics.csv")
    evaluated = {int(row["step"]): float(row["eval_return"]) for row in table if row["eval_return"]}
    assert list(evaluated) == [48, 80, 128, 160]
    best = checkpoint.read_metadata(root / "early" / "best")
    assert evaluated[best["num_steps"]] == max(evaluated.values())
    assert json.loads((root / "early" / "config.json").read_text())["until"] == 1000
    assert math.isclose(best["eval_return"], sum(best["returns"]) / 2)
    assert "Play it with" in said(capsys)


def test_what_cannot_be_called_or_reached_is_refused(root, capsys):
    assert "mine" in fails(capsys, "train", "--callbacks", "nowhere_mine:f", "--runs-dir", root)
    assert "eval_every = 40, not 50" in fails(capsys, "train", "--resume", root / "early", "--eval-every", 50)


def test_a_search_evaluates_on_the_way_and_calls_functions_of_the_user(tmp_path, capsys, monkeypatch):
    (tmp_path / "watching.py").write_text("steps = []\ndef record(chunk):\n    steps.append(chunk.num_steps)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 2, "--num-seeds", 1, "--num-steps", 160, "--eval-every", 80)
    purerl("sweep", "--runs-dir", tmp_path, "--name", "s", *sizes, "--callbacks", "watching:record", *TINY)
    import watching

    assert watching.steps == [80, 160]
    curves, last = rows(tmp_path / "s" / "curves.csv"), {}
    for row in curves:
        last[row["trial"]] = float(row["return"])  # in order of their steps
    greedy = {row["trial"]: float(row["return_seed_0"]) for row in rows(tmp_path / "s" / "trials.csv")}
    assert last == pytest.approx(greedy)
    best = runs.load_policy("s/best", tmp_path)
    assert best.details["eval_return"] == pytest.approx(max(float(row["return"]) for row in curves))
    searched = float(rows(tmp_path / "s" / "trials.csv")[best.details["trial"]]["learning_rate"])
    assert best.task.preset.hparams["learning_rate"] == pytest.approx(searched)
    assert best.act(best.env.reset(jax.random.key(0))[0]) in (0, 1)


def test_a_search_with_a_model_keeps_the_policy_of_the_best_evaluation(tmp_path, monkeypatch):
    """Two batches of two trials: the number in `best/` is that of the table of all."""
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 4, "--num-seeds", 1, "--num-steps", 160, "--eval-every", 80, "--batch-size", 2)
    where = ("--runs-dir", tmp_path, "--name", "s")
    purerl("sweep", *where, *sizes, "--method", "tpe", "--space", "learning_rate=log_uniform(1e-4,1e-1)", *TINY)
    best = runs.load_policy("s/best", tmp_path)
    curves = rows(tmp_path / "s" / "curves.csv")
    assert best.details["eval_return"] == pytest.approx(max(float(row["return"]) for row in curves))
    number = best.details["trial"]
    assert best.details["eval_return"] in [
        pytest.approx(float(row["return"])) for row in curves if int(row["trial"]) == number
    ]
    table = {int(row["trial"]): row for row in rows(tmp_path / "s" / "trials.csv")}
    assert best.task.preset.hparams["learning_rate"] == pytest.approx(float(table[number]["learning_rate"]))


def test_a_search_that_ended_at_an_evaluation_is_replayed_and_continued(tmp_path, capsys, monkeypatch):
    """Any return is enough: the first evaluation ends the search, after half of the steps."""
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 2, "--num-seeds", 1, "--num-steps", 160, "--eval-every", 80)
    where = ("--runs-dir", tmp_path, "--name", "s")
    purerl("sweep", *where, *sizes, "--until", 1, *TINY)
    assert "reached a return of 1 after 80 steps" in said(capsys)
    assert {int(row["steps"]) for row in rows(tmp_path / "s" / "trials.csv")} == {80}
    policy = runs.load_policy("s", tmp_path)
    purerl("sweep", "--resume", tmp_path / "s", "--replay", policy.details["trial"])
    assert "bit for bit" in said(capsys)
    purerl("sweep", "--resume", tmp_path / "s", "--until", 1e9)
    assert {int(row["steps"]) for row in rows(tmp_path / "s" / "trials.csv")} == {160}
