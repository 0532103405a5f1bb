"""`purerl.load`, `purerl watch` and `purerl export` on runs that `purerl train` has saved."""

import json

import jax
import numpy as np
import pytest
from commanding import TINY, fails, purerl, said
from jax import export as jax_export

import purerl as library
from purerl import export, runs

SMALL = ("--num-steps", 32, "--num-envs", 2, "--rollout-length", 8, "--network", "hidden=4,4", "--eval-episodes", 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    purerl("train", "--name", "first", "--runs-dir", root, "--num-steps", 16, *TINY)
    purerl("train", "--name", "real", "--env", "Pendulum-v1", "--runs-dir", root, *SMALL)
    return root


def test_a_loaded_policy_acts_within_bounds_as_it_was_trained(root):
    policy = library.load(root / "real")
    obs, _ = policy.env.reset(jax.random.key(0))
    far = jax.tree.map(lambda x: 1e6 * x, obs)
    learned, _ = policy.agent.act(None, policy.state, obs)
    np.testing.assert_allclose(policy.act(obs), np.clip(learned, -2, 2), rtol=1e-6)
    assert abs(policy.act(far, key=jax.random.key(1))).max() <= 2


@pytest.mark.parametrize("name", ["first", "real"])
def test_a_stablehlo_program_acts_as_the_policy_in_batches_of_any_size(root, tmp_path, name):
    pytest.importorskip("flatbuffers")
    policy = library.load(root / name)
    found = export.stablehlo(policy, tmp_path / "policy.stablehlo")
    assert found.same == found.total >= 64
    call = jax_export.deserialize(bytearray((tmp_path / "policy.stablehlo").read_bytes())).call
    signature = export.signature(policy)
    obs, _ = policy.env.reset(jax.random.key(0))
    (action,) = call(np.broadcast_to(obs, (3, *obs.shape)))
    expected = policy.act(obs)
    np.testing.assert_allclose(action, np.broadcast_to(expected, (3, *np.shape(expected))), rtol=1e-5, atol=1e-6)
    assert (signature.inputs, signature.outputs) == (("obs",), ("action",))


def test_a_folder_for_the_hub_is_a_policy_with_a_card(root, tmp_path):
    policy = library.load(root / "first")
    folder = export.folder(policy, tmp_path / "hub", "me/first")
    again = library.load(folder)
    jax.tree.map(np.testing.assert_array_equal, again.state.params, policy.state.params)
    card = (folder / "README.md").read_text()
    header = dict(line.split(": ", 1) for line in card.split("---")[1].strip().splitlines())
    [result] = json.loads(header["model-index"])[0]["results"]
    assert result["dataset"]["name"] == "CartPole-v1"
    returns = np.array(policy.details["returns"])
    assert result["metrics"][0]["value"] == f"{returns.mean():.2f} +/- {returns.std():.2f}"
    assert 'purerl.load("hf://me/first")' in card
    with pytest.raises(runs.RunError, match="already exists"):
        export.folder(policy, folder)


def test_the_commands_write_where_they_say(root, tmp_path, capsys):
    purerl("watch", root / "first", "--max-steps", 3)
    purerl("export", root / "first", "--formats", "hub", "--output", tmp_path)
    text = said(capsys)
    assert "replay.gif: 4 frames" in text
    assert "load it with purerl.load(" in text
    assert (root / "first" / "replay.gif").read_bytes()[:6] == b"GIF89a"
    assert (tmp_path / "hub" / "replay.gif").is_file()


def test_the_command_says_that_a_program_acts_as_the_policy(root, capsys):
    pytest.importorskip("flatbuffers")
    purerl("export", root / "first")
    assert "policy.stablehlo: the same action on 64 of 64 observations" in said(capsys)


def test_the_terminal_shows_an_episode(root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    purerl("watch", root / "first", "--live", "--max-steps", 2, "--fps", 1000)
    blocks = capsys.readouterr().out.count("▀")
    assert blocks > 0
    assert blocks % 40 == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("watch",), "name a run: purerl watch RUN"),
        (("watch", "first", "--output", "x.avi"), "must end with .gif, .mp4 or .html"),
        (("watch", "first", "--output", "x.html"), "CartPole-v1 has no page for a browser"),
        (("export", "first", "--formats", "pickle"), "'pickle' is not one of stablehlo"),
        (("export", "first", "--push", "me/first"), "--push uploads the folder of --formats hub"),
        (("export", "nothing"), "is not the name of a run"),
    ],
)
def test_what_cannot_be_watched_or_exported_says_why(root, capsys, argv, message):
    assert message in fails(capsys, *argv, "--runs-dir", root)
