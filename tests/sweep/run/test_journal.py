"""The journal of a search, what it makes sure of, and what resuming compares."""

import os

import jax
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env

from purerl import sweep
from purerl.checkpoint import CheckpointError
from purerl.sweep.results import comparison, importance
from purerl.sweep.results.ranking import num_tied
from purerl.sweep.run import journal, memory, plan, rungs, training
from purerl.sweep.run.monitor import Monitor
from purerl.sweep.run.programs import Program, Updates
from purerl.sweep.trials import draws

ENV, AGENT = make_env(), make_agent()
SIZES = {"num_updates": 4, "num_envs": 2, "rollout_length": 4, "eval_episodes": 2, "eval_max_steps": 4, "num_seeds": 1}


def names(directory):
    return [event["name"] for event in journal.read(directory)]


def test_an_event_is_on_the_disk_before_the_search_goes_on(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    with journal.opened(tmp_path, resume=False) as log:
        for number in range(3):
            log.add("block", str(number))
            assert flushed[-1] == (tmp_path / "journal").stat().st_size
    assert len(flushed) == 3


def test_a_torn_line_is_cut_off_so_that_what_follows_can_be_read(tmp_path):
    with journal.opened(tmp_path, resume=False) as log:
        log.add("block", "a")
        log.add("block", "torn")
    path = tmp_path / "journal"
    path.write_bytes(path.read_bytes()[:-20])
    with journal.opened(tmp_path, resume=True) as log:
        assert log.find("block", "torn") is None
        log.add("block", "b")
    assert names(tmp_path) == ["a", "b"]


def test_the_last_event_of_a_name_counts(tmp_path):
    with journal.opened(tmp_path, resume=False) as log:
        log.add("width", "a", width=8)
        log.add("width", "a", width=4)
    with journal.opened(tmp_path, resume=True) as log:
        assert log.find("width", "a")["width"] == 4
        assert list(log.all("width")) == ["a"]


def test_a_directory_without_a_search_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="holds no search"):
        journal.read(tmp_path)


def test_a_search_is_not_resumed_with_other_trials_of_the_same_number(tmp_path):
    space = {"target": sweep.uniform(0.0, 1.0)}
    sweep.search(jax.random.key(0), AGENT, ENV, Hparams(), space, num_trials=2, directory=tmp_path, **SIZES)
    for key, other, name in ((0, {"target": sweep.uniform(0.0, 0.9)}, "hyperparameter target"), (1, space, "key")):
        options = {"num_trials": 2, "directory": tmp_path, "resume": True}
        with pytest.raises(ValueError, match=f"begun with another {name}"):
            sweep.search(jax.random.key(key), AGENT, ENV, Hparams(), other, **options, **SIZES)


def test_the_monitor_counts_the_time_of_earlier_processes():
    monitor = Monitor(None, 100)
    monitor.skip(40, 1000.0)
    monitor.skip(20, 900.0)
    assert 1000.0 <= monitor.seconds() < 1010.0
    assert monitor.steps == 60
    assert monitor.steps_per_second() == 0.06


# --- Plans and draws --------------------------------------------------------------------------------------------------


def program(num_envs):
    return Program(AGENT, ENV, num_envs, 8, None, 2, 4)


def test_groups_with_larger_updates_make_fewer_of_them():
    made = plan.make(rungs.full(4, 64), [program(4), program(16)], 32, 4, 4)
    assert made.scales == (1.0, 0.25)
    stage = made.stage(0, 0)
    assert [sum(chunks) for chunks in stage.chunks] == [64, 16]


def test_brackets_are_cut_to_the_trials_there_are():
    bracket = (rungs.Rung(8, 2), rungs.Rung(4, 4))
    made = plan.make((bracket, bracket), [program(4)], 32, 11, 4)
    assert [[tuple(rung) for rung in each] for each in made.brackets] == [[(8, 2), (4, 4)], [(3, 2), (3, 4)]]


def test_sobol_points_are_scrambled_and_differ_between_names():
    spaces = {name: sweep.uniform(0, 1) for name in "abc"}
    one, two = (draws.columns(jax.random.key(seed), spaces, 64, "sobol") for seed in (0, 1))
    table = np.stack(list(one.values()))
    assert table.shape == (3, 64)
    assert not np.allclose(one["a"], two["a"])
    assert np.abs(64 * table - np.round(64 * table)).max() > 0.1  # off the grid of the plain sequence
    assert np.abs(np.corrcoef(table) - np.eye(3)).max() < 0.3
    assert all(sorted((64 * column).astype(int).tolist()) == list(range(64)) for column in table)


# --- Memory -----------------------------------------------------------------------------------------------------------


class Compiled:
    """A program with 10 bytes of arguments, 7 of results, 5 of temporary memory, and 3 that results share."""

    def memory_analysis(self):
        sizes = {"argument": 10, "output": 7, "temp": 5, "alias": 3}
        return type("Account", (), {f"{name}_size_in_bytes": size for name, size in sizes.items()})


def test_memory_that_is_shared_counts_once():
    assert memory.of_compiled(Compiled()) == 19


def test_the_widest_block_stays_within_its_limit():
    measured = []

    def measure(width):
        measured.append(width)
        return 20.0 + 10.0 * width

    assert memory.widest(64, 1, 505.0, measure) == (48, 500.0)
    assert memory.widest(64, 8, 505.0, measure)[0] == 48
    assert memory.widest(4, 1, 505.0, measure) == (4, 60.0)
    with pytest.raises(MemoryError, match="fewer environments"):
        memory.widest(64, 8, 60.0, measure)


def test_the_widest_block_is_a_multiple_of_the_devices():
    assert memory.widest(10, 4, 1e9, float) == (8, 8.0)


def test_a_container_has_no_more_memory_than_its_limit(monkeypatch):
    monkeypatch.setattr(memory, "_container_limit", lambda: 1000.0)
    assert memory._free_host_memory() == 1000.0


def test_free_memory_of_the_host_is_shared_by_its_devices(monkeypatch):
    monkeypatch.setattr(memory, "_free_host_memory", lambda: 1000.0)
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    assert memory.device_limit() == pytest.approx(200.0)
    assert memory.device_limit(77.0) == 77.0


# --- Comparisons ------------------------------------------------------------------------------------------------------


def test_trials_are_compared_after_the_training_that_most_of_them_had():
    after = np.array([[2, 2, 2, 4, 4], [4, 0, 4, 0, 8]])
    returns = np.arange(10.0).reshape(2, 5, 1, 1)
    found = comparison.comparable(after, returns, 10)
    assert found.trials.tolist() == [0, 2, 3, 4]
    assert found.returns.reshape(-1).tolist() == [5, 7, 3, 4]
    assert found.steps == 40


def test_brackets_take_the_trials_in_turn():
    after = comparison.evaluated_after([[(2, 4), (1, 16)], [(1, 16)]], np.array([16, 4, 16]), 2)
    assert after.tolist() == [[4, 4, 16], [16, 0, 0]]


def test_the_middle_of_the_seeds_is_compared_and_not_their_mean():
    found = comparison.comparable(np.array([[2]]), np.array([0.0, 1, 1, 9]).reshape(1, 1, 4, 1), 1)
    assert found.iqm.tolist() == [1.0]


def test_trials_that_diverged_do_not_tie():
    assert num_tied(np.array([np.nan, np.nan, 1.0]), np.array([4, 4, 4])).tolist() == [1, 1, 1]
    assert num_tied(np.array([1.0, 1.0]), np.array([4, 8])).tolist() == [1, 1]


def test_categories_lie_in_the_middle_of_equal_parts():
    made = importance._encode(np.array(["a", "b", "b", "c"], object), None)
    np.testing.assert_allclose(made, [1 / 6, 3 / 6, 3 / 6, 5 / 6])


def test_a_point_of_a_curve_is_the_mean_over_the_episodes_of_its_updates():
    updates = Updates(np.array([[1.0, np.nan, 4.0], [np.nan] * 3]), np.array([[2, 0, 1], [0, 0, 0]]), np.zeros((2, 3)))
    np.testing.assert_array_equal(training.mean_of(updates), np.float32([2.0, np.nan]))
