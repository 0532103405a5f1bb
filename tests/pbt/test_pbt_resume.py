"""A population that was killed resumes, and ends with the same lineage and the same states, bit for bit."""

import json
import shutil
import time

import jax
import numpy as np
import pytest
from bandits import EPISODE, Hparams, make_agent, make_env
from cutting import Cut

from purerl import checkpoint, combinators, pbt, sweep
from purerl.sweep.run import journal

ENV = make_env()
AGENT = combinators.with_replay(make_agent(), capacity=16, batch_size=4)  # so that there is more than a learner to keep
SPACE = {"learning_rate": sweep.log_uniform(0.01, 1.0), "target": sweep.uniform(-1.0, 1.0)}
KEY = jax.random.key(7)
OPTIONS = {
    "population_size": 6, "num_rounds": 5, "updates_per_round": 2, "num_envs": 2, "rollout_length": EPISODE,
    "eval_episodes": 3, "eval_max_steps": EPISODE, "rounds_per_chunk": 1,
}  # fmt: skip


def run(directory, resume=False, **changes):
    return pbt.pbt(KEY, AGENT, ENV, Hparams(), SPACE, **OPTIONS | changes, directory=directory, resume=resume)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def cut_at(number):
    def progress(now):
        if now.round == number:
            raise Cut

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("population") / "whole"
    return run(directory), directory


def assert_same(directory, result, whole):
    assert (directory / "lineage.csv").read_bytes() == (whole[1] / "lineage.csv").read_bytes()
    equal(result.lineage, whole[0].lineage)
    equal(result.states, whole[0].states)


def test_a_directory_changes_nothing_and_holds_the_result(whole):
    result, directory = whole
    alone = run(None)
    equal(alone.lineage, result.lineage)
    equal(alone.states, result.states)
    assert not (directory / "population").exists()
    loaded = pbt.load_pbt(directory, AGENT, ENV, Hparams())
    assert_same(directory, loaded, whole)
    assert loaded.settings == result.settings
    assert loaded.space == SPACE
    assert loaded.seconds == result.seconds
    equal(loaded.steps, result.steps)
    without = pbt.load_pbt(directory)
    assert without.states is None
    assert without.rows() == result.rows()
    content = json.loads((directory / "pbt.json").read_text())
    assert content["rows"] == result.rows()
    assert content["best"]["ancestry"] == result.ancestry().tolist()
    assert np.float32(content["best"]["schedule"]["learning_rate"]).tolist() == result.schedule().learning_rate.tolist()
    assert content["settings"]["jax"] == jax.__version__


def test_a_table_of_a_population_that_was_changed_is_named(whole, tmp_path):
    result, directory = whole
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "lineage.csv").write_text((copy / "lineage.csv").read_text().replace("1", "2", 1))
    with pytest.warns(UserWarning, match="lineage.csv does not match"):
        assert pbt.load_pbt(copy).rows() == result.rows()


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_run_interrupted_after_any_round_ends_the_same(whole, tmp_path, number):
    with pytest.raises(Cut):
        run(tmp_path, progress=cut_at(number))
    with pytest.raises(FileExistsError, match="resume=True"):
        run(tmp_path)
    rounds = []
    result = run(tmp_path, resume=True, progress=lambda now: rounds.append(now.round))
    assert rounds == [*range(number + 1, 6)]
    assert_same(tmp_path, result, whole)


@pytest.mark.parametrize("step", ["_write", "_publish", "_flush"])
def test_a_run_interrupted_while_saving_resumes_from_the_checkpoint_before(whole, tmp_path, monkeypatch, step):
    original, calls = getattr(checkpoint.directory, step), []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise Cut
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.directory, step, dying)
        patch.setattr(checkpoint.directory.shutil, "rmtree", lambda *_, **__: None)  # a dead process deletes nothing
        with pytest.raises(Cut):
            run(tmp_path)
    assert checkpoint.steps(tmp_path / "population")
    assert_same(tmp_path, run(tmp_path, resume=True), whole)
    assert not [path for path in tmp_path.rglob("*incomplete*") if path.is_dir()]


def test_the_result_of_a_finished_run_is_loaded(whole):
    _, directory = whole
    silent = []
    again = run(directory, resume=True, progress=silent.append)
    assert not silent
    assert_same(directory, again, whole)


def test_a_damaged_checkpoint_changes_nothing_while_the_one_before_is_whole(whole, tmp_path):
    with pytest.raises(Cut):
        run(tmp_path / "one", progress=cut_at(2))
    _damage(tmp_path / "one", 2)
    shutil.copytree(tmp_path / "one", tmp_path / "both")
    _damage(tmp_path / "both", 1)
    assert_same(tmp_path / "one", run(tmp_path / "one", resume=True), whole)
    with pytest.raises(checkpoint.CheckpointError, match=r"no checkpoint in .* can be used"):
        run(tmp_path / "both", resume=True)


def _damage(directory, number):
    manifest = directory / "population" / f"{number:012d}" / "SHA256SUMS"
    content = bytearray(manifest.read_bytes())
    content[3] ^= 1
    manifest.write_bytes(content)


def test_other_arguments_programs_and_a_second_process_are_rejected(tmp_path):
    with pytest.raises(Cut):
        run(tmp_path, progress=cut_at(1))
    for change, message in [
        ({"num_rounds": 6}, "num_rounds = 5, not 6"),
        ({"perturb_factors": (0.5,)}, "factors = "),
        ({"lineage": run(None, num_rounds=5).lineage}, "another part of the lineage"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(tmp_path, resume=True, **change)
    doubled = make_agent()._replace(act=lambda key, state, obs: (2 * state.theta, ()))
    doubled = combinators.with_replay(doubled, capacity=16, batch_size=4)
    with pytest.raises(ValueError, match="another program"):
        pbt.pbt(KEY, doubled, ENV, Hparams(), SPACE, **OPTIONS, directory=tmp_path, resume=True)
    with journal.opened(tmp_path, resume=True), pytest.raises(BlockingIOError, match="another process"):
        run(tmp_path, resume=True)
    with pytest.raises(FileNotFoundError, match="no search"):
        run(tmp_path / "none", resume=True)


def test_the_time_of_earlier_processes_counts(tmp_path):
    def slow(now):
        time.sleep(0.1)
        cut_at(3)(now)

    with pytest.raises(Cut):
        run(tmp_path, progress=slow)
    before = checkpoint.read_metadata(checkpoint.latest(tmp_path / "population"))["seconds"]
    assert before > 0.2
    assert run(tmp_path, resume=True).seconds > before
