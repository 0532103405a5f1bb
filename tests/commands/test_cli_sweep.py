"""`purerl sweep` beyond one plain search: a population, several processes, and what is refused."""

import contextlib
import html
import io
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

import jax
import numpy as np
import pytest
from commanding import TINY, fails, purerl, rows, said
from matplotlib.figure import Figure
from searches import make_search

from purerl import pbt, plots, runs, sweep
from purerl.commands import founders, parser, report, searches, sweep_jobs, sweep_results
from purerl.commands import sweep as sweep_command
from purerl.commands.options import sweep as sweep_options
from purerl.commands.options import train
from purerl.sweep.run import journal

SPACE = ("--space", "learning_rate=log_uniform:1e-4,1e-2", "clip_epsilon=choice:0.1,0.2")
POPULATION = ("--schedule", "pbt", "--num-trials", 4, *TINY, *SPACE)
SHORT = (*POPULATION, "--rounds", 3, "--num-steps", 48)
LONG = (*POPULATION, "--rounds", 8, "--num-steps", 1024)
GRID = ("--method", "grid", "--space", "learning_rate=choice:1e-3")
PARETO = ("--pareto", "steps", "parameters")
SEARCH = ("--schedule", "halving", "--eta", 2, "--num-trials", 8, "--num-steps", 256, "--confirm", 2, *TINY, *SPACE)


@pytest.fixture(scope="module")
def population(tmp_path_factory, halved):
    """A population that begins with the best trials of a search, and keeps an elite."""
    root = tmp_path_factory.mktemp("runs")
    purerl("sweep", "--runs-dir", root, *SHORT, "--initial", halved[0], "--num-elites", 1)
    return root / "pbt-ppo-CartPole-v1"


def test_a_population_leaves_its_lineage_a_picture_and_a_policy(population):
    names = {path.name for path in population.iterdir()}
    assert names == {
        "config.json", "journal", "lineage.csv", "pbt.json", "family.png", "arrays", "states", "policy",
        "result.sha256",
    }  # fmt: skip
    lineage = rows(population / "lineage.csv")
    assert [(row["round"], row["member"]) for row in lineage] == [(str(r), str(m)) for r in range(3) for m in range(4)]
    assert [row["steps"] for row in lineage[::4]] == ["16", "32", "48"]
    assert [row["parent"] for row in lineage[:4]] == ["0", "1", "2", "3"]
    last = lineage[-4:]
    best = max(last, key=lambda row: float(row["score"]))
    policy = runs.load_policy(population)
    assert policy.details["member"] == int(best["member"])
    assert policy.task.preset.hparams["learning_rate"] == float(best["learning_rate"])
    assert np.float32(policy.state.hparams.learning_rate) == np.float32(best["learning_rate"])


def test_a_population_begins_with_the_best_trials_of_a_search(population, halved):
    begun = [row for row in rows(population / "lineage.csv") if row["round"] == "0"]
    for name in ("learning_rate", "clip_epsilon"):
        assert [row[name] for row in begun] == [row[name] for row in rows(halved[0] / "trials.csv")]
    settings = json.loads((population / "pbt.json").read_text())["settings"]
    assert settings["num_elites"] == 1
    result = pbt.load_pbt(population)
    assert (result.lineage.hparams.anneal_updates == 3).all()  # of the population, not those of the search


def test_a_population_is_resumed_without_the_search_that_it_began_with(population, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "family", lambda result: Figure())
    monkeypatch.setattr(founders, "read", lambda *_: 1 / 0)
    copy = shutil.copytree(population, tmp_path / "copy")
    purerl("sweep", "--resume", copy)
    assert "The first 4 members begin with the learning_rate, clip_epsilon of the best trials" in said(capsys)
    assert (copy / "lineage.csv").read_bytes() == (population / "lineage.csv").read_bytes()


def test_a_search_that_a_population_cannot_begin_with_is_named(population, halved, tmp_path, capsys):
    def message(initial, *argv):
        return fails(capsys, "sweep", "--runs-dir", tmp_path / "runs", *argv, "--initial", initial)

    other = [{"CartPole-v1": "Acrobot-v1"}.get(arg, arg) for arg in SHORT]
    assert "is a search of ppo on CartPole-v1, but this population is of ppo on Acrobot-v1" in message(
        halved[0], *other
    )
    agent = ("--algorithm", "a2c", *(arg for arg in SHORT if "num_epochs" not in str(arg)))
    agent = [arg for arg in agent if arg not in ("--agent", "num_minibatches=2", "clip_epsilon=choice:0.1,0.2")]
    assert "a search of ppo on CartPole-v1, but this population is of actor_critic on" in message(halved[0], *agent)
    assert "is not a search" in message(population, *SHORT)
    assert "is not the name of a run" in message("lost", *SHORT)
    space = [{"clip_epsilon=choice:0.1,0.2": "discount=uniform:0.9,0.99"}.get(arg, arg) for arg in SHORT]
    space = [arg for arg in space if "log_uniform" not in str(arg)]
    assert "searched learning_rate, clip_epsilon, and --space has none of these: discount" in message(halved[0], *space)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(halved[0] / "config.json", unfinished)
    assert "has not finished: resume it with" in message(unfinished, *SHORT)


def test_a_population_can_be_played_and_reported(population, capsys):
    purerl("evaluate", population, "--num-episodes", 2)
    assert "2 greedy episodes" in said(capsys)
    purerl("report", population)
    assert str(population / "report.html") in said(capsys)
    page = (population / "report.html").read_text()
    assert "data:image/gif;base64," in page
    assert "a population of 4" in page
    assert "data:image/png" in page
    assert f"load_pbt('{population}')" in page.replace("&#x27;", "'")
    assert "is a population" in fails(capsys, "report", population, "--log", "csv")


def test_a_population_that_another_process_trains_is_let_alone(population, capsys):
    where = ("--resume", "--name", population.name, "--runs-dir", population.parent)
    with journal.opened(population, resume=True):
        assert "another process" in fails(capsys, "sweep", *where)
    assert "give no options but" in fails(capsys, "sweep", *where, "--rounds", 5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--schedule", "pbt", "--num-seeds", 2), "--num-seeds has no effect with --schedule pbt"),
        (
            ("--schedule", "pbt", "--rungs", 2),
            "--rungs has no effect with --schedule pbt; it is an",
        ),
        (("--schedule", "pbt", "--confirm", 2), "--confirm has no effect"),
        (("--schedule", "pbt", "--ray", "local"), "--ray has no effect"),
        (("--schedule", "pbt", "--method", "sobol"), "--method has no effect"),
        (("--schedule", "pbt", "--rounds", 5, "--num-trials", 1), "population_size = 1"),
        (("--schedule", "pbt", "--rounds", 5, "--exploit-fraction", 0.7), "exploit_fraction = 0.7"),
        (("--schedule", "pbt", "--rounds", 50), "--rounds 50: 160 steps are 10 updates"),
        (("--schedule", "pbt", "--rounds", 5, "--space", "num_envs=choice:2,4"), "--space num_envs"),
        (("--schedule", "pbt", "--rounds", 5, "--space", "env.length=uniform:0.3,0.8"), "--space env.length"),
        (("--schedule", "pbt", "--rounds", 5, "--space", "discount=0.9"), "constants only"),
        (("--rounds", 5), "--rounds has no effect with --schedule full; it is an option of --schedule pbt"),
        (("--eta", 3), "--eta has no effect with --schedule full"),
        (("--initial", "lost"), "--initial has no effect with --schedule full"),
        (("--num-elites", 2), "--num-elites has no effect with --schedule full"),
        (("--schedule", "halving", "--perturb-factors", 0.5, 2), "--perturb-factors has no effect"),
        (("--max-cost", 5), "--max-cost needs --price-per-hour"),
        (("--method", "tpe", "--confirm", 2), "--confirm has no effect with --method tpe"),
        (("--method", "gp", "--num-seeds", "auto"), "--num-seeds auto has no effect with --method gp"),
        ((*GRID, "--schedule", "hyperband", "--eta", 2, "--rungs", 2), "num_trials = 1"),
        ((*GRID, "--schedule", "hyperband", "--eta", 2, "--rungs", 2, "--plan", "here"), "num_trials = 1"),
        (("--ray-gpus", 1), "--ray-gpus has no effect without --ray"),
        (("--replay", 1), "--replay needs the search"),
        (("--add-seeds", 1), "--add-seeds needs the search"),
        (("--objective", "speed"), "there is no objective 'speed'"),
        (("--eval-every", 40, "--curve", "loss/total"), "leave out --curve loss/total"),
        (("--schedule", "pbt", "--eval-every", 40), "--eval-every has no effect with --schedule pbt"),
        (("--callbacks", "nowhere_mine:f"), "--callbacks nowhere_mine:f: cannot import nowhere_mine"),
        (("--callbacks", "math"), "--callbacks 'math' is not of the form module:function"),
        (("--callbacks", "math:pi"), "--callbacks math:pi must be a function of a purerl.sweep.Chunk"),
        (("--callbacks", "cmath:isclose"), "--callbacks cmath:isclose must be a function of a purerl.sweep.Chunk"),
        (("--constraint", "math:pi"), "--constraint math:pi must be a function of a dict"),
        (("--schedule", "operator:truediv"), "--schedule operator:truediv must map"),
        (("--curve", "loss/nothing"), "--curve loss/nothing is not a metric of ppo on CartPole-v1"),
        (("--objective", "steps:nan"), "objective 'steps:nan': threshold = nan must be finite"),
        (("--objective", "seconds:inf"), "objective 'seconds:inf': threshold = inf must be finite"),
        (("--pareto", "percentile:"), "objective 'percentile:': could not convert"),
        (("--method", "gp", "--space", "discount=0.9"), "--method gp has nothing to choose"),
        (("--space", "rollout_length=choice:0,8"), "rollout_length must be a positive integer, got 0"),
        (("--space", "num_envs=choice:2,0.5"), "num_envs must be a positive integer, got 0.5"),
        (("--space", "env.length=choice:0.5,nan"), "space['env.length']: nan is not finite"),
        (("--space", "env.length=choice:0.5,true"), "space['env.length']: True has kind bool"),
        (("--space", "env.max_steps_in_episode=uniform:9,90"), "has kind float, but the default has kind integer"),
        (("--space", "discount=choice:0.9,true if learning_rate=1"), "--space discount: hyperparameter discount must"),
        (("--schedule", "pbt", "--until", 5), "--until has no effect with --schedule pbt"),
        (("--distributed", "here"), "--distributed here: give auto"),
        (("--distributed", "localhost:80,2,2"), "numbered from 0 to 1"),
        (("--distributed", "auto", "--ray", "local"), "mutually exclusive"),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(tmp_path, capsys, argv, message):
    assert message in fails(capsys, "sweep", "--runs-dir", tmp_path, "--num-steps", 160, *argv, *TINY)
    assert not list(tmp_path.iterdir())


def test_a_hyperparameter_is_searched_only_with_some_values_of_another():
    argv = ("--space", "clip_epsilon=choice:0.1,0.3", "target_kl=uniform:0.01,0.1 if clip_epsilon=0.3", *TINY)
    job = sweep_jobs.job_of(parser.parse("sweep", sweep_options.Options, [*argv, "--num-steps", "160"])[0])
    found = job.trials.hparams
    assert 0 < (found.clip_epsilon > 0.2).sum() < job.trials.size
    assert ((found.target_kl < 1) == (found.clip_epsilon > 0.2)).all()


def test_a_search_has_no_progress_before_its_first_result(tmp_path):
    """If it fails then, its directory is removed."""
    with journal.opened(tmp_path, resume=False) as log:
        for kind in ("plan", "size", "width", "compiled", "limit", "fingerprint", "fastest", "split"):
            log.add(kind)
        assert not runs.has_progress(tmp_path)
        log.add("block")
        assert runs.has_progress(tmp_path)


# --- A schedule -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """A search by halving, and what it printed at 80 columns."""
    root = tmp_path_factory.mktemp("runs")
    halving = ("--schedule", "halving", "--eta", 2, "--rungs", 2, "--num-trials", 4, "--num-seeds", 1)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setenv("COLUMNS", "80")
        log = ("--log", "jsonl", "--top", 3, *PARETO)
        purerl("sweep", "--runs-dir", root, "--name", "halved", "--num-steps", 100, *halving, *log, *TINY, *SPACE)
    return root / "halved", printed.getvalue()


def test_the_plan_of_a_schedule_is_printed_before_it_runs(halved):
    _, printed = halved
    assert "100 steps are rounded to 96: 6 updates of 16 steps" in printed
    assert "rung 1: 4 trials to 48 steps each\n  rung 2: 2 trials to 96 steps each" in printed
    assert "288 environment steps in all" in printed


def test_the_plan_of_a_schedule_is_what_runs(halved):
    run, _ = halved
    assert sorted(row["steps"] for row in rows(run / "trials.csv")) == ["48", "48", "96", "96"]


def test_the_learning_rate_is_annealed_to_the_end_of_the_last_rung(halved):
    assert runs.load_policy(halved[0]).task.preset.hparams["anneal_updates"] == 6


def test_the_best_trial_is_printed_as_a_command_that_can_be_copied(halved):
    run, printed = halved
    start = printed.index("purerl train")
    command = printed[start : printed.index("\n\n", start)].replace("\\\n", " ")
    _, name, *arguments = shlex.split(command)
    options, _ = parser.parse(name, train.Options, arguments)
    best = rows(run / "trials.csv")[0]
    assert f"learning_rate={best['learning_rate']}" in options.setup.hparams
    assert options.num_steps == 96
    assert options.setup.num_envs == 2


def test_the_best_trials_are_logged_as_runs_of_their_own(halved):
    run, printed = halved
    assert "Logged the 3 best trials to jsonl" in printed
    result = sweep.load(run)
    for rank in (1, 2, 3):
        trial = result.select(rank)
        rows = [json.loads(line) for line in (run / "jsonl" / f"trial_{trial.number}.jsonl").read_text().splitlines()]
        assert rows[-1]["step"] == trial.steps
        assert rows[-1]["eval_return"] == pytest.approx(trial.iqm)
        curve = {row["step"]: row["episode_return"] for row in rows if "episode_return" in row}
        expected = {row["steps"]: row["return"] for row in result.curve_rows() if row["trial"] == trial.number}
        assert curve == pytest.approx(expected)


def test_what_a_search_prints_fits_into_80_columns(halved):
    lines = [line for line in halved[1].splitlines() if str(halved[0]) not in line]
    assert max(map(len, lines)) <= 80, max(lines, key=len)


def test_a_search_whose_trials_all_diverge_says_so_and_saves_no_policy(tmp_path, capsys):
    space = ("--space", "learning_rate=choice:1e37,1e38")
    sizes = ("--num-trials", 2, "--num-seeds", 1, "--num-steps", 64)
    with pytest.raises(SystemExit) as error:
        purerl("sweep", "--runs-dir", tmp_path, "--name", "lost", *sizes, *space, *TINY)
    assert error.value.code == 1
    assert "every trial diverged" in capsys.readouterr().err
    assert not (tmp_path / "lost" / "policy").exists()


def test_a_report_says_how_to_repeat_the_search(halved, tmp_path):
    purerl("report", halved[0], "--output", tmp_path / "folder" / "page.html")
    page = html.unescape((tmp_path / "folder" / "page.html").read_text())
    (line,) = [line for line in page.splitlines() if line.startswith("purerl sweep") and "--replay" not in line]
    _, name, *arguments = shlex.split(line.split("<")[0])
    options, _ = parser.parse(name, sweep_options.Options, arguments)
    assert (options.schedule, options.eta, options.rungs, options.num_steps) == ("halving", 2, 2, 100)
    assert options.space == SPACE[1:]


def test_the_command_that_is_printed_reproduces_the_best_trial_to_the_bit(halved, capsys):
    run, printed = halved
    (line,) = [line for line in printed.splitlines() if "--replay" in line]
    best = rows(run / "trials.csv")[0]
    assert line.endswith(f"--replay {best['trial']}")
    purerl(*shlex.split(line)[1:])
    text = said(capsys)
    assert "bit for bit" in text
    assert f"{float(best['return_seed_0']):.4g}" in text


def test_the_pareto_front_is_printed_saved_and_drawn(halved):
    run, printed = halved
    front = [row for row in rows(run / "trials.csv") if row["on_front"] == "True"]
    assert "Pareto front of return up, steps down, parameters down" in printed
    assert f"{len(front)} of 4 trials" in " ".join(printed.split())
    assert (run / "pareto.png").is_file()
    learned = jax.tree.leaves(runs.load_policy(run).state.params)
    assert float(front[0]["parameters"]) == sum(leaf.size for leaf in learned)


def test_a_finished_search_grows_by_trials_and_seeds(halved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    run = shutil.copytree(halved[0], tmp_path / "grown")
    before = {row["trial"]: row["return_seed_0"] for row in rows(run / "trials.csv")}
    purerl("sweep", "--resume", run, "--add-trials", 2, "--add-seeds", 1)
    assert "4 trials and 2 more, 1 seeds and 1 more" in said(capsys)
    after = {row["trial"]: row for row in rows(run / "trials.csv")}
    assert sorted(after) == [str(trial) for trial in range(6)]
    assert {trial: after[trial]["return_seed_0"] for trial in before} == before
    assert all(row["return_seed_1"] for row in after.values())
    assert runs.read_config(run)["options"]["num_trials"] == 6
    assert runs.load_policy(run).details["trial"] == int(rows(run / "trials.csv")[0]["trial"])
    assert "cannot be combined with --replay" in fails(
        capsys, "sweep", "--resume", run, "--add-seeds", 1, "--replay", 0
    )


def test_a_search_that_refuses_to_grow_stays_as_it_is(tmp_path, capsys, monkeypatch):
    """Hyperband cannot share one trial out among its brackets."""
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 3, "--num-seeds", 1, "--num-steps", 96)
    schedule = ("--schedule", "hyperband", "--eta", 2, "--rungs", 2)
    purerl("sweep", "--runs-dir", tmp_path, "--name", "small", *sizes, *schedule, *TINY, *SPACE)
    before = (tmp_path / "small" / "config.json").read_bytes()
    assert "num_trials = 1" in fails(capsys, "sweep", "--resume", tmp_path / "small", "--add-trials", 1)
    with journal.opened(tmp_path / "small", resume=True):
        assert "another process" in fails(capsys, "sweep", "--resume", tmp_path / "small", "--add-seeds", 1)
    assert (tmp_path / "small" / "config.json").read_bytes() == before
    purerl("sweep", "--resume", tmp_path / "small")


def test_a_search_that_was_killed_as_it_grew_resumes_with_the_size_in_its_journal(halved, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    run = shutil.copytree(halved[0], tmp_path / "killed")
    for argv, name, size in (("--add-trials", 2), "num_trials", 6), (("--add-steps", 100), "add_steps", 96):
        before = (run / "config.json").read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(searches, "write_size", mock.Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(SystemExit):
                purerl("sweep", "--resume", run, *argv)
        assert (run / "config.json").read_bytes() == before
        purerl("sweep", "--resume", run)
        assert runs.read_config(run)["options"][name] == size
    assert len(rows(run / "trials.csv")) == 6


def test_the_options_of_a_search_that_is_resumed_are_checked_too(halved, capsys):
    assert "--max-cost needs --price-per-hour" in fails(capsys, "sweep", "--resume", halved[0], "--max-cost", 1)
    assert "give no options but" in fails(capsys, "sweep", "--resume", halved[0], "--plan", "here")


@pytest.mark.parametrize("number", ["-1.5e2", "-150", "-.15e+3", "-1_50."])
def test_negative_numbers_are_values_and_not_options(number):
    (options, _) = parser.parse("sweep", sweep_options.Options, ["--until", number, "--threshold", number])
    assert (options.limits.until, options.judging.threshold) == (-150, -150)


def test_commands_that_are_printed_can_be_copied_from_a_directory_with_blanks(tmp_path, capsys, monkeypatch):
    """Of a search with a model there is none that repeats a trial to the bit, which cannot be done."""
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 2, "--num-seeds", 1, "--num-steps", 32, "--method", "tpe")
    purerl("sweep", "--runs-dir", tmp_path / "my runs", "--name", "model", *sizes, *TINY, *SPACE)
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "purerl evaluate" in line]
    assert shlex.split(line)[-1] == str(tmp_path / "my runs" / "model")
    assert "--replay" not in printed
    purerl("report", tmp_path / "my runs" / "model")
    page = html.unescape((tmp_path / "my runs" / "model" / "report.html").read_text())
    assert "--replay" not in page
    assert f"purerl watch '{tmp_path}/my runs/model'" in page


def test_the_best_trials_of_a_finished_search_train_further(halved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    run = shutil.copytree(halved[0], tmp_path / "longer")
    before = {row["trial"]: row for row in rows(run / "trials.csv")}
    purerl("sweep", "--resume", run, "--add-steps", 100)
    after = {row["trial"]: row for row in rows(run / "trials.csv")}
    furthest = max(int(row["steps"]) for row in before.values())
    for trial, row in before.items():
        added = 96 if int(row["steps"]) == furthest else 0
        assert int(after[trial]["steps"]) == int(row["steps"]) + added
    assert runs.read_config(run)["options"]["add_steps"] == 100
    purerl("report", run)
    page = html.unescape((run / "report.html").read_text())
    first, then = (shlex.split(line.split("<")[0]) for line in page.splitlines() if "longer-again" in line)
    assert "--add-steps" not in first
    assert first[-2:] == ["--name", "longer-again"]
    assert then == ["purerl", "sweep", "--resume", "longer-again", "--add-steps", "100"]
    capsys.readouterr()
    purerl("sweep", "--resume", run)  # nothing is left to do, and the same table is printed
    assert {row["trial"]: row for row in rows(run / "trials.csv")} == after
    assert "less than the" in fails(capsys, "sweep", "--resume", halved[0], "--add-steps", 1)
    assert "no trials can be added" in fails(capsys, "sweep", "--resume", run, "--add-trials", 1)
    assert runs.read_config(run)["options"]["num_trials"] == 4


def test_a_search_stops_when_it_is_good_enough_and_the_table_follows_the_fresh_seeds(tmp_path, capsys, monkeypatch):
    """Any return is enough, so the first block is the last; its best trials are trained again, and rank by that."""
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 4, "--num-seeds", 1, "--num-steps", 96, "--block-size", 2)
    confirm = ("--confirm", 2, "--confirm-seeds", 2)
    purerl("sweep", "--runs-dir", tmp_path, "--name", "short", *sizes, "--until", 1, *confirm, *TINY, *SPACE)
    table = rows(tmp_path / "short" / "trials.csv")
    assert len(table) == 2
    assert float(table[0]["fresh_return"]) >= float(table[1]["fresh_return"])
    policy = runs.load_policy(tmp_path / "short")
    assert policy.details["trial"] == int(table[0]["trial"])
    assert policy.details["return_on_fresh_seeds"] == pytest.approx(float(table[0]["fresh_return"]))
    assert "reached a return of 1" in said(capsys)


def test_a_picture_that_cannot_be_drawn_costs_nothing_else(tmp_path, capsys, monkeypatch):
    for name in ("sweep_figure", "parameters", "learning_curves", "rank_stability", "parallel_coordinates"):
        monkeypatch.setattr(plots, name, lambda result: Figure())
    monkeypatch.setattr(plots, "ranking", lambda result: 1 / 0)
    drawn = sweep_results.draw(tmp_path, make_search(4, 2))
    assert "ranking.png could not be drawn: division by zero" in said(capsys)
    assert {path.name for path in drawn} == {path.name for path in tmp_path.iterdir()}
    assert len(drawn) == 5


def test_a_search_killed_after_its_last_block_is_finished_from_the_journal_alone(tmp_path, capsys, monkeypatch):
    """The last process trains nothing, so it measures no speed; the one after it reads what that one wrote."""
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 2, "--num-seeds", 1, "--num-steps", 96)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.Result, "save", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(SystemExit):
            purerl("sweep", "--runs-dir", tmp_path, "--name", "ended", *sizes, *TINY, *SPACE)
    for _ in range(2):
        purerl("sweep", "--resume", tmp_path / "ended")
        assert "steps/s" in said(capsys)
    assert len(rows(tmp_path / "ended" / "trials.csv")) == 2


def test_a_search_that_has_not_finished_is_reported_and_watched(halved, tmp_path, capsys, monkeypatch):
    """The second page finds the search finished, and ends the watch."""
    run = shutil.copytree(halved[0], tmp_path / "running")
    (run / "sweep.json").rename(run / "later.json")
    pages = []

    def finish_meanwhile(seconds):
        pages.append((seconds, (run / "report.html").read_text()))
        (run / "later.json").rename(run / "sweep.json")

    monkeypatch.setattr(report.time, "sleep", finish_meanwhile)
    purerl("report", run, "--watch", 5)
    assert said(capsys).count("report: ") == 2
    ((seconds, first),) = pages
    assert seconds == 5
    assert 'http-equiv="refresh" content="5"' in first
    assert "the search has not finished" in first
    assert "refresh" not in (run / "report.html").read_text()


def test_a_search_that_stopped_and_was_resumed_is_reported_as_it_is_now(tmp_path, capsys, monkeypatch):
    """The first process stops after two trials, which is a result; the second is cut after a third one."""
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    sizes = ("--num-trials", 4, "--num-seeds", 1, "--num-steps", 96, "--block-size", 1)
    purerl("sweep", "--runs-dir", tmp_path, "--name", "cut", *sizes, "--max-steps", 2 * 96 + 1, *TINY, *SPACE)
    run = tmp_path / "cut"
    purerl("report", run)
    assert "the search has not finished" not in (run / "report.html").read_text()
    evaluated = []

    def cut(show, progress):
        evaluated.append(progress.phase)
        if evaluated.count("evaluate") == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_command, "_show", cut)
        with pytest.raises(SystemExit):
            purerl("sweep", "--resume", run, "--max-steps", 10_000)
    purerl("report", run)
    page = (run / "report.html").read_text()
    assert "the search has not finished" in page
    assert len(sweep.load_unfinished(run).rows()) == 3


# --- Processes of their own -------------------------------------------------------------------------------------------


def command(root, name, *argv, devices=2):
    """A `purerl sweep` in a process of its own; all share the compiled programs."""
    argv = ("sweep", "--runs-dir", root, "--name", name, "--compile-cache", root / "xla", *argv)
    return subprocess.Popen(
        [pathlib.Path(sys.executable).with_name("purerl"), *map(str, argv)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(*processes):
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_population_killed_at_any_moment_ends_in_the_same_lineage(tmp_path):
    finish(command(tmp_path, "whole", *LONG))
    whole = (tmp_path / "whole" / "lineage.csv").read_bytes()
    rng = random.Random(0)
    for trial in range(3):
        name, kills, begun = f"killed{trial}", 0, 0
        process = command(tmp_path, name, *LONG)
        for _ in range(3):
            wait_for(lambda: newest(tmp_path / name) > begun or process.poll() is not None)
            begun = newest(tmp_path / name)
            time.sleep(rng.uniform(0, 0.4))
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            process = command(tmp_path, name, "--resume")
        finish(process)
        assert kills
        assert (tmp_path / name / "lineage.csv").read_bytes() == whole


def newest(directory):
    """Rounds that are on the disk."""
    return max((int(path.name) for path in (directory / "population").glob("0*")), default=0)


def wait_for(happened):
    for _ in range(3000):
        if happened():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("argv", "table"), [(SEARCH, "trials.csv"), (LONG, "lineage.csv")], ids=["search", "pbt"])
def test_two_processes_end_in_the_table_of_one(tmp_path, argv, table):
    finish(command(tmp_path, "one", *argv, devices=4))
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    both = [command(tmp_path, "two", *argv, "--distributed", f"localhost:{port},2,{i}") for i in range(2)]
    main, other = finish(*both)
    assert "Play it with: purerl evaluate" in main
    assert [line for line in other.splitlines() if "[Gloo]" not in line] == []  # which XLA writes itself
    assert (tmp_path / "two" / table).read_bytes() == (tmp_path / "one" / table).read_bytes()
