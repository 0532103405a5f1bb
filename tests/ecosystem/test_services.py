"""Loggers of others, offline: what they hold is what was written, under the names of Stable-Baselines3."""

import json
import time

import pytest

from purerl import logging

pytestmark = pytest.mark.slow
ROW = {"episode_return": 20.5, "loss/value": float("nan"), "loss/approx_kl": 0.25}
CONFIG = {"env": "CartPole-v1", "hparams": {"discount": 0.99}}


def records(data):
    """Records of a small file of W&B: a header of 7 bytes; then for each a checksum (4), a length (2), a type (1)."""
    offset, end = 7, min(len(data), 32_768)
    while offset + 7 < end:
        length = int.from_bytes(data[offset + 4 : offset + 6], "little")
        yield data[offset + 7 : offset + 7 + length]
        offset += 7 + length


def written(path, kind):
    """The records of a file once its service, a process of its own, has written the last one."""
    for _ in range(100):
        found = [kind.FromString(data) for data in records(path.read_bytes())]
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def test_wandb_offline_holds_names_numbers_and_settings(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    writers = [
        logging.wandb_writer(tmp_path / f"seed_{i}", name=f"seed{i}", group="run", config=CONFIG) for i in range(2)
    ]
    for writer in writers:
        writer.write(64, ROW)
        writer.close()
    for i in range(2):
        [path] = (tmp_path / f"seed_{i}").glob("wandb/offline-run-*/run-*.wandb")
        found, settings = {}, {}
        for record in written(path, wandb_internal_pb2.Record):
            found |= {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            settings |= {item.key or item.nested_key[0]: item.value_json for item in record.run.config.update}
        assert json.loads(found["rollout/ep_rew_mean"]) == 20.5
        assert json.loads(found["train/approx_kl"]) == 0.25
        assert "train/value_loss" not in found
        assert json.loads(settings["env"]) == "CartPole-v1"


def test_mlflow_holds_names_numbers_and_settings_and_is_resumed(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    for step, resume in ((64, False), (128, True)):
        writer = logging.mlflow_writer(tmp_path, name="first", config=CONFIG, resume=resume)
        writer.write(step, ROW)
        writer.close()
    client = MlflowClient((tmp_path / "mlruns").resolve().as_uri())
    [run] = client.search_runs([client.get_experiment_by_name("purerl").experiment_id])
    assert run.data.params == {"env": "CartPole-v1", "hparams.discount": "0.99"}
    history = client.get_metric_history(run.info.run_id, "rollout/ep_rew_mean")
    assert [(point.step, point.value) for point in history] == [(64, 20.5), (128, 20.5)]
    assert run.info.status == "FINISHED"
