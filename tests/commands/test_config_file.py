import pytest

from purerl.commands import config_file
from purerl.commands.options import UsageError
from purerl.sweep import choice
from purerl.sweep.trials import parsing

SEARCH = """
num_trials = 1024
num_steps = "400k"
stop_clearly_worse = true
resume = false
hparams = ["discount=0.9"]

[space]
learning_rate = "log_uniform:1e-4,1e-2"
env.length = "uniform:0.3,0.8"

[network]
hidden = [64, 64]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "search.toml"
    file.write_text(SEARCH)
    return str(file)


def test_a_file_stands_for_what_would_be_typed(path):
    assert config_file.expand(["--config", path]) == [
        "--num-trials", "1024", "--num-steps", "400k", "--stop-clearly-worse", "--hparams", "discount=0.9",
        "--space", "learning_rate=log_uniform:1e-4,1e-2", "env.length=uniform:0.3,0.8", "--network", "hidden=64,64",
    ]  # fmt: skip
    assert config_file.expand([]) == []


def test_what_is_typed_wins(path):
    typed = ["--num-trials", "8", f"--config={path}", "--seed", "1"]
    expanded = config_file.expand(typed)
    assert expanded[:4] == ["--num-trials", "8", "--seed", "1"]
    assert "1024" not in expanded


def test_a_table_is_merged_with_what_is_typed_name_by_name(path):
    typed = ["--space", "learning_rate=0.1", "discount=0.9", "--config", path, "--seed", "1"]
    expanded = config_file.expand(typed, several={"space", "hparams", "network"})
    assert expanded[:4] == ["--space", "env.length=uniform:0.3,0.8", "learning_rate=0.1", "discount=0.9"]
    assert "log_uniform:1e-4,1e-2" not in " ".join(expanded)
    assert expanded.count("--space") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [("num_trials = ", "not a TOML file"), ("when = 2020-01-01", "when"), (None, "No such file")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, message):
    file = tmp_path / "search.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=message) as error:
        config_file.expand(["--config", str(file)])
    assert "search.toml" in str(error.value)


def test_static_choices_are_read_apart():
    texts = {"learning_rate": "uniform:0,1", "num_envs": "choice:4,16", "network.hidden": "choice:64,64|128"}
    spaces, static = parsing.split_static(parsing.parse_spaces(texts))
    assert list(spaces) == ["learning_rate"]
    assert static == {"num_envs": choice([4, 16]), "network.hidden": choice([(64, 64), (128,)])}
    with pytest.raises(ValueError, match=r"num_envs.*choice"):
        parsing.parse_spaces({"num_envs": "uniform:4,16"})
