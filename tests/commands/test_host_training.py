"""`purerl train`, `evaluate` and `sweep` with an environment on the host."""

import gymnasium
import numpy as np
import pytest
from commanding import fails, purerl, said
from gymnasium.envs.registration import EnvSpec
from PIL import Image, ImageSequence

from purerl import envs, runs

SMALL = "--num-envs 2 --rollout-length 8 --agent num_epochs=1 num_minibatches=1 --network hidden=4 --eval-episodes 2"


def test_a_run_on_the_host_is_saved_resumed_and_played(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    purerl(*f"train --env gymnasium/CartPole-v1 --name here --num-steps 64 {SMALL}".split())
    policy = runs.load_policy("here")
    assert policy.env.num_envs == 2
    purerl(*["train", "--resume", "here", "--num-steps", "96", "--eval-episodes", "2"])
    rows = np.genfromtxt("runs/here/metrics.csv", delimiter=",", names=True)
    assert rows["step"].tolist() == [16, 32, 48, 64, 80, 96]
    purerl(*["evaluate", "here", "--num-episodes", "3"])
    assert "3 greedy episodes" in capsys.readouterr().out


class Lamp(gymnasium.Env):
    """It grows brighter in every step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    observation_space, action_space = gymnasium.spaces.Box(0, 99, (1,)), gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode, self.time = render_mode, 0

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(1, self.time, np.float32), 1.0, False, False, {}

    def render(self):
        if self.time > 2:
            raise gymnasium.error.DependencyNotInstalled("pygame is not installed")
        return np.full((40, 400, 3), 60 * self.time, np.uint8)


def test_a_run_on_the_host_is_watched_as_its_library_draws_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(gymnasium.registry, "Lamp-v0", EnvSpec("Lamp-v0", Lamp, max_episode_steps=5))
    purerl(*f"train --env gymnasium/Lamp-v0 --name lamp --num-steps 16 {SMALL}".split())
    purerl("watch", "lamp", "--max-steps", "3", "--output", "lamp.gif")
    assert "lamp.gif: 3 frames" in said(capsys)
    film = Image.open("lamp.gif")
    brightness = [np.asarray(frame.convert("L"))[-1, 200] for frame in ImageSequence.Iterator(film)]
    assert np.allclose(brightness[:3], [0, 60, 120], atol=6)
    assert "gymnasium/Lamp-v0 cannot be drawn: pygame is not installed" in fails(capsys, "watch", "lamp")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sweep --env gymnasium/CartPole-v1", "runs on the host; train one agent at a time with purerl train"),
        ("train --env gymnasium/CartPole-v1 --num-seeds 2", "--num-seeds must be 1"),
        ("train --env gymnasium/CartPole-v1 --algorithm alphazero", "plans with the environment"),
        ("train --env gymnasium/CartPole-v7", "CartPole"),
        ("envs brx/", "unknown family of environments 'brx'; did you mean 'brax'"),
    ],
)
def test_a_mistake_on_the_host_is_one_line(capsys, tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *command.split())


def test_libraries_are_listed_with_what_installs_them(capsys, monkeypatch):
    monkeypatch.setattr(envs, "IDS", ())
    monkeypatch.setattr(envs.families, "is_installed", lambda found: found.module == "brax")
    monkeypatch.setenv("COLUMNS", "160")
    purerl("envs")
    text = said(capsys)
    assert "pip install 'purerl[ale]'" in text
    assert "brax/ant installed" in text
