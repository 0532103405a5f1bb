"""Writers of metrics: what is on disk is what was written, also after an interruption."""

import csv
import json
import math
import sys

import numpy as np
import pytest

from purerl import logging


def rows(path):
    return list(csv.DictReader(path.open()))


def test_csv_has_a_row_a_write_and_empty_cells_for_nan(tmp_path):
    path = tmp_path / "deep" / "metrics.csv"
    writer = logging.csv_writer(path)
    writer.write(128, {"episode_return": float("nan"), "loss/value": np.float32(0.1), "num_episodes": 0})
    writer.write(256, {"loss/value": 2.0, "episode_return": 1 / 3})
    writer.close()
    first, second = rows(path)
    assert first == {
        "step": "128",
        "episode_return": "",
        "loss/value": repr(float(np.float32(0.1))),
        "num_episodes": "0",
    }
    assert float(second["episode_return"]) == 1 / 3
    assert second["num_episodes"] == ""


def test_csv_refuses_a_metric_that_is_no_column(tmp_path):
    writer = logging.csv_writer(tmp_path / "m.csv")
    writer.write(1, {"a": 1.0})
    with pytest.raises(ValueError, match="'b'"):
        writer.write(2, {"a": 1.0, "b": 2.0})
    writer.close()


@pytest.mark.parametrize("make", [logging.csv_writer, logging.jsonl_writer])
def test_resuming_drops_what_follows_the_checkpoint_and_a_line_cut_short(tmp_path, make):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    writer = make(straight)
    for step in (1, 2, 3, 4):
        writer.write(step, {"x": step / 3, "name": "run"})
    writer.close()
    writer = make(resumed)
    for step in (1, 2, 3):
        writer.write(step, {"x": step / 3 if step < 3 else -1.0, "name": "run"})
    writer.close()
    with resumed.open("a") as file:
        file.write('{"st' if make is logging.jsonl_writer else "4")
    writer = make(resumed, resume_at=2)
    for step in (3, 4):
        writer.write(step, {"x": step / 3, "name": "run"})
    writer.close()
    assert resumed.read_text() == straight.read_text()


@pytest.mark.parametrize(
    ("make", "garbage"),
    [
        (logging.csv_writer, b"step,x\n1,2\n\xff\xfe,3\n2,\n"),
        (logging.jsonl_writer, b'{"step": 1}\n{"step": [\n[1]\n"\xff"\n{"step": 2}\n'),
    ],
)
def test_resuming_keeps_the_rows_that_can_be_read(tmp_path, make, garbage):
    path = tmp_path / "m"
    path.write_bytes(garbage)
    make(path, resume_at=9).close()
    assert len(path.read_text().splitlines()) == (3 if make is logging.csv_writer else 2)


@pytest.mark.parametrize("garbage", [b"\0\0", b"x" * 200_000, b"a,b\n1,2\n"])
def test_a_table_that_is_none_is_set_aside(tmp_path, garbage):
    path = tmp_path / "m.csv"
    path.write_bytes(garbage)
    writer = logging.csv_writer(path, resume_at=9)
    writer.write(10, {"x": 1.0})
    writer.close()
    assert rows(path) == [{"step": "10", "x": "1.0"}]
    assert (tmp_path / "m.csv.damaged").read_bytes() == garbage


def test_resuming_never_leaves_less_than_there_was(tmp_path, monkeypatch):
    path = tmp_path / "m.csv"
    path.write_text("step,x\n1,2\n2,3\n")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(logging.files.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            logging.csv_writer(path, resume_at=1)
    assert path.read_text() == "step,x\n1,2\n2,3\n"


def test_resuming_without_a_file_starts_one(tmp_path):
    for make in (logging.csv_writer, logging.jsonl_writer):
        writer = make(tmp_path / make.__name__, resume_at=10)
        writer.write(11, {"x": 1.0})
        writer.close()
        assert "11" in (tmp_path / make.__name__).read_text()


def test_jsonl_is_strict_json(tmp_path):
    writer = logging.jsonl_writer(tmp_path / "m.jsonl")
    writer.write(np.int64(5), {"a": math.nan, "b": math.inf, "c": np.float32(0.5), "d": 3})
    writer.close()
    text = (tmp_path / "m.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 5, "a": None, "b": None, "c": 0.5, "d": 3}


def test_tee_writes_and_closes_all():
    seen = []
    parts = [
        logging.Writer(lambda step, m, i=i: seen.append((i, step, dict(m))), lambda i=i: seen.append((i, "closed")))
        for i in range(2)
    ]
    writer = logging.tee(*parts)
    writer.write(3, {"x": 1})
    writer.close()
    assert seen == [(0, 3, {"x": 1}), (1, 3, {"x": 1}), (0, "closed"), (1, "closed")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("episode_return", "rollout/ep_rew_mean"),
        ("episode_length", "rollout/ep_len_mean"),
        ("steps_per_second", "time/fps"),
        ("num_steps", "time/total_timesteps"),
        ("loss/approx_kl", "train/approx_kl"),
        ("loss/clip_fraction", "train/clip_fraction"),
        ("loss/value", "train/value_loss"),
        ("loss/policy", "train/policy_gradient_loss"),
        ("loss/something_new", "train/something_new"),
        ("env/success", "env/success"),
    ],
)
def test_tensorboard_users_find_the_names_they_know(ours, theirs):
    assert logging.tensorboard_name(ours) == theirs


def test_tensorboard_events_hold_the_numbers(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    writer = logging.tensorboard_writer(tmp_path)
    writer.write(64, {"episode_return": 20.5, "loss/value": float("nan"), "name": "run"})
    writer.close()
    (path,) = tmp_path.iterdir()
    found = {}
    data = path.read_bytes()
    while data:  # a record: its length in 8 bytes, a checksum in 4, the event, a checksum in 4
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        found |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        data = data[16 + length :]
    assert found == {"rollout/ep_rew_mean": (64, 20.5)}


def test_without_tensorboardx_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"purerl\[tensorboard\]"):
        logging.tensorboard_writer(tmp_path)
