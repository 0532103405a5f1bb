import json
import multiprocessing
import os
import shutil

import jax
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env
from cutting import Cut, cut_after

from purerl import checkpoint, combinators, loops, sweep
from purerl.spaces import Box
from purerl.sweep.run import fingerprint, journal
from purerl.sweep.run.programs import MemberData, Program

ENV, AGENT = make_env(), make_agent()
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "target": sweep.uniform(-1.0, 1.0)}
SIZES = {"num_updates": 8, "num_envs": 3, "rollout_length": 4, "eval_episodes": 5, "eval_max_steps": 4}
KEY = jax.random.key(5)
OPTIONS = {
    "num_trials": 8, "num_seeds": 2, "num_chunks": 4, "block_size": 6, "keep": 2, "confirm": 1, "confirm_seeds": 2,
    "schedule": sweep.successive_halving(eta=2, num_rungs=2),
}  # fmt: skip


def run(directory, resume=False, **changes):
    return sweep.search(
        KEY, AGENT, ENV, Hparams(), SPACE, **SIZES | OPTIONS | changes, directory=directory, resume=resume
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sweep") / "whole"
    events = []
    result = run(directory, progress=events.append)
    return result, directory, len(events)


def test_a_directory_changes_nothing_and_holds_the_result(whole):
    result, directory, _ = whole
    alone = run(None)
    np.testing.assert_array_equal(result.returns, alone.returns)
    loaded = sweep.load(directory, AGENT, ENV, Hparams())
    assert str(loaded.rows()) == str(result.rows())
    assert not (directory / "blocks").exists()
    for name in ("curves", "returns", "rung_returns", "num_updates", "fresh_returns", "fresh_trials", "kept"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(result, name))


def test_a_search_interrupted_anywhere_resumes_to_the_same_table(whole, tmp_path):
    _, directory, num_events = whole
    table = (directory / "trials.csv").read_bytes()
    for i, number in enumerate(np.linspace(1, num_events - 1, 4).astype(int)):
        path = tmp_path / str(i)
        with pytest.raises(Cut):
            run(path, progress=cut_after(number))
        with pytest.raises(FileExistsError, match="resume=True"):
            run(path)
        again = run(path, resume=True)
        assert (path / "trials.csv").read_bytes() == table
        assert (path / "curves.csv").read_bytes() == (directory / "curves.csv").read_bytes()
        jax.tree.map(np.testing.assert_array_equal, again.states, whole[0].states)


def test_finished_blocks_are_not_run_again(whole, tmp_path):
    with pytest.raises(Cut):
        run(tmp_path / "a", progress=cut_after(14))
    blocks = [
        json.loads(line.split(" ", 1)[1])["name"] for line in (tmp_path / "a" / "journal").read_text().splitlines()
    ]
    done = sum("block" in name for name in blocks)
    assert done >= 2
    events = []
    run(tmp_path / "a", resume=True, progress=events.append)
    total = next(event.total_steps for event in events)
    assert events[-1].steps == total
    trained = {(event.num_blocks, event.block) for event in events if event.phase == "train"}
    assert len(trained) < 6
    silent = []
    run(tmp_path / "a", resume=True, progress=silent.append)
    assert not silent


def test_a_torn_line_is_cut_off_and_a_damaged_one_rejected(whole, tmp_path):
    with pytest.raises(Cut):
        run(tmp_path / "a", progress=cut_after(14))
    path = tmp_path / "a" / "journal"
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    run(tmp_path / "a", resume=True)
    assert (tmp_path / "a" / "trials.csv").read_bytes() == (whole[1] / "trials.csv").read_bytes()
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    with pytest.raises(checkpoint.CheckpointError, match="line 1"):
        run(tmp_path / "a", resume=True)


def test_other_arguments_are_rejected_by_name(tmp_path):
    with pytest.raises(Cut):
        run(tmp_path / "a", progress=cut_after(5))
    for change, message in [
        ({"num_seeds": 1}, "search of 2 seeds, and num_seeds = 1 is less"),
        ({"num_trials": 7}, "search of 8 trials, and num_trials = 7 is less"),
        ({"num_envs": 2}, "num_envs = 3, not 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "a", resume=True, **change)
    with pytest.raises(FileNotFoundError, match="no search"):
        run(tmp_path / "b", resume=True)


def doubled_reward(*args):
    out = ENV.step(*args)
    return out._replace(reward=2 * out.reward)


OTHERS = {
    "a constant of the agent": (
        {"agent": AGENT._replace(act=lambda key, state, obs: (state.theta + 1, ()))},
        "program",
    ),
    "a constant of the environment": ({"env": ENV._replace(step=doubled_reward)}, "program"),
    "a bound of a space": ({"env": ENV._replace(action_space=Box(-9.0, 9.0))}, "action space.*high=10.0.*, not .*9.0"),
    "the agent's state": (
        {"agent": combinators.with_observation_normalization(AGENT)},
        "agent or environment.*instead of",
    ),
    "the rollout": ({"rollout": loops.rollout_episodes}, "program"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sweep") / "begun"
    with pytest.raises(Cut):
        run(directory, progress=cut_after(5))
    return directory


@pytest.mark.parametrize("what", OTHERS)
def test_another_program_is_refused_by_name(begun, what):
    changes, message = OTHERS[what]
    parts = {"agent": AGENT, "env": ENV} | changes
    options = {name: value for name, value in changes.items() if name == "rollout"}
    with pytest.raises(ValueError, match=f"begun was begun with another {message}"):
        sweep.search(
            KEY,
            parts["agent"],
            parts["env"],
            Hparams(),
            SPACE,
            **SIZES | OPTIONS | options,
            directory=begun,
            resume=True,
        )


def test_another_program_is_refused_when_the_search_has_ended_too(whole):
    with pytest.raises(ValueError, match="another program"):
        sweep.search(
            KEY, AGENT, ENV._replace(step=doubled_reward), Hparams(), SPACE, **SIZES | OPTIONS, directory=whole[1],
            resume=True,
        )  # fmt: skip


def test_a_constant_array_is_part_of_the_program():
    def shifted(by):
        table = np.linspace(0, by, 3000, dtype=np.float32)
        agent = AGENT._replace(act=lambda key, state, obs: (state.theta + jax.numpy.asarray(table)[-1500], ()))
        program = Program(agent, ENV, 3, 4, loops.rollout, 5, 4)
        data = MemberData(
            np.zeros((1, 2), np.uint32), jax.tree.map(lambda x: np.array([x], np.float32), Hparams()), None
        )
        return fingerprint.fingerprint(program, data)["program"]

    assert shifted(1.0) == shifted(1.0)
    assert shifted(1.0) != shifted(2.0)


def test_two_processes_do_not_share_a_directory(tmp_path):
    context = multiprocessing.get_context("spawn")
    with journal.opened(tmp_path, resume=False) as log:
        log.add("plan", plan={})
        with pytest.raises(BlockingIOError, match="another process"), journal.opened(tmp_path, resume=True):
            pass
        child = context.Process(target=_open, args=(str(tmp_path),))
        child.start()
        child.join(60)
        assert child.exitcode == 75
    with journal.opened(tmp_path, resume=True) as log:
        assert log.find("plan") is not None


def _open(directory):
    try:
        with journal.opened(directory, resume=True):
            os._exit(0)
    except BlockingIOError:
        os._exit(75)


def test_arrays_survive_the_journal():
    for array in (np.array([[np.nan, -0.0, 1e-40]], np.float32), np.arange(3), np.zeros((0, 2))):
        back = journal.decode(json.loads(json.dumps(journal.encode(array))))
        np.testing.assert_array_equal(back.view(np.uint8), array.view(np.uint8))
        assert back.dtype == array.dtype


@pytest.mark.parametrize("schedule", [OPTIONS["schedule"], sweep.hyperband(eta=2, num_brackets=2), sweep.asha(2, 2)])
def test_a_search_that_a_budget_stopped_anywhere_resumes_to_the_same_result(schedule, tmp_path):
    """A stop keeps on the disk the states of all trials that may still be promoted, not only those of the best."""
    options = {"schedule": schedule, "keep": 1, "confirm": 0, "block_size": 2}
    uncut = run(None, **options)
    for number, part in enumerate((0.2, 0.4, 0.6, 0.8)):
        path = tmp_path / str(number)
        total = uncut.num_updates.sum() * 2 * 12
        assert "stopped" in run(path, max_steps=part * total, **options).settings
        notes = []
        again = run(path, resume=True, progress=lambda progress: notes.append(progress.note), **options)
        assert not [note for note in notes if "missing" in note]
        np.testing.assert_array_equal(again.rung_returns, uncut.rung_returns)
        jax.tree.map(np.testing.assert_array_equal, again.states, uncut.states)


def test_states_of_a_stopped_search_that_are_missing_are_trained_again(tmp_path):
    """Earlier versions deleted states of a stopped search that its next rung needs."""
    options = {"confirm": 0, "block_size": 2}
    uncut, notes = run(None, **options), []
    assert "stopped" in run(tmp_path, max_steps=9 * 2 * 4 * 12, **options).settings
    for block in tmp_path.glob("blocks/bracket0-rung0-*[0-9]"):
        shutil.rmtree(block)
    again = run(tmp_path, resume=True, progress=lambda progress: notes.append(progress.note), **options)
    assert "the states of 8 agents are missing: they are trained again" in notes
    np.testing.assert_array_equal(again.rung_returns, uncut.rung_returns)
    jax.tree.map(np.testing.assert_array_equal, again.states, uncut.states)
