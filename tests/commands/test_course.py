"""A training run between its start and its end: parts, rows, saving and locks, with a program that only counts."""

import itertools
import time

import numpy as np
import pytest
from commanding import fails, rows

from purerl import checkpoint, files, logging, runs
from purerl.commands import console, course, evaluations, guard, training
from purerl.commands import rows as tables
from purerl.commands.options.train import Options
from purerl.loops import LoopState
from purerl.presets import Preset
from purerl.presets.tasks import Task

CHUNK, TOTAL = 20, 200
BEGIN = LoopState((), (), (), None, np.int32(0))


def counting_program(clock, lengths):
    """A program whose state is a count and whose updates take 1/8 s each on a clock of its own."""

    def advance(state, length):
        clock[0] += length / 8
        lengths.append(length)
        counts = state.num_updates + np.arange(CHUNK)
        metrics = {"loss/x": np.sin(counts).astype(np.float32), "episode_return": counts.astype(np.float32)}
        metrics |= {"episode_length": np.ones(CHUNK, np.float32), "num_episodes": np.ones(CHUNK, np.int32)}
        return state._replace(num_updates=state.num_updates + length), metrics

    return training.Program(
        start=lambda: BEGIN,
        begin=lambda num_episodes: BEGIN,
        compile=lambda state, num_episodes: advance,
        evaluate=None,
        diverged=lambda state: np.bool_(False),
        chunk=CHUNK,
    )


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(course.time, "monotonic", lambda: now[0])
    return now


def begin(directory, clock, lengths=None, found=None, callbacks=()):
    details, state = ({}, BEGIN) if found is None else (found.metadata, found.restore(BEGIN))
    config = training.Config(
        Task("CartPole-v1", {}, Preset("ppo", num_envs=1, rollout_length=1, num_steps=TOTAL)), 1, 0
    )
    program = counting_program(clock, [] if lengths is None else lengths)
    run = course.Course(directory, Options(checkpoint_seconds=1.5), config, program, callbacks, state, details)
    run.begin([logging.csv_writer(directory / "metrics.csv", resume_at=run.logged)])
    return run


def go_on(run, parts=10**9):
    for _ in itertools.takewhile(lambda _: not run.is_over, range(parts)):
        run.advance(lambda *_: None)
    run.save()
    return run


def table(directory):
    return [row | {"seconds": None, "steps_per_second": None} for row in rows(directory / "metrics.csv")]


@pytest.fixture
def straight(tmp_path, clock):
    (tmp_path / "straight").mkdir()
    go_on(begin(tmp_path / "straight", clock))
    return table(tmp_path / "straight")


def test_parts_of_half_a_second_make_rows_of_one_length(tmp_path, clock):
    lengths = []
    go_on(begin(tmp_path, clock, lengths))
    assert lengths == [1, *[4] * 4, 3, *[4] * 45]
    assert [int(row["step"]) for row in rows(tmp_path / "metrics.csv")] == list(range(CHUNK, TOTAL + 1, CHUNK))


def test_checkpoints_are_as_frequent_as_asked_for_within_a_part(tmp_path, clock):
    run, saved = begin(tmp_path, clock), []
    while not run.is_over:
        run.advance(lambda *_: None)
        newest = checkpoint.latest(tmp_path / "checkpoints")
        saved.append((clock[0], int(newest.name) if newest else 0))
    first_seen = [next(time for time, each in saved if each == step) for step in sorted({step for _, step in saved})]
    assert len(first_seen) > 8
    assert max(np.diff(first_seen)) <= 1.5 + 0.5 + 1e-6


@pytest.mark.parametrize("parts", [1, 5, 6, 7, 17])
def test_a_run_stopped_within_a_row_writes_the_same_rows(tmp_path, clock, straight, parts):
    go_on(begin(tmp_path, clock), parts)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("a row that a crash cut sho")
    found = checkpoint.find(tmp_path / "checkpoints")
    assert tables.check_seal(tmp_path / "metrics.csv", found.metadata["metrics"]) == ""
    go_on(begin(tmp_path, clock, found=found))
    assert table(tmp_path) == straight


def test_a_run_that_a_callback_ends_with_an_error_is_saved_and_its_row_written_once(tmp_path, clock, straight, capsys):
    def broken(chunk):
        if chunk.num_updates == 60:
            raise BrokenPipeError

    run = begin(tmp_path, clock, callbacks=[broken])
    with pytest.raises(BrokenPipeError), run.saved_if_it_fails():
        go_on(run)
    assert "Resume with" in capsys.readouterr().err
    found = checkpoint.find(tmp_path / "checkpoints")
    assert found.metadata["num_updates"] == 60
    go_on(begin(tmp_path, clock, found=found))
    assert table(tmp_path) == straight


def test_a_damaged_best_policy_does_not_stop_a_run(tmp_path, capsys):
    assert evaluations.best_return(tmp_path) == -np.inf
    path = checkpoint.save(tmp_path / "best", {}, {"eval_return": 3.0})
    assert evaluations.best_return(tmp_path) == 3.0
    (path / "metadata.json").write_text("{}")
    assert evaluations.best_return(tmp_path) == -np.inf
    assert "metadata.json does not match its SHA-256" in " ".join(capsys.readouterr().out.split())


def test_what_takes_too_long_is_said_once(capsys):
    with console.watchdog("an update", seconds=0.01):
        time.sleep(0.1)
    with console.watchdog("another", seconds=5):
        pass
    text = capsys.readouterr().err
    assert text.startswith("an update has taken more than")
    assert text.count("\n") == 1


def test_skipped_updates_are_counted_per_seed_and_survive_a_checkpoint():
    seen = guard.Guard(2, 1000, {})
    seen.see({"loss/skipped": np.array([[0, 0], [0.5, 0], [1, 0]])}, first=7)
    seen = guard.Guard(2, 1000, seen.to_json())
    assert seen.summary(16).startswith("2 updates of seed 0 had a gradient that was NaN or infinite")
    assert seen.summary(16).endswith("the first after step 128.")
    seen.see({"loss/skipped": np.ones((guard.LIMIT, 2))}, first=10)
    assert seen.is_stuck
    assert "since step 160 every gradient" in seen.problem(10 + guard.LIMIT, 16)
    seen.see({"loss/skipped": np.array([[1, 0]])}, first=110)
    assert not seen.is_stuck, "one seed still learns"


def test_a_damaged_table_is_set_aside_and_a_missing_one_begins_anew(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,2\n")
    seal = tables.seal(path)
    path.write_text("step,a\n1,2\n2,3\n")
    assert tables.check_seal(path, seal) == "", "rows after the checkpoint"
    path.write_text("step,a\n1,3\n2,3\n")
    assert "metrics.csv.damaged" in tables.check_seal(path, seal)
    assert "begins anew" in tables.check_seal(path, seal)
    assert (tmp_path / "metrics.csv.damaged").read_text() == "step,a\n1,3\n2,3\n"


# --- Directories of runs ----------------------------------------------------------------------------------------------

CONFIG = {"command": "train", "num_seeds": 1, "seed": 0, "task": {"env": "CartPole-v1", "env_settings": {}}}


def test_a_run_belongs_to_one_process_at_a_time(tmp_path, capsys):
    directory = runs.create(tmp_path / "first", CONFIG)
    with runs.locked(directory):
        message = fails(capsys, "train", "--resume", directory)
    assert "another process, number" in message
    assert "is working on" in message
    with runs.locked(directory):
        pass


def test_a_flipped_bit_of_the_configuration_is_refused(tmp_path):
    path = runs.create(tmp_path / "first", CONFIG) / "config.json"
    original = path.read_bytes()
    assert runs.read_config(path.parent)["task"] == CONFIG["task"]
    for bit in range(8 * len(original)):
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(bytes(changed))
        with pytest.raises(runs.RunError, match=r"config\.json"):
            runs.read_config(path.parent)


def test_a_configuration_of_another_format_says_so(tmp_path):
    (tmp_path / "config.json").write_text(files.sealed({"format": 7}))
    with pytest.raises(runs.RunError, match="format 7; this version of purerl reads format 1"):
        runs.read_config(tmp_path)


def test_a_configuration_from_before_checksums_is_read(tmp_path):
    runs.write_json(tmp_path / "config.json", CONFIG)
    assert runs.read_config(tmp_path) == CONFIG


def test_a_run_killed_at_its_start_leaves_its_name_free(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    for function in ("mkdir", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(runs.os, function, killed)
            with pytest.raises(KeyboardInterrupt):
                runs.create(tmp_path / "first", CONFIG)
    (tmp_path / "first").mkdir()  # as an older version left it
    assert runs.create_named("first", "", tmp_path, CONFIG) == tmp_path / "first"
    with pytest.raises(runs.RunError, match="continue it with --resume first"):
        runs.check_free(tmp_path / "first")


def test_the_default_name_takes_the_first_free_number(tmp_path):
    made = [runs.create_named(None, "ppo", tmp_path, CONFIG).name for _ in range(3)]
    assert made == ["ppo", "ppo-2", "ppo-3"]
