"""ONNX, safetensors, MP4 and the Hub: files that other programs read."""

import sys
import types

import jax
import numpy as np
import pytest
from commanding import purerl

import purerl as library
from purerl import export, films

pytestmark = pytest.mark.slow
TINY = ("--num-envs", 2, "--rollout-length", 8, "--eval-episodes", 2, "--num-steps", 64)
RUNS = {
    "ppo": ("--env", "CartPole-v1", *TINY),
    "pendulum": ("--env", "Pendulum-v1", *TINY),
    "breakout": ("--env", "Breakout-MinAtar", *TINY),
    "dqn": ("--env", "CartPole-v1", "--algorithm", "dqn", "--eval-episodes", 2, "--num-steps", 2000),
    "sac": ("--env", "Pendulum-v1", "--algorithm", "sac", "--eval-episodes", 2, "--num-steps", 512),
    "memory": ("--env", "CartPole-v1", "--algorithm", "recurrent_ppo", *TINY, "--agent", "num_minibatches=2"),
    "lake": ("--env", "FrozenLake-misc", *TINY),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for name, argv in RUNS.items():
        purerl("train", "--name", name, "--runs-dir", root, *argv)
    return root


@pytest.mark.parametrize("name", list(RUNS))
def test_onnx_acts_as_the_policy(root, tmp_path, name):
    pytest.importorskip("jax2onnx")
    found = export.onnx(library.load(root / name), tmp_path / "policy.onnx")
    assert found.same == found.total >= 64


@pytest.mark.parametrize("name", list(RUNS))
def test_stablehlo_acts_as_the_policy(root, tmp_path, name):
    found = export.stablehlo(library.load(root / name), tmp_path / "policy.stablehlo")
    assert found.same == found.total >= 64


def test_safetensors_hold_the_state_bit_for_bit(root, tmp_path):
    pytest.importorskip("safetensors")
    state = library.load(root / "pendulum").state
    export.safetensors(state, tmp_path / "policy.safetensors")
    zeros = jax.tree.map(np.zeros_like, state)
    read = export.read_safetensors(tmp_path / "policy.safetensors", zeros)
    jax.tree.map(np.testing.assert_array_equal, read, state)


def test_the_hub_is_asked_for_what_was_named(root, tmp_path, monkeypatch):
    """The network is replaced: the folder is the one that would be downloaded."""
    folder = export.folder(library.load(root / "ppo"), tmp_path / "hub")
    asked = []

    class Api:
        def create_repo(self, name, exist_ok):
            asked.append((name, exist_ok))

        def upload_folder(self, repo_id, folder_path):
            return f"https://hub/{repo_id}"

    hub = types.ModuleType("huggingface_hub")
    hub.__spec__ = types.SimpleNamespace(name="huggingface_hub")
    hub.snapshot_download = lambda name: asked.append(name) or str(folder)
    hub.HfApi = Api
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert library.load("hf://me/ppo").task.env == "CartPole-v1"
    assert export.push(folder, "me/ppo") == "https://hub/me/ppo"
    assert asked == ["me/ppo", ("me/ppo", True)]


def test_an_mp4_is_written(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = films.save([np.full((21, 33, 3), 10 * i, np.uint8) for i in range(5)], tmp_path / "film.mp4", fps=5)
    assert path.read_bytes()[4:8] == b"ftyp"
