"""The `purerl` command as its users meet it: in-process, except for one call of the console script."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from commanding import TINY, fails, purerl, rows, said

from purerl import checkpoint, datasets, runs, runtime
from purerl.commands import console, sweep_results, training
from purerl.presets.tasks import task_from_json
from purerl.sweep.trials import parsing
from purerl.text import parse_count


def final_state(run: Path):
    config = training.Config(task_from_json(runs.read_config(run)["task"]), 1, 3)
    return checkpoint.restore(checkpoint.latest(run / "checkpoints"), jax.eval_shape(training.program(config).start))


def leaf_bytes(tree) -> list[bytes]:
    leaves = jax.tree.leaves(tree)
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [np.asarray(jax.random.key_data(x) if key else x).tobytes() for x, key in zip(leaves, is_key)]


@pytest.fixture(scope="module")
def run_dirs(tmp_path_factory):
    """100 updates in one go, and 50 of the same, stopped as by Ctrl-C."""
    root = tmp_path_factory.mktemp("runs")
    where = ("--runs-dir", root, "--num-steps", 1600, "--seed", 3, *TINY)
    purerl("train", "--name", "straight", *where)
    calls = iter(range(1000))
    signals = contextlib.nullcontext(lambda: next(calls) >= 50)
    stop_after_50 = mock.patch.object(console, "stop_signals", return_value=signals)
    with stop_after_50, pytest.raises(SystemExit) as stop:
        purerl("train", "--name", "stopped", *where)
    assert stop.value.code == 130
    return root


# --- Training and going on --------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_behind(run_dirs):
    run = run_dirs / "straight"
    names = {path.name for path in run.iterdir()}
    assert names == {
        ".lock", "config.json", "metrics.csv", "checkpoints", "policy", "learning_curve.png", "evaluation.json",
    }  # fmt: skip
    assert (run / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    metrics = rows(run / "metrics.csv")
    assert [int(row["step"]) for row in metrics] == list(range(16, 1601, 16))
    total = sum(float(row["episode_length"] or 0) * float(row["num_episodes"]) for row in metrics)
    assert 1600 - 2 * 500 < total <= 1600, "steps of finished episodes"
    assert len(json.loads((run / "evaluation.json").read_text())["returns"][0]) == 2


def test_a_resumed_run_is_bit_for_bit_the_run_that_was_never_stopped(run_dirs, tmp_path, capsys):
    shutil.copytree(run_dirs / "stopped", tmp_path / "stopped")
    assert checkpoint.latest(tmp_path / "stopped" / "checkpoints").name == f"{50:012d}"
    assert not (tmp_path / "stopped" / "policy").exists()
    damaged = shutil.copytree(checkpoint.latest(tmp_path / "stopped" / "checkpoints"), tmp_path / f"{60:012d}")
    (damaged / "metadata.json").write_text("{}")
    damaged.rename(tmp_path / "stopped" / "checkpoints" / damaged.name)
    same = ("--hparams", "learning_rate=2.5e-4", "--seed", 3, "--eval-episodes", 2)
    purerl("train", "--resume", "--name", "stopped", "--runs-dir", tmp_path, *same)
    printed = said(capsys)
    assert "Passing over a checkpoint that cannot be used" in printed
    assert "metadata.json does not match its SHA-256" in printed
    assert f"Resuming from {tmp_path / 'stopped' / 'checkpoints' / f'{50:012d}'}" in printed
    assert leaf_bytes(final_state(tmp_path / "stopped")) == leaf_bytes(final_state(run_dirs / "straight"))
    clocks = {"seconds": None, "steps_per_second": None}
    ours, theirs = rows(tmp_path / "stopped" / "metrics.csv"), rows(run_dirs / "straight" / "metrics.csv")
    assert [row | clocks for row in ours] == [row | clocks for row in theirs]
    played = [
        json.loads((path / "evaluation.json").read_text()) for path in (tmp_path / "stopped", run_dirs / "straight")
    ]
    assert played[0] == played[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--seed", 4), "seed = 3, not 4"),
        (("--num-seeds", 2), "num_seeds = 1, not 2"),
        (("--num-envs", 4), "num_envs = 2, not 4"),
        (("--env", "Acrobot-v1"), "env = CartPole-v1, not Acrobot-v1"),
        (("--hparams", "learning_rate=1e-3"), "learning_rate = 0.00025, not 0.001"),
        (("--agent", "num_epochs=4"), "num_epochs = 1, not 4"),
        (("--network", "activation=relu"), "no activation, not relu"),
        (("--num-steps", 160), "num_steps = 1,600, not 160"),
        (("--preset", "fast"), "--preset fast: the run was started with others"),
    ],
)
def test_a_resumed_run_with_other_settings_is_refused_naming_the_setting(run_dirs, capsys, argv, message):
    where = ("--name", "stopped", "--runs-dir", run_dirs)
    assert message in fails(capsys, "train", "--resume", *where, *argv)


def test_a_finished_run_can_be_made_longer(run_dirs, tmp_path, capsys):
    """The learning rate had been annealed to 0; it is annealed to the new end instead."""
    run = shutil.copytree(run_dirs / "straight", tmp_path / "longer")
    purerl("train", "--resume", run, "--num-steps", 3200, "--eval-episodes", 2)
    assert "it resumes at 50% of its initial value" in said(capsys)
    steps = [int(row["step"]) for row in rows(run / "metrics.csv")]
    assert steps[:100] == list(range(16, 1601, 16))
    assert steps[-1] == 3200
    policy = runs.load_policy(run)
    before = runs.load_policy(run_dirs / "straight")
    assert leaf_bytes(policy.state.params) != leaf_bytes(before.state.params)
    assert float(policy.state.hparams.anneal_updates) == 200


def test_a_run_cannot_be_named_twice(run_dirs, capsys):
    argv = ("train", "--resume", "stopped", "--name", "straight", "--runs-dir", run_dirs)
    assert "name two runs" in fails(capsys, *argv)


def test_what_cannot_be_resumed_says_why(run_dirs, capsys):
    assert "--resume RUN" in fails(capsys, "train", "--resume")
    assert "'stopped'" in fails(capsys, "train", "--resume", "--name", "stoped", "--runs-dir", run_dirs)
    assert "already exists" in fails(capsys, "train", "--name", "stopped", "--runs-dir", run_dirs)
    assert "plain directory name" in fails(capsys, "train", "--name", "../x", "--runs-dir", run_dirs)


def test_several_seeds_side_by_side(tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    (tmp_path / "ppo-CartPole-v1").mkdir()
    purerl("train", "--num-seeds", 2, "--num-steps", 32, "--runs-dir", tmp_path, "--log", "tensorboard", *TINY)
    run = tmp_path / "ppo-CartPole-v1-2"
    assert [(row["step"], row["seed"]) for row in rows(run / "metrics.csv")] == [
        ("16", "0"), ("16", "1"), ("32", "0"), ("32", "1"),
    ]  # fmt: skip
    assert sorted(path.name for path in (run / "tensorboard").iterdir()) == [
        "seed_0",
        "seed_1",
    ]
    text = said(capsys)
    assert " evaluating greedy evaluation" in text
    assert text.count("64 of 64 steps") == 1
    assert "over 2 seeds" in text
    assert re.search(r"2 seeds, [0-9.]+ kB of state -> ", text)


# --- Evaluation -------------------------------------------------------------------------------------------------------


def test_what_a_policy_did_is_written_down_and_learned_from(run_dirs, tmp_path, capsys):
    data, where = tmp_path / "data", ("--runs-dir", tmp_path, "--num-steps", 1600)
    tiny = ("--network", "hidden=4,", "--eval-episodes", 2)
    policy = run_dirs / "straight"
    purerl("evaluate", policy, "--record", data, "--record-steps", 320, "--sample")
    assert f"320 steps, {datasets.load(data).terminated.sum()} ends of episodes" in said(capsys)
    assert "already exists" in fails(capsys, "evaluate", policy, "--record", data)
    purerl("train", "--algorithm", "behavior_cloning", "--dataset", data, "--name", "cloned", *where, *tiny)
    assert "6 updates of 256 rows" in said(capsys)
    losses = [float(row["loss/negative_log_likelihood"]) for row in rows(tmp_path / "cloned" / "metrics.csv")]
    assert losses[-1] < losses[0]
    assert (tmp_path / "cloned" / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    purerl("evaluate", tmp_path / "cloned", "--num-episodes", 2)
    assert "behavior_cloning on CartPole-v1" in said(capsys)
    assert "needs the directory of a dataset" in fails(capsys, "train", "--algorithm", "cql", *where)
    assert "takes no dataset" in fails(capsys, "train", "--dataset", data, *where)
    other = ("train", "--algorithm", "cql", "--dataset", data, "--env", "Acrobot-v1", *where)
    assert "observations have shape (4,), those of the environment (6,)" in fails(capsys, *other)
    assert "hidden" in fails(capsys, "train", "--network", "hidden=0", *where)
    resumed = ("train", "--resume", "--name", "cloned", "--runs-dir", tmp_path, "--dataset", run_dirs)
    assert f"dataset = {data}, not {run_dirs}" in fails(capsys, *resumed)


def test_evaluate_plays_the_saved_policy(run_dirs, capsys):
    run = run_dirs / "straight"
    purerl("evaluate", run, "--num-episodes", 3)
    assert "interquartile mean" in said(capsys)
    played = rows(run / "evaluation.csv")
    assert len(played) == 3
    assert all(row["episode_return"] == f"{float(row['episode_length'])}" for row in played), (
        "the reward of CartPole is 1 per step"
    )
    purerl("evaluate", run / "policy", "--num-episodes", 2, "--sample", "--max-steps", 5)
    assert "2 sampled episodes" in said(capsys)


def test_evaluating_the_policy_directory_leaves_its_files_alone(run_dirs, capsys):
    run = run_dirs / "straight"
    before = sorted((run / "policy").rglob("*"))
    purerl("evaluate", run / "policy", "--num-episodes", 2)
    assert sorted((run / "policy").rglob("*")) == before
    assert str(run / "evaluation.csv") in said(capsys)
    runs.load_policy(run)


def test_a_policy_that_lies_alone_has_its_episodes_saved_beside_it(run_dirs, tmp_path, capsys):
    shutil.copytree(run_dirs / "straight" / "policy", tmp_path / "exported")
    purerl("evaluate", tmp_path / "exported", "--num-episodes", 2)
    assert len(rows(tmp_path / "exported-evaluation.csv")) == 2
    runs.load_policy(tmp_path / "exported")


def test_a_run_is_found_by_its_name_and_by_its_path(run_dirs, capsys):
    for name in ("straight", run_dirs / "straight"):
        purerl("evaluate", name, "--runs-dir", run_dirs, "--num-episodes", 1, "--max-steps", 2)
    assert capsys.readouterr().out.count("1 greedy episodes") == 2
    assert "did you mean 'straight'" in fails(capsys, "evaluate", "straigth", "--runs-dir", run_dirs)


def test_a_missing_run_is_asked_for_with_those_that_there_are(run_dirs, capsys):
    assert "holds straight" in fails(capsys, "evaluate", "--runs-dir", run_dirs)


def test_evaluate_refuses_what_holds_no_policy_or_a_damaged_one(run_dirs, tmp_path, capsys):
    assert "is not the name of a run" in fails(capsys, "evaluate", tmp_path / "nowhere")
    assert f"purerl train --resume {run_dirs / 'stopped'}" in fails(capsys, "evaluate", run_dirs / "stopped")
    run = shutil.copytree(run_dirs / "straight", tmp_path / "damaged")
    content = bytearray((run / "policy" / "metadata.json").read_bytes())
    content[20] ^= 4
    (run / "policy" / "metadata.json").write_bytes(content)
    with pytest.raises(SystemExit) as error:
        purerl("evaluate", run)
    assert error.value.code == 1
    assert "metadata.json does not match" in capsys.readouterr().err


# --- Runs that fail ---------------------------------------------------------------------------------------------------


def fails_while_running(capsys, *argv):
    """The one line on standard error of a command that exits with 1."""
    with pytest.raises(SystemExit) as error:
        purerl(*argv)
    assert error.value.code == 1
    text = capsys.readouterr().err.strip()
    assert text.count("\n") == 0, text
    return text


def test_a_run_that_diverges_says_so_and_saves_no_policy(tmp_path, capsys):
    where = ("--name", "lost", "--runs-dir", tmp_path, "--num-steps", 160)
    text = fails_while_running(capsys, "train", *where, "--hparams", "learning_rate=1e38", *TINY)
    assert "training diverged: the parameters are no longer finite after" in text
    assert "lower learning rate" in text
    assert not (tmp_path / "lost" / "policy").exists()
    assert rows(tmp_path / "lost" / "metrics.csv")


def _always(state):
    return jax.numpy.bool_(True)


def test_a_run_that_diverges_keeps_the_policy_that_it_had(run_dirs, tmp_path, capsys):
    run = shutil.copytree(run_dirs / "straight", tmp_path / "kept")
    before = (run / "policy" / "SHA256SUMS").read_bytes()
    spoiled = mock.patch.object(training.numerics, "diverged", new=_always)
    with spoiled:
        assert "diverged" in fails_while_running(capsys, "train", "--resume", run, "--num-steps", 1760)
    assert (run / "policy" / "SHA256SUMS").read_bytes() == before
    assert checkpoint.latest(run / "checkpoints").name == f"{100:012d}"


@pytest.mark.slow  # 8 s; run by `pytest -m slow tests/commands/test_cli.py`, last passed on one core in 7.7 s
def test_steps_that_no_episode_took_are_not_counted(tmp_path, capsys):
    sizes = (
        "--num-envs",
        2,
        "--rollout-length",
        400,
        "--num-steps",
        800,
        "--network",
        "hidden=4",
        "--eval-episodes",
        1,
    )
    purerl("train", "--algorithm", "evolution", "--name", "es", "--runs-dir", tmp_path, *sizes)
    assert "2 environments x at most 400 steps" in said(capsys)
    (row,) = rows(tmp_path / "es" / "metrics.csv")
    assert float(row["num_env_steps"]) < 800
    played = float(row["steps_per_second"]) * float(row["seconds"])
    assert played == pytest.approx(float(row["num_env_steps"]), rel=1e-3)


def test_a_seed_that_diverges_is_named_and_the_others_are_kept(tmp_path, capsys):
    """Seed 1 of 2 diverges, though its returns would be finite."""
    made = training.program

    def program(config):
        return made(config)._replace(diverged=lambda state: np.array([False, True]))

    where = ("--name", "some", "--runs-dir", tmp_path, "--num-steps", 64, "--num-seeds", 2)
    with mock.patch.object(training, "program", program):
        text = fails_while_running(capsys, "train", *where, *TINY)
    assert "training diverged for seed 1 of 2: its parameters are no longer finite" in text
    assert runs.load_policy(tmp_path / "some").details["seed_index"] == 0
    assert json.loads((tmp_path / "some" / "evaluation.json").read_text())["best_seed"] == 0


def test_a_run_that_fails_at_its_start_leaves_its_name_free(tmp_path, capsys):
    where = ("--name", "first", "--runs-dir", tmp_path, "--num-steps", 32)
    broken = mock.patch.object(training.loops, "start", side_effect=MemoryError("no memory left"))
    with broken, mock.patch("purerl.commands.training.check_update"):
        assert "no memory left" in fails_while_running(capsys, "train", *where, *TINY)
    assert not (tmp_path / "first").exists()


# --- Parts of one's own -----------------------------------------------------------------------------------------------

OWN = '''
import jax
import jax.numpy as jnp

import purerl


def unclipped(log_prob, old_log_prob, advantage, hparams):
    return -jnp.exp(log_prob - old_log_prob) * advantage


def corridor(length=3):
    def reset(key, env_params=None):
        return jnp.zeros(1), jnp.int32(0)

    def step(key, state, action, env_params=None):
        state = state + action
        end = state >= length
        return purerl.EnvStep(jnp.full(1, state, jnp.float32), state, jnp.float32(end), end, jnp.bool_(False))

    spaces = purerl.types.Box(0.0, float(length), (1,)), purerl.types.Discrete(2)
    return purerl.Env(reset, step, *spaces)


def split():
    """The corridor, seen as a dict of a vector and a tuple."""
    env = corridor()
    box = purerl.types.Box(0.0, 3.0, (1,))
    space = purerl.types.Dict((("here", box), ("twice", purerl.types.Tuple((box, box)))))

    def seen(obs):
        return {"here": obs, "twice": (obs, obs)}

    def reset(key, env_params=None):
        obs, state = env.reset(key)
        return seen(obs), state

    def step(key, state, action, env_params=None):
        new = env.step(key, state, action)
        return new._replace(obs=seen(new.obs))

    return purerl.Env(reset, step, space, env.action_space)


def lever():
    """Pays the force, and does not clip it; the bounds are +-1."""

    def reset(key, env_params=None):
        return jnp.zeros(1), jnp.int32(0)

    def step(key, state, action, env_params=None):
        end = state == 3
        return purerl.EnvStep(jnp.zeros(1), state + 1, jnp.abs(action[0]), end, jnp.bool_(False))

    return purerl.Env(reset, step, purerl.types.Box(0.0, 1.0, (1,)), purerl.types.Box(-1.0, 1.0, (1,)))


def not_an_environment():
    return 3
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A directory with a module of the user's, in which the commands are typed."""
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_parts", None)


def test_a_policy_loss_and_an_environment_of_ones_own_are_named_on_the_command_line(own, capsys):
    tiny = ("--num-envs", 2, "--rollout-length", 8, "--network", "hidden=4", "--eval-episodes", 2, "--num-steps", 64)
    loss = ("--agent", "policy_loss=own_parts:unclipped", "num_epochs=1", "num_minibatches=1")
    purerl("train", "--env", "own_parts:corridor", "--env-settings", "length=2", *loss, *tiny, "--name", "mine")
    assert "ppo on own_parts:corridor" in said(capsys)
    policy = runs.load_policy("mine")
    assert policy.task.preset.agent["policy_loss"] == "own_parts:unclipped"
    assert policy.env.observation_space.high == 2.0
    assert "returned int, not an environment (purerl.Env)" in fails(
        capsys, "train", "--env", "own_parts:not_an_environment"
    )


def test_a_policy_is_played_and_recorded_within_the_bounds_of_its_actions(own, capsys):
    tiny = ("--num-envs", 2, "--rollout-length", 8, "--network", "hidden=4", "--eval-episodes", 2, "--num-steps", 16)
    purerl("train", "--env", "own_parts:lever", "--agent", "num_epochs=1", "num_minibatches=1", *tiny, "--name", "pull")
    purerl("evaluate", "pull", "--sample", "--num-episodes", 20)
    assert max(float(row["episode_return"]) for row in rows(own / "runs" / "pull" / "evaluation.csv")) <= 4
    purerl("evaluate", "pull", "--sample", "--record", own / "data", "--record-steps", 160)
    assert np.abs(datasets.load(own / "data").action).max() == 1
    assert "--algorithm iql" in said(capsys)


def test_recorded_steps_with_structured_observations_are_learned_from(own, capsys, monkeypatch):
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    tiny = ("--num-envs", 2, "--rollout-length", 8, "--network", "hidden=4", "--eval-episodes", 2)
    one = ("--agent", "num_epochs=1", "num_minibatches=1")
    purerl("train", "--env", "own_parts:split", *one, *tiny, "--num-steps", 16, "--name", "seen")
    purerl("evaluate", "seen", "--sample", "--record", own / "data", "--record-steps", 160)
    data = ("--env", "own_parts:split", "--dataset", own / "data", *tiny, "--num-steps", 32)
    purerl("train", "--algorithm", "behavior_cloning", *data, "--name", "cloned")
    assert "2 updates of 16 rows" in said(capsys)
    purerl("evaluate", "cloned", "--num-episodes", 2)
    assert "behavior_cloning on own_parts:split" in said(capsys)
    search = ("--num-trials", 2, "--num-seeds", 1, "--space", "learning_rate=log_uniform:1e-4,1e-2")
    purerl("sweep", "--algorithm", "behavior_cloning", *data, *search, "--runs-dir", own / "searches")
    assert runs.load_policy(own / "searches" / "sweep-behavior_cloning-own_parts.split").task.env == "own_parts:split"


def test_a_schedule_of_ones_own_is_named_on_the_command_line(own, capsys, monkeypatch):
    monkeypatch.setattr(sweep_results, "draw", lambda *_: [])
    schedules = "two = lambda trials, updates: (((trials, 1), (trials, updates)),)\nnone = lambda *sizes: ()\n"
    (own / "own_parts.py").write_text(OWN + schedules)
    search = ("--num-trials", 2, "--num-seeds", 1, "--num-steps", 32, *TINY)
    search = (*search, "--space", "learning_rate=log_uniform:1e-4,1e-2", "--name", "own")
    purerl("sweep", "--schedule", "own_parts:two", *search)
    text = said(capsys)
    assert "rung 1: 2 trials to 16 steps each" in text
    assert "rung 2: 2 trials to 32 steps each" in text
    for options, message in {
        ("own_parts:none",): "returned brackets without a trial",
        ("own_parts:three",): "own_parts has no 'three'",
        ("own_parts:two", "--eta", 2): "--eta has no effect",
        ("halvin",): "'halvin' is not one of full, halving",
    }.items():
        assert message in fails(capsys, "sweep", *search[:-1], "other", "--schedule", *options)


# --- Search -----------------------------------------------------------------------------------------------------------


def test_sweep_ranks_trials_and_saves_a_policy_that_can_be_played(tmp_path, capsys):
    space = ("--space", "learning_rate=log_uniform:1e-4,1e-2", "clip_epsilon=choice:0.1,0.2")
    purerl("sweep", "--num-trials", 3, "--num-seeds", 1, "--num-steps", 32, "--runs-dir", tmp_path, *space, *TINY)
    out = capsys.readouterr().out
    assert "best policy on fresh episodes" in out
    run = tmp_path / "sweep-ppo-CartPole-v1"
    table = rows(run / "trials.csv")
    assert [row["rank"] for row in table] == ["1", "2", "3"]
    assert {round(float(row["clip_epsilon"]), 6) for row in table} <= {0.1, 0.2}
    policy = runs.load_policy(run)
    assert policy.task.preset.hparams["learning_rate"] == float(table[0]["learning_rate"])
    assert {path.name for path in run.glob("*.png")} == {
        "sweep.png", "ranking.png", "parameters.png", "learning_curves.png", "rank_stability.png",
        "parallel_coordinates.png",
    }  # fmt: skip
    purerl("report", run)
    assert str(run / "report.html") in said(capsys)
    page = (run / "report.html").read_text()
    assert f"learning_rate={table[0]['learning_rate']}" in page
    assert "purerl train" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate", "not of the form name=value"),
        ("learning_rat=uniform:0.1,0.2", "learning_rate"),
        ("learning_rate=uniform:0.2,0.1", "learning_rate"),
        ("learning_rate=log_unifrm:0.1,0.2", "log_uniform"),
        ("learning_rate=uniform:0.1", "two numbers"),
        ("learning_rate=__import__('os').getcwd()", "learning_rate"),
        ("learning_rate=uniform:a,b", "'a' is not a number"),
    ],
)
def test_a_space_that_cannot_be_read_is_refused_naming_it(tmp_path, capsys, text, message):
    assert message in fails(capsys, "sweep", "--runs-dir", tmp_path, "--space", text, *TINY)
    assert not list(tmp_path.iterdir())


def test_spaces_are_read_in_both_forms():
    from purerl import sweep

    assert parsing.parse_space("log_uniform:1e-4,1e-2") == sweep.log_uniform(1e-4, 1e-2)
    assert parsing.parse_space("log_uniform(1e-4, 1e-2, points=5)") == sweep.log_uniform(1e-4, 1e-2, points=5)
    assert parsing.parse_space("integers:1,8") == sweep.integers(1, 8)
    assert parsing.parse_space("choice([16, 32])") == sweep.choice([16, 32])
    assert parsing.parse_space("0.5") == 0.5


# --- Bad usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--env", "CartPole-v0"), "'CartPole-v1'"),
        (("--algorithm", "pppo"), "'ppo'"),
        (("--hparams", "learning_rat=1"), "'learning_rate'"),
        (("--hparams", "discount=2"), "discount = 2 is outside"),
        (("--hparams", "learning_rate=fast"), "learning_rate"),
        (("--hparams", "learning_rate"), "not of the form name=value"),
        (("--hparams", "discount=0.9", "discount=0.8"), "discount is given twice"),
        (("--hparams", "discount=0.9", "--hparams", "learning_rate=1e-3"), "--hparams is given more than once"),
        (("--agent", "num_minibatches=3"), "num_minibatches = 3 does not divide"),
        (("--agent", "num_epoch=3"), "num_epoch"),
        (("--network", "activation=tan"), "activation"),
        (("--num-steps", "3"), "--num-steps 3 is less than the steps of one update"),
        (("--env-settings", "gravty=1"), "'gravity'"),
    ],
)
def test_bad_settings_end_in_one_line_and_leave_nothing(tmp_path, capsys, argv, message):
    assert message in fails(capsys, "train", "--runs-dir", tmp_path, "--num-envs", 2, "--rollout-length", 8, *argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [("--num-steps", "abc"), ("--num-steps", "0"), ("--seed", "-1"), ("--keep", "1.5")])
def test_values_that_cannot_be_read_name_the_option(capsys, argv):
    with pytest.raises(SystemExit) as error:
        purerl("train", *argv)
    assert error.value.code == 2
    assert argv[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "number"),
    [("500000", 500_000), ("500_000", 500_000), ("500k", 500_000), ("5e5", 500_000), ("1.5M", 1_500_000)],
)
def test_counts_are_read_as_people_write_them(text, number):
    assert parse_count(text) == number


# --- Console ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_sets_a_flag_and_the_second_interrupts(number):
    outside = signal.signal(number, signal.default_int_handler)  # under nohup SIGHUP would be ignored
    try:
        with console.stop_signals() as stopped:
            assert not stopped()
            signal.raise_signal(number)
            assert stopped()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, outside)


def test_progress_without_a_terminal_is_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(console, "_PLAIN_SECONDS", 0.0)
    with console.progress(100) as show:
        show(0, "")
        show(50, "return 3")
        show(100, "return 4")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["50", "of", "100", "steps"]
    assert lines[-1].endswith("return 4")
    assert "\x1b" not in "".join(lines)


def test_no_rate_of_the_first_moments_is_printed(capsys):
    with console.progress(100) as show:
        for done in (0, 1, 100):
            show(done, "")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[:4] == ["100", "of", "100", "steps"]


@pytest.mark.parametrize(("columns", "text"), [("120", "100 of 100 steps"), ("80", "100%")])
def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys, columns, text):
    monkeypatch.setenv("COLUMNS", columns)
    patches = (
        mock.patch.object(console, "console", _terminal),
        mock.patch.object(sys.stdout, "isatty", return_value=True),
    )
    with patches[0], patches[1], console.progress(100) as show:
        show(0, "")
        show(100, "return 4")
    assert text in said(capsys)


def _terminal():
    from rich.console import Console

    return Console(force_terminal=True, width=120)


def test_envs_lists_every_environment_and_shows_the_settings_of_one(capsys):
    purerl("envs", "CartPole-v1")
    out = capsys.readouterr().out
    assert "--num-steps" in out
    assert "--hparams learning_rate" in out


def test_a_report_is_about_a_search_that_has_ended(run_dirs, tmp_path, capsys):
    assert "purerl sweep" in fails(capsys, "report", run_dirs / "straight")
    assert "is not the name of a run" in fails(capsys, "report", tmp_path / "none")
    (tmp_path / "begun").mkdir()
    runs.write_config(tmp_path / "begun", runs.read_config(run_dirs / "straight") | {"command": "sweep"})
    assert "purerl sweep --resume" in fails(capsys, "report", tmp_path / "begun")


# --- The command itself -----------------------------------------------------------------------------------------------


def test_the_console_script_answers_without_loading_jax():
    script = Path(sys.executable).with_name("purerl")
    help_text = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(name in help_text for name in ("train", "sweep", "evaluate", "report", "envs"))
    code = "import sys\nfrom purerl import cli\ntry: cli.main(['train', '--help'])\nfinally: print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout
    assert "--num-steps" in loaded
    assert not {"jax", "numpy", "matplotlib", "flax"} & set(loaded.split()[-2000:])


def test_the_compile_cache_is_kept_apart_by_machine_and_can_be_switched_off(tmp_path, monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE", "PURERL_COMPILE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with mock.patch.dict(os.environ):
        runtime.use_compile_cache("")
        assert Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) == tmp_path / "purerl" / "xla" / runtime.machine()
    with mock.patch.dict(os.environ, {"PURERL_COMPILE_CACHE": "/somewhere"}):
        runtime.use_compile_cache("")
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == f"/somewhere/{runtime.machine()}"
    with mock.patch.dict(os.environ):
        runtime.use_compile_cache("off")
        assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"
        assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    with mock.patch.object(os, "sched_getaffinity", return_value={0}, create=True):
        one_core = runtime.machine()
    with mock.patch.object(os, "sched_getaffinity", return_value={0, 1}, create=True):
        assert runtime.machine() != one_core


def test_steps_that_are_no_whole_updates_are_said_to_be_rounded(tmp_path, capsys):
    purerl("train", "--runs-dir", tmp_path, "--num-steps", 24, *TINY)
    out = said(capsys)
    assert "1 update of 2 environments" in out
    assert "24 steps are rounded down to whole updates of 16: 16 steps." in out
