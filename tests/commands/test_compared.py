"""`purerl sweep --space algorithm=choice:...`: algorithms in one search."""

import json
import shlex
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commanding import fails, purerl, rows, said

import purerl as package
from purerl import presets, runs, sweep
from purerl.commands import parser, sweep_results
from purerl.commands import sweep as command
from purerl.commands.options import train
from purerl.hparams import NonNegative
from purerl.reports import pieces
from purerl.types import Agent

ALGORITHMS = ("--space", "algorithm=choice:left,right", "right_learning_rate=log_uniform:1e-3,1e-2")
SMALL = ("--num-envs", 2, "--rollout-length", 8, "--eval-episodes", 2, "--num-seeds", 1, "--num-trials", 4)


class Hparams(NamedTuple):
    learning_rate: NonNegative = 0.1
    push: NonNegative = 0.5


class Learner(NamedTuple):
    theta: jax.Array
    hparams: Hparams


def constant(action):
    """An agent that compiles at once: it always takes one action, and learns a number that has no effect."""
    return Agent(
        init=lambda key, hparams, example, num_envs=1: Learner(jnp.float32(0), hparams),
        act=lambda key, state, obs: (jnp.int32(action), ()),
        update=lambda key, state, data: (state._replace(theta=state.theta + state.hparams.learning_rate), {}),
    )


def entry(name, action):
    space = {"learning_rate": "log_uniform(1e-4, 1e-2)", "push": "uniform(0, 1)"}
    preset = presets.Preset(name, 64, 2, 8)
    made = constant(action)
    return presets.Algorithm("pushes", lambda env, preset: made, lambda: Hparams, {"any": preset}, space, ("Discrete",))


@pytest.fixture(scope="module", autouse=True)
def two_algorithms():
    with pytest.MonkeyPatch.context() as patch:
        for action, name in enumerate(("left", "right")):
            patch.setitem(presets.ALGORITHMS, name, entry(name, action))
        yield


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    halving = ("--schedule", "halving", "--eta", 2, "--rungs", 2, "--num-steps", 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "120")
        patch.setattr(sweep_results, "draw", lambda *_: [])
        purerl("sweep", "--runs-dir", root, *ALGORITHMS, *SMALL, *halving)
    return root / "sweep-left-right-CartPole-v1"


def test_every_algorithm_has_its_own_space(compared):
    table = sorted(rows(compared / "trials.csv"), key=lambda row: int(row["trial"]))
    assert [row["algorithm"] for row in table] == ["left", "right", "left", "right"]
    assert [bool(row["left_push"]) for row in table] == [True, False, True, False]
    assert [bool(row["right_learning_rate"]) for row in table] == [False, True, False, True]
    assert "right_push" not in table[0]  # its space was typed, that of the other one is its preset's
    assert sorted(row["steps"] for row in table) == ["32", "32", "64", "64"]


def test_the_best_policy_is_one_of_its_own_algorithm(compared):
    best = rows(compared / "trials.csv")[0]
    saved = runs.load_policy(compared)
    assert saved.task.preset.algorithm == best["algorithm"]
    rate = float(best[f"{best['algorithm']}_learning_rate"])
    assert saved.task.preset.hparams["learning_rate"] == pytest.approx(rate)
    assert package.load(compared).act(np.zeros(4)) in (0, 1)


def test_the_report_names_the_algorithms_and_trains_the_best_again(compared, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "pictures", lambda _: "")
    purerl("report", compared, "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<title>left, right on CartPole-v1" in page
    assert "<h2>Algorithms</h2>" in page
    command = page[page.index("purerl train") :].split("\n\n")[0].replace("\\\n", " ")
    _, name, *arguments = shlex.split(command)
    options, _ = parser.parse(name, train.Options, arguments)
    best = rows(compared / "trials.csv")[0]["algorithm"]
    assert options.setup.algorithm == best
    assert not [text for text in options.setup.hparams if text.startswith(f"{best}_")]


def test_a_search_is_written_as_runs_of_a_logger(compared, tmp_path, capsys):
    """Each trial has its own hyperparameters under their own names, its curve, and its final figures."""
    run = shutil.copytree(compared, tmp_path / "run")
    purerl("report", run, "--log", "csv", "tensorboard")
    assert "Wrote 4 trials" in said(capsys)
    result = sweep.load(run)
    for rank in range(1, 5):
        trial = result.select(rank)
        settings = json.loads((run / "csv" / f"trial_{trial.number}.json").read_text())
        name = trial.choices["algorithm"]
        assert settings["preset"]["algorithm"] == name
        assert settings["rank"] == rank
        assert settings["hparams"]["learning_rate"] == getattr(trial.hparams, f"{name}_learning_rate")
        table = rows(run / "csv" / f"trial_{trial.number}.csv")
        curve = {int(row["step"]): float(row["episode_return"]) for row in table if row["episode_return"]}
        known = {row["steps"]: row["return"] for row in result.curve_rows() if row["trial"] == trial.number}
        assert curve == pytest.approx(known)
        assert int(table[-1]["step"]) == trial.steps
        assert float(table[-1]["eval_return"]) == pytest.approx(trial.iqm)
        assert list((run / "tensorboard" / f"trial_{trial.number}").glob("events.out.*"))
    assert "has been written before" in fails(capsys, "report", run, "--log", "csv")
    purerl("report", run, "--log", "jsonl", "--top", 1)
    assert [path.stem for path in (run / "jsonl").iterdir()] == [f"trial_{result.best.number}"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--log", "csv", "--output", "page.html"), "--log writes no page"),
        (("--top", 3), "--top has no effect without --log"),
        (("--log", "csv", "csv"), "names csv twice"),
        (("--log", "excel"), "'excel' is not one of"),
    ],
)
def test_options_of_a_report_that_do_not_go_together_are_refused(compared, capsys, argv, message):
    assert message in fails(capsys, "report", compared, *argv)


def test_a_search_over_algorithms_is_resumed_with_its_algorithms_and_its_trials(compared, monkeypatch):
    before = json.loads((compared / "config.json").read_text())
    assert list(before["compared"]) == ["left", "right"]
    seen = []
    monkeypatch.setattr(command, "_search", lambda job, resume: seen.append((job, resume)))
    monkeypatch.setattr(sweep_results, "compare", lambda job, result: None)
    purerl("sweep", "--resume", compared, "--replay", 0)
    ((job, resume),) = seen
    assert resume
    assert list(job.compared) == ["left", "right"]
    first = sweep.load(compared).trials
    jax.tree.map(np.testing.assert_array_equal, job.trials.columns, first.columns)
    assert job.trials.groups == first.groups


def test_a_trial_of_a_search_over_algorithms_is_replayed(compared, capsys):
    trial = rows(compared / "trials.csv")[0]["trial"]
    purerl("sweep", "--resume", compared, "--replay", trial)
    assert "bit for bit" in said(capsys)


@pytest.mark.slow
def test_algorithms_with_and_without_replay_are_compared(tmp_path, capsys):
    sizes = ("--network", "hidden=4", "--num-steps", 64)
    purerl("sweep", "--runs-dir", tmp_path, "--space", "algorithm=choice:actor_critic,dqn", *SMALL, *sizes)
    assert {row["algorithm"] for row in rows(next(tmp_path.iterdir()) / "trials.csv")} == {"actor_critic", "dqn"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--space", "algorithm=choice:ppo,pppo"), "--space algorithm=choice:ppo,pppo: unknown algorithm 'pppo'"),
        (("--space", "algorithm=choice:ppo,,dqn"), "--space algorithm=choice:ppo,,dqn: '' is not the name of"),
        (("--space", "algorithm=choice:ppo|dqn"), "('ppo',) is not the name of an algorithm"),
        (("--space", "algorithm=choice:ppo,3"), "3 is not the name of an algorithm"),
        (
            ("--space", "algorithm=choice:ppo,dqn", "dqn_discount=uniform:1,0.9"),
            "--space dqn_discount=uniform:1,0.9: low",
        ),
        (("--space", "algorithm=choice:ppo,dqn", "dqn_discount=true"), "--space dqn_discount: hyperparameter discount"),
        (("--space", "algorithm=choice:ppo,ppo"), "names an algorithm twice"),
        (("--space", "algorithm=choice:ppo,sac"), "sac needs a Box"),
        (("--space", "algorithm=choice:ppo,dqn", "--algorithm", "ppo"), "mutually exclusive"),
        (("--space", "algorithm=choice:ppo,dqn", "learning_rate=choice:0.1,0.2"), "such as ppo_learning_rate"),
        (("--space", "algorithm=choice:ppo,dqn", "ppo_rate=choice:0.1,0.2"), "ppo: space['rate']"),
        (
            ("--space", "algorithm=choice:ppo,dqn", "--method", "grid"),
            "space['ppo_learning_rate']: a grid needs to know",
        ),
        (("--space", "algorithm=choice:ppo,dqn", "--schedule", "pbt"), "trains one algorithm"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(tmp_path, capsys, argv, message):
    assert message in fails(capsys, "sweep", "--runs-dir", tmp_path, *argv)
    assert not list(tmp_path.iterdir())
